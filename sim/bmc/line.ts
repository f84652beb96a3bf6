/** What a bad network does to a BMC's datagrams, from a seed: loses, repeats, delays and corrupts them, each way. */
import {createSocket, type RemoteInfo} from 'node:dgram'
import {createRandom} from '../random.ts'

export type LineOptions = {
  /** 0, the default, lets the kernel choose. */
  readonly port?: number | undefined
  readonly address?: string | undefined
  readonly seed?: number | undefined
  /** Share of datagrams lost, each way. */
  readonly loss?: number | undefined
  /** Share of answers sent twice. */
  readonly repeat?: number | undefined
  /** Share of datagrams with a changed bit, a cut, or bytes that were never sent, each way. */
  readonly corruption?: number | undefined
  /** Longest delay of an answer by chance, so that answers overtake each other. */
  readonly delayMs?: number | undefined
  /** Delay of every answer. */
  readonly slowMs?: number | undefined
}

export type Line = {
  readonly port: number
  send(datagram: Buffer, to: RemoteInfo): void
  /** Changes the delay of every answer from now on. */
  slow(ms: number): void
  stop(): Promise<void>
}

type Timers = {after(ms: number, run: () => void): () => void}

export async function openLine(
  options: LineOptions,
  timers: Timers,
  receive: (bytes: Buffer, from: RemoteInfo) => void,
): Promise<Line> {
  const random = createRandom(options.seed ?? 1)
  const {loss = 0, repeat = 0, corruption = 0, delayMs = 0} = options
  const cancels = new Set<() => void>()
  let slowMs = options.slowMs ?? 0
  const socket = createSocket('udp4')
  const happens = (share: number) => share > 0 && random() < share

  socket.on('message', (bytes, from) => {
    if (happens(loss)) return
    receive(happens(corruption) ? corrupted(bytes, random) : bytes, from)
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(options.port ?? 0, options.address ?? '127.0.0.1', () => {
      socket.off('error', reject)
      // A client that is gone answers by ICMP; that is no concern of a BMC.
      socket.on('error', () => undefined)
      resolve()
    })
  })

  function sendOnce(bytes: Buffer, to: RemoteInfo): void {
    if (happens(loss)) return
    const datagram = happens(corruption) ? corrupted(bytes, random) : bytes
    const waitMs = slowMs + (delayMs > 0 ? random() * delayMs : 0)
    if (waitMs === 0) return socket.send(datagram, to.port, to.address)
    const cancel = timers.after(waitMs, () => {
      cancels.delete(cancel)
      socket.send(datagram, to.port, to.address)
    })
    cancels.add(cancel)
  }

  return {
    port: socket.address().port,
    send(datagram, to) {
      sendOnce(datagram, to)
      if (happens(repeat)) sendOnce(datagram, to)
    },
    slow(ms) {
      slowMs = ms
    },
    stop() {
      for (const cancel of cancels) cancel()
      return new Promise(resolve => socket.close(() => resolve()))
    },
  }
}

function corrupted(datagram: Buffer, random: () => number): Buffer {
  const below = (count: number) => Math.floor(random() * count)
  const kind = below(4)
  if (kind === 0) return datagram.subarray(0, 1 + below(datagram.length))
  if (kind === 1) return Buffer.from(Array.from({length: 1 + below(200)}, () => below(256)))
  const changed = Buffer.from(datagram)
  const at = below(changed.length)
  changed[at] = (changed[at] ?? 0) ^ (1 << below(8))
  return changed
}
