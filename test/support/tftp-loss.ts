/** A UDP proxy that loses and repeats packets by a seed, for servers in single-port mode: there is no `tc netem` where tests run. */
import {createSocket, type Socket} from 'node:dgram'

export type Loss = {
  /** The server. */
  readonly port: number
  readonly seed: number
  readonly loss: number
  readonly repeat: number
  /** So many packets of each client pass unharmed first. */
  readonly spare: number
}

export async function createLossyProxy(options: Loss) {
  const front = createSocket('udp4')
  const backs = new Map<number, Socket>()
  let state = options.seed >>> 0
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 4294967296
  }
  const counts = {carried: 0, lost: 0, repeated: 0}
  const passed = new Map<number, number>()
  const carry = (clientPort: number, send: () => void) => {
    const before = passed.get(clientPort) ?? 0
    passed.set(clientPort, before + 1)
    if (before < options.spare) {
      send()
      return
    }
    if (random() < options.loss) {
      counts.lost++
      return
    }
    counts.carried++
    send()
    if (random() >= options.repeat) return
    counts.repeated++
    send()
  }
  const backFor = (clientPort: number) => {
    const known = backs.get(clientPort)
    if (known) return known
    const back = createSocket('udp4')
    backs.set(clientPort, back)
    back.on('message', bytes => carry(clientPort, () => front.send(bytes, clientPort, '127.0.0.1')))
    return back
  }
  front.on('message', (bytes, from) => carry(from.port, () => backFor(from.port).send(bytes, options.port, '127.0.0.1')))
  await new Promise<void>(resolve => front.bind(0, '127.0.0.1', resolve))
  return {
    port: front.address().port,
    counts,
    async close() {
      for (const socket of [front, ...backs.values()]) await new Promise<void>(resolve => socket.close(resolve))
    },
  }
}
