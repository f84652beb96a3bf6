/**
 * Finds the way into a BMC: the best cipher suite that it takes, remembered for the next time; patience where its sessions are all
 * taken; and, where it stays silent, a second look that tells a dead address from a closed port and from a suite that it ignores.
 */
import {type FaultKind, PowerFault} from '../fault.ts'
import {pause, type Timers} from '../timers.ts'
import {type Login, openSession} from './open-session.ts'
import {type Findings, probe} from './probe.ts'
import type {Session} from './session.ts'
import type {IpmiSocket, Peer} from './socket.ts'
import {SUITES, type Suite} from './suites.ts'

export type Connecting = {
  readonly socket: IpmiSocket
  readonly peer: Peer
  readonly login: Login
  /** The suite that worked the last time, tried first. */
  readonly remembered: Suite | undefined
  readonly waitsMs: readonly number[]
  readonly timers: Timers
  readonly signal: AbortSignal
}

class SuiteIgnored extends PowerFault {
  constructor() {
    super('no_suite', 'the BMC answers, but not to this suite')
  }
}

/**
 * How long to wait before a handshake is begun anew. Sessions that nobody closed expire, and others close theirs; one that was lost on
 * the way (each handshake has a datagram that must not be lost) has waited long enough already.
 */
const BEGIN_ANEW_MS: Partial<Record<FaultKind, readonly number[]>> = {
  no_session: [500, 1500],
  session_lost: [0, 0, 0, 0],
}

/** A suite that was asked for in vain before another worked. */
export type PassedSuite = {readonly id: number; readonly how: 'refused' | 'ignored'; readonly why: string}

export async function connect(connecting: Connecting): Promise<{session: Session; suite: Suite; passed: readonly PassedSuite[]}> {
  const first = connecting.remembered ?? SUITES[0]
  const suites = [first, ...SUITES.filter(suite => suite.id !== first.id)]
  const passed: PassedSuite[] = []
  for (const suite of suites) {
    try {
      return {session: await openPatiently(connecting, suite), suite, passed}
    } catch (error) {
      if (!(error instanceof PowerFault) || error.kind !== 'no_suite') throw error
      passed.push({id: suite.id, how: error instanceof SuiteIgnored ? 'ignored' : 'refused', why: error.message})
    }
  }
  throw new PowerFault('no_suite', passed.map(({id, why}) => `suite ${id}: ${why}`).join('; '))
}

async function openPatiently(connecting: Connecting, suite: Suite): Promise<Session> {
  for (let tries = 0; ; tries++) {
    try {
      return await openOrDiagnose(connecting, suite)
    } catch (error) {
      const waitMs = error instanceof PowerFault ? BEGIN_ANEW_MS[error.kind]?.[tries] : undefined
      if (waitMs === undefined) throw error
      await pause(connecting.timers, waitMs, connecting.signal)
      connecting.signal.throwIfAborted()
    }
  }
}

/**
 * Asks, and after the first unanswered datagram looks what is there. What ends the hope of an answer ends the wait for it. A BMC that
 * answers the probe is asked on: only when every datagram stayed unanswered does its silence mean that it ignores the suite.
 */
async function openOrDiagnose(connecting: Connecting, suite: Suite): Promise<Session> {
  const done = new AbortController()
  const firstAnswer = new AbortController()
  const looking = diagnose(connecting, done.signal).then(({found}) => {
    const fault = hopeless(found, connecting.peer)
    if (fault) firstAnswer.abort(fault)
    return found
  })
  try {
    return await openSession({...connecting, suite, firstAnswer: firstAnswer.signal})
  } catch (error) {
    if (!(error instanceof PowerFault) || error.kind !== 'no_answer') throw error
    done.abort(OVER)
    if ((await looking) === 'ipmi_20') throw new SuiteIgnored()
    throw error
  } finally {
    done.abort(OVER)
    await looking
  }
}

/** A reason of one's own: making the usual one costs more than all the rest of an abort. */
const OVER = Symbol('over')

async function diagnose({peer, waitsMs, timers}: Connecting, done: AbortSignal): Promise<Findings> {
  await pause(timers, waitsMs[0] ?? 0, done)
  return done.aborted ? {found: 'nothing'} : probe(peer, done, timers)
}

function hopeless(found: Findings['found'], peer: Peer): PowerFault | undefined {
  if (found === 'port_refused') return new PowerFault('port_refused', `the host answers that UDP port ${peer.port} is closed`)
  if (found === 'no_route') return new PowerFault('no_route', 'the network answers that there is no such host')
  if (found === 'ipmi_15') return new PowerFault('only_ipmi_15', 'the BMC answers, but says that it does not speak IPMI 2.0')
  return undefined
}
