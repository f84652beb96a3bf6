/**
 * Finds the way into a BMC: the best cipher suite that it takes, remembered for the next time; patience where its sessions are all
 * taken; and, where it stays silent, a second look that tells a dead address from a closed port and from a suite that it ignores.
 */
import {sleep} from '../../../lib/clock.ts'
import {type FaultKind, PowerFault} from '../fault.ts'
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
  readonly signal: AbortSignal
}

/** Sessions that nobody closed expire, and others close theirs. */
const SESSION_WAITS_MS = [500, 1500]

export async function connect(connecting: Connecting): Promise<{session: Session; suite: Suite}> {
  const first = connecting.remembered ?? SUITES[0]
  const suites = [first, ...SUITES.filter(suite => suite.id !== first.id)]
  const refusals: string[] = []
  for (const suite of suites) {
    try {
      return {session: await openPatiently(connecting, suite), suite}
    } catch (error) {
      if (!(error instanceof PowerFault) || error.kind !== 'no_suite') throw error
      refusals.push(`suite ${suite.id}: ${error.message}`)
    }
  }
  throw new PowerFault('no_suite', refusals.join('; '))
}

async function openPatiently(connecting: Connecting, suite: Suite): Promise<Session> {
  for (const waitMs of SESSION_WAITS_MS) {
    try {
      return await openOrDiagnose(connecting, suite)
    } catch (error) {
      const worthWaiting: readonly FaultKind[] = ['no_session', 'session_lost']
      if (!(error instanceof PowerFault) || !worthWaiting.includes(error.kind)) throw error
    }
    await sleep(waitMs, connecting.signal)
    connecting.signal.throwIfAborted()
  }
  return openOrDiagnose(connecting, suite)
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
    done.abort()
    if ((await looking) === 'ipmi_20') throw new PowerFault('no_suite', 'the BMC answers, but not to this suite')
    throw error
  } finally {
    done.abort()
    await looking
  }
}

async function diagnose({peer, waitsMs}: Connecting, done: AbortSignal): Promise<Findings> {
  await sleep(waitsMs[0] ?? 0, done)
  return done.aborted ? {found: 'nothing'} : probe(peer, done)
}

function hopeless(found: Findings['found'], peer: Peer): PowerFault | undefined {
  if (found === 'port_refused') return new PowerFault('port_refused', `the host answers that UDP port ${peer.port} is closed`)
  if (found === 'no_route') return new PowerFault('no_route', 'the network answers that there is no such host')
  if (found === 'ipmi_15') return new PowerFault('only_ipmi_15', 'the BMC answers, but says that it does not speak IPMI 2.0')
  return undefined
}
