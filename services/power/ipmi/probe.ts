/**
 * Asks a silent BMC, on a connected socket of its own, whether anything is there: only a connected socket hears the ICMP answer
 * "port unreachable". Get Channel Authentication Capabilities (IPMI 2.0 §22.13) needs no session and no credentials.
 */
import {createSocket} from 'node:dgram'
import {systemTimers, type Timers} from '../timers.ts'
import {COMMANDS} from './commands.ts'
import {BMC_ADDRESS, CONSOLE_ADDRESS, decodeMessage, encodeMessage} from './lan-message.ts'
import {decodePacket, encodeOld} from './packet.ts'
import type {Peer} from './socket.ts'

export type Findings = {readonly found: 'ipmi_20' | 'ipmi_15' | 'port_refused' | 'no_route' | 'nothing'}

const THIS_CHANNEL = 0x0e
const WANT_IPMI_20 = 0x80
const ADMINISTRATOR = 4
const AGAIN_MS = 700

/** Asks until something is found or the signal aborts; never rejects. */
export function probe(peer: Peer, signal: AbortSignal, timers: Timers = systemTimers): Promise<Findings> {
  return new Promise(resolve => {
    const socket = createSocket(peer.family === 4 ? 'udp4' : 'udp6')
    let cancel: (() => void) | undefined
    const finish = (found: Findings['found']) => {
      cancel?.()
      signal.removeEventListener('abort', stop)
      socket.removeAllListeners('message')
      // A refusal may still be on its way to a socket that is about to close.
      socket.removeAllListeners('error').on('error', () => undefined)
      socket.close()
      resolve({found})
    }
    const stop = () => finish('nothing')
    if (signal.aborted) return stop()
    signal.addEventListener('abort', stop, {once: true})

    socket.once('error', error => finish(meaningOf(error)))
    socket.on('message', bytes => {
      const found = readCapabilities(bytes)
      if (found) finish(found)
    })
    socket.once('connect', () => {
      const ask = () => {
        socket.send(question())
        cancel = timers.after(AGAIN_MS, ask)
      }
      ask()
    })
    socket.connect(peer.port, peer.address)
  })
}

function meaningOf(error: NodeJS.ErrnoException): Findings['found'] {
  return error.code === 'ECONNREFUSED' ? 'port_refused' : 'no_route'
}

function question(): Buffer {
  const {netFn, command} = COMMANDS.getAuthCapabilities
  const data = Buffer.from([WANT_IPMI_20 | THIS_CHANNEL, ADMINISTRATOR])
  return encodeOld(encodeMessage({to: BMC_ADDRESS, from: CONSOLE_ADDRESS, netFn, sequence: 0, command, data}))
}

/** Bit 7 of the authentication types says that extended capabilities follow; of these, bit 1 is IPMI 2.0 (Table 22-16). */
function readCapabilities(bytes: Buffer): Findings['found'] | undefined {
  const packet = decodePacket(bytes, () => undefined)
  if ('ignored' in packet || packet.format !== 'old') return undefined
  const message = decodeMessage(packet.payload)
  if (!message || message.command !== COMMANDS.getAuthCapabilities.command || message.data[0] !== 0) return undefined
  const extended = ((message.data[2] ?? 0) & 0x80) !== 0
  return extended && ((message.data[4] ?? 0) & 0x02) !== 0 ? 'ipmi_20' : 'ipmi_15'
}
