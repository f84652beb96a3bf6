/** Sends a datagram and waits for its answer, sending again with growing pauses (IPMI 2.0 §6.12 leaves the timing to the console). */
import {PowerFault} from '../fault.ts'
import type {Timers} from '../timers.ts'
import type {Packet} from './packet.ts'
import type {IpmiSocket, Line} from './socket.ts'

export type Exchange<T> = {
  /** Makes each datagram anew: within a session, every one has its own sequence number. What it throws ends the exchange. */
  readonly make: () => Buffer
  /** Undefined for a packet that is not the answer. What it throws ends the exchange. */
  readonly accept: (packet: Packet) => T | undefined
  /** One entry per datagram: how long to wait for the answer after it. */
  readonly waitsMs: readonly number[]
  readonly timers: Timers
  readonly signal: AbortSignal
}

/** Kernel errors that say the peer cannot be reached from here; others (a full buffer) count as a lost datagram. */
const NO_ROUTE = new Set(['ENETUNREACH', 'EHOSTUNREACH', 'ENETDOWN', 'EHOSTDOWN', 'EADDRNOTAVAIL', 'EACCES', 'EPERM', 'EINVAL'])

export function exchange<T>(socket: IpmiSocket, line: Line, {make, accept, waitsMs, timers, signal}: Exchange<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    let sent = 0
    let cancel: (() => void) | undefined

    let over = false
    const finish = (settle: () => void) => {
      if (over) return
      over = true
      cancel?.()
      signal.removeEventListener('abort', aborted)
      line.listener = undefined
      settle()
    }
    const fail = (error: unknown) => finish(() => reject(error))
    const aborted = () => fail(signal.reason)

    const send = () => {
      const waitMs = waitsMs[sent]
      if (waitMs === undefined) return fail(new PowerFault('no_answer', `no answer to ${sent} datagrams`))
      sent += 1
      try {
        cancel = timers.after(waitMs, send)
        const datagram = make()
        socket.send(line, datagram, error => {
          if (NO_ROUTE.has(error.code ?? '')) fail(new PowerFault('no_route', `this host cannot send to it (${error.code})`))
        })
      } catch (error) {
        fail(error)
      }
    }

    if (signal.aborted) return reject(signal.reason)
    signal.addEventListener('abort', aborted, {once: true})
    line.listener = packet => {
      try {
        const answer = accept(packet)
        if (answer !== undefined) finish(() => resolve(answer))
      } catch (error) {
        fail(error)
      }
    }
    send()
  })
}
