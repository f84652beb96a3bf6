/**
 * The verbs over any driver's connection. Each reads before it acts, so that repeating one is harmless, and reads after it, so that what
 * it returns was seen. A cycle is off, seen off, on: a blind cycle would run twice when its answer is lost, and many BMCs refuse it
 * while the machine is off (IPMI 2.0 §28.3, completion code d5).
 */
import type {Clock} from '../../lib/clock.ts'
import type {PowerConnection, PowerOrder} from './drivers/driver.ts'
import {PowerFault} from './fault.ts'
import type {Guard} from './guard.ts'
import type {Quirk} from './quirks.ts'
import {pause, type Timers} from './timers.ts'

export type Act = {
  readonly connection: PowerConnection
  readonly guard: Guard
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly timers: Timers
  /** How long an effect may take to be seen. */
  readonly confirmMs: number
  /** Pause between off and on: supplies must discharge before a machine counts as started afresh. */
  readonly restMs: number
  /** Told what was seen that another BMC would have done otherwise. */
  readonly learn: (quirk: Quirk, detail: string) => void
}

export type Switched = {readonly state: 'on' | 'off'; readonly changed: boolean}

const POLL_FIRST_MS = 50
const POLL_LONGEST_MS = 1000
/** What most machines take to be seen on or off is far less. */
const SLOW_MS = 5000

export async function switchOn(act: Act): Promise<Switched> {
  return switchTo('on', 'on', act)
}

export async function switchOff(act: Act): Promise<Switched> {
  return switchTo('off', 'off', act)
}

/** Asks the OS to shut down. That it does not, or not yet, is no failure: the state says so. */
export async function askSoftOff(act: Act): Promise<Switched> {
  try {
    return await switchTo('off', 'soft_off', act)
  } catch (error) {
    if (error instanceof PowerFault && error.kind === 'not_seen') return {state: 'on', changed: false}
    throw error
  }
}

export async function cycle(act: Act): Promise<Switched> {
  const {changed} = await switchOff(act)
  if (changed) await pause(act.timers, act.restMs, act.signal)
  act.signal.throwIfAborted()
  return switchOn(act)
}

async function switchTo(wanted: 'on' | 'off', order: PowerOrder, act: Act): Promise<Switched> {
  const {state} = await act.connection.status()
  if (state === wanted) return {state, changed: false}
  const answer = await act.connection.order(order, act.guard)
  await see(wanted, order === 'soft_off', answer, act)
  return {state: wanted, changed: true}
}

async function see(wanted: 'on' | 'off', soft: boolean, answer: 'taken' | 'not_now', act: Act): Promise<void> {
  const begunMs = act.clock.monotonicMs()
  const deadline = begunMs + act.confirmMs
  for (let pauseMs = POLL_FIRST_MS; ; pauseMs = Math.min(pauseMs * 2, POLL_LONGEST_MS)) {
    const {state, faults} = await act.connection.status()
    if (state === wanted) {
      const tookMs = Math.round(act.clock.monotonicMs() - begunMs)
      if (tookMs > SLOW_MS && !soft) act.learn('slow_power', `${wanted} was seen ${tookMs} ms after it was ordered`)
      return
    }
    if (act.clock.monotonicMs() >= deadline) {
      const said = answer === 'taken' ? 'took the order' : 'said that it cannot in its present state'
      const shows = faults.length > 0 ? `, showing ${faults.join(', ')}` : ''
      if (answer === 'taken' && !soft)
        act.learn('order_ignored', `${wanted} was ordered, and ${state} was seen ${act.confirmMs} ms later`)
      throw new PowerFault('not_seen', `the BMC ${said}, but the machine was still ${state} ${act.confirmMs} ms later${shows}`)
    }
    await pause(act.timers, pauseMs, act.signal)
    act.signal.throwIfAborted()
  }
}
