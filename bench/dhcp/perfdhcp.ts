/**
 * ISC's perfdhcp (Debian's kea-admin): what it is told and what it says. Each run is bounded in time.
 *
 * Its clients are numbered, and their MACs are the base's octets plus those of the number, each without carry.
 */
import type {Mac} from '../../lib/addresses.ts'
import {SERVER, type Wires} from './wires.ts'

export type Half = {readonly sent: number; readonly received: number; readonly avg_ms: number; readonly max_ms: number}

export type Perf = {
  readonly offers: Half
  readonly acks: Half
  /** For an avalanche: until the last client had its lease, and how often one had to ask again. */
  readonly took_s: number | null
  readonly resent: number
  /** Addresses that it saw given to two clients, and answers that gave none. */
  readonly doubled: number
  readonly rejected: number
  readonly text: string
}

/** Waits for answers this long after the last request. */
const LINGER_US = 1_100_000
const GRACE_S = 8

export type RateRun = {
  readonly rate: number
  readonly clients: number
  readonly seconds: number
  readonly base?: Mac
  /** Only where no client asks twice in a run. */
  readonly checkUnique?: boolean
}

export function runRate(wires: Wires, buffer: string, run: RateRun): Promise<Perf> {
  const {rate, clients, seconds} = run
  const limits = ['-r', String(rate), '-R', String(clients), '-p', String(seconds), '-W', String(LINGER_US)]
  return perfdhcp(wires, buffer, [...limits, ...baseArgs(run.base), ...(run.checkUnique ? ['-u'] : [])], seconds + GRACE_S)
}

/** All clients at once; each asks again until it has a lease. */
export function runAvalanche(wires: Wires, buffer: string, clients: number, base: Mac): Promise<Perf> {
  return perfdhcp(wires, buffer, ['--scenario', 'avalanche', '-R', String(clients), ...baseArgs(base)], 60)
}

export async function isAnswered(wires: Wires, buffer: string): Promise<boolean> {
  const {acks} = await perfdhcp(wires, buffer, ['-r', '5', '-R', '1', '-p', '1', '-W', '300000', ...baseArgs(PROBE)], 4)
  return acks.received > 0
}

const PROBE = '00:0c:ff:ff:ff:01' as Mac

/** The MAC of a numbered client. */
export function clientMac(base: Mac, number: number): Mac {
  const added = [0, 0, (number >>> 24) & 255, (number >>> 16) & 255, (number >>> 8) & 255, number & 255]
  const octets = base.split(':').map((octet, index) => (Number.parseInt(octet, 16) + (added[index] ?? 0)) & 255)
  return octets.map(octet => octet.toString(16).padStart(2, '0')).join(':') as Mac
}

async function perfdhcp(wires: Wires, buffer: string, args: readonly string[], limit_s: number): Promise<Perf> {
  const command = ['timeout', String(limit_s), 'perfdhcp', '-4', '-g', 'single', ...args, SERVER]
  // It ends with 3 when an exchange was not completed, which is a result.
  const {stdout, stderr} = await wires.generate(command, {
    env: {LD_PRELOAD: buffer},
    anyExit: true,
    timeout_ms: (limit_s + GRACE_S) * 1000,
  })
  return readPerf(stdout + stderr)
}

function baseArgs(base: Mac | undefined): string[] {
  return base === undefined ? [] : ['-b', `mac=${base}`]
}

export function readPerf(text: string): Perf {
  const took = /It took (\d+):(\d+):([\d.]+) to provision/.exec(text)
  const [, hours = '0', minutes = '0', seconds = '0'] = took ?? []
  return {
    offers: readHalf(text, 'DISCOVER-OFFER'),
    acks: readHalf(text, 'REQUEST-ACK'),
    took_s: took === null ? null : Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds),
    resent: figure(text, /Requests resent: (\d+)/),
    doubled: figure(text, /non unique addresses: (\d+)/),
    rejected: [...text.matchAll(/rejected leases: (\d+)/g)].reduce((sum, match) => sum + Number(match[1]), 0),
    text,
  }
}

function readHalf(text: string, name: string): Half {
  const at = text.indexOf(`Statistics for: ${name}`)
  const part = at < 0 ? '' : text.slice(at, at + 700)
  return {
    sent: figure(part, /sent packets: (\d+)/),
    received: figure(part, /received packets: (\d+)/),
    avg_ms: figure(part, /avg delay: ([\d.]+)/),
    max_ms: figure(part, /max delay: ([\d.]+)/),
  }
}

function figure(text: string, pattern: RegExp): number {
  return Number(pattern.exec(text)?.[1] ?? 0)
}
