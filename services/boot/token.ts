/**
 * Boot tokens: what a machine shows to say which attempt and stage it acts for. Derived, never stored: HMAC over attempt and stage under
 * a key that every replica reads from the database, so any of them can check one that another gave out. Pure.
 *
 * `a.<fence>.<stage>.<mac>` for an attempt, `w.<window>.<mac digits>.<mac>` for an unknown machine in a window,
 * `s.<fence>.<secret>` for a claimed session, whose secret only the ramdisk and a hash in the database know.
 */
import {createHmac, timingSafeEqual} from 'node:crypto'

export type BootStage = 'inspect' | 'test' | 'clean' | 'install' | 'service' | 'rescue' | 'first_boot'

export type BootToken =
  | {readonly kind: 'attempt'; readonly fence: number; readonly stage: BootStage}
  | {readonly kind: 'window'; readonly windowId: string; readonly mac: string}
  | {readonly kind: 'session'; readonly fence: number; readonly secret: string}

const STAGES: readonly string[] = ['inspect', 'test', 'clean', 'install', 'service', 'rescue', 'first_boot']

export function attemptToken(key: Buffer, fence: number, stage: BootStage): string {
  return `a.${fence}.${stage}.${sign(key, `attempt|${fence}|${stage}`)}`
}

export function windowToken(key: Buffer, windowId: string, mac: string): string {
  const digits = mac.replaceAll(':', '')
  return `w.${windowId}.${digits}.${sign(key, `window|${windowId}|${digits}`)}`
}

export function sessionToken(fence: number, secret: string): string {
  return `s.${fence}.${secret}`
}

/** @returns undefined for anything this key did not sign; a session's secret is checked against the database, not here */
export function parseToken(key: Buffer, text: string): BootToken | undefined {
  const [kind, first = '', second = '', third = '', ...rest] = text.split('.')
  if (rest.length > 0) return undefined
  if (kind === 's')
    return third === '' &&
      /^\d{1,15}$/.test(first) &&
      /^[0-9a-f]{64}$/.test(second) &&
      text === sessionToken(Number(first), second)
      ? {kind: 'session', fence: Number(first), secret: second}
      : undefined
  if (kind === 'a') {
    if (!/^\d{1,15}$/.test(first) || !STAGES.includes(second) || !matches(key, `attempt|${first}|${second}`, third))
      return undefined
    return {kind: 'attempt', fence: Number(first), stage: second as BootStage}
  }
  if (kind === 'w') {
    if (!/^[0-9a-f]{12}$/.test(second) || !matches(key, `window|${first}|${second}`, third)) return undefined
    return {kind: 'window', windowId: first, mac: second.replace(/(..)(?!$)/g, '$1:')}
  }
  return undefined
}

function sign(key: Buffer, text: string): string {
  return createHmac('sha256', key).update(text).digest('base64url')
}

function matches(key: Buffer, text: string, given: string): boolean {
  const wanted = Buffer.from(sign(key, text))
  const got = Buffer.from(given)
  return wanted.length === got.length && timingSafeEqual(wanted, got)
}
