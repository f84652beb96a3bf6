/**
 * A transfer and a client that follows RFC 7440, joined by a network that loses, repeats and delays. Time is virtual and chance is seeded,
 * so a failing world fails again.
 */
import {negotiateOptions} from '../../services/tftpd/options.ts'
import {
  advanceTransfer,
  beginTransfer,
  blockRange,
  type TransferEnd,
  type TransferEvent,
  type TransferLimits,
  type TransferStep,
} from '../../services/tftpd/transfer.ts'

export type World = {
  readonly seed: number
  readonly loss: number
  readonly repeat: number
  /** Repeats the n-th packet, and no other, whatever `repeat` says. */
  readonly repeatOnly?: number
  readonly delayMs: number
  readonly blockBytes: number
  readonly windowBlocks: number
  readonly sizeBytes: number
}

type Happening = {readonly atMs: number; readonly order: number; readonly run: (nowMs: number) => void}

/** @returns the `start-end` of each block the client took, in the order it took them, and what should have come */
export function simulateTransfer(world: World, limits: TransferLimits) {
  const random = createRandom(world.seed)
  const agenda = createAgenda()
  const at = agenda.put
  const carry = (nowMs: number, deliver: Happening['run']) => {
    const repeated = random() < world.repeat || ++carried === world.repeatOnly
    for (let copies = repeated ? 2 : 1; copies > 0; copies--) {
      if (random() >= world.loss) at(nowMs + 0.1 + random() * world.delayMs, deliver)
    }
  }

  let carried = 0
  let sentBlocks = 0
  let timerAtMs = -1
  let end: TransferEnd | undefined
  let step: TransferStep
  const received: string[] = []
  const client = {expected: 1, inWindow: 0, done: false, heard: false, lastHeardMs: 0}

  const clientAck = (nowMs: number) => {
    client.inWindow = 0
    const block = (client.expected - 1) & 0xffff
    carry(nowMs, later => onServer({type: 'ack', block, nowMs: later}))
  }
  const onClientData = (wireBlock: number, bytes: number, range: string, nowMs: number) => {
    client.heard = true
    client.lastHeardMs = nowMs
    if (wireBlock !== (client.expected & 0xffff) || client.done) return clientAck(nowMs)
    received.push(range)
    client.expected++
    client.inWindow++
    client.done = bytes < world.blockBytes
    if (client.done || client.inWindow >= world.windowBlocks) clientAck(nowMs)
  }
  const onServer = (event: TransferEvent) => {
    if (!end) apply(advanceTransfer(step.transfer, event), event.nowMs)
  }
  const apply = (next: TransferStep, nowMs: number) => {
    step = next
    end = next.end
    if (next.send?.oack) carry(nowMs, later => (client.heard ? undefined : clientAck(later)))
    else if (next.send) {
      for (let block = next.send.first; block <= next.send.last; block++) {
        sentBlocks++
        const range = blockRange(next.transfer, block, world.sizeBytes)
        carry(nowMs, later => onClientData(block & 0xffff, range.end - range.start, `${range.start}-${range.end}`, later))
      }
    }
    if (!end && timerAtMs !== next.transfer.deadlineMs) {
      timerAtMs = next.transfer.deadlineMs
      at(timerAtMs, later => onServer({type: 'timeout', nowMs: later}))
    }
  }
  /** The client says again what it had last, as real ones do when nothing comes. */
  const clientTimer = (nowMs: number) => {
    if (client.heard && !client.done && nowMs - client.lastHeardMs >= 1_000) clientAck(nowMs)
    if (!client.done && !end) at(nowMs + 1_000, clientTimer)
  }

  const negotiated = negotiateOptions(
    [
      ['blksize', String(world.blockBytes)],
      ['windowsize', String(world.windowBlocks)],
    ],
    world.sizeBytes,
    {blockBytes: 65464, windowBlocks: 65535},
  )
  step = beginTransfer(negotiated, world.sizeBytes, limits, 0)
  apply(step, 0)
  at(1_000, clientTimer)
  for (let next = agenda.take(); next && !end; next = agenda.take()) next.run(next.atMs)

  const expected: string[] = []
  for (let start = 0; start <= world.sizeBytes; start += world.blockBytes) {
    expected.push(`${start}-${Math.min(start + world.blockBytes, world.sizeBytes)}`)
  }
  return {received, expected, sentBlocks, end}
}

/** A binary heap by time, then by the order in which things were put in. */
function createAgenda() {
  const heap: Happening[] = []
  const earlier = (a: number, b: number) => {
    const [x, y] = [heap[a]!, heap[b]!]
    return x.atMs < y.atMs || (x.atMs === y.atMs && x.order < y.order)
  }
  const swap = (a: number, b: number) => {
    const held = heap[a]!
    heap[a] = heap[b]!
    heap[b] = held
  }
  let order = 0
  return {
    put(atMs: number, run: Happening['run']): void {
      heap.push({atMs, order: order++, run})
      for (let at = heap.length - 1; at > 0; ) {
        const parent = (at - 1) >> 1
        if (!earlier(at, parent)) break
        swap(at, parent)
        at = parent
      }
    },
    take(): Happening | undefined {
      if (heap.length === 0) return undefined
      swap(0, heap.length - 1)
      const first = heap.pop()
      for (let at = 0; ; ) {
        let least = at
        for (const child of [2 * at + 1, 2 * at + 2]) if (child < heap.length && earlier(child, least)) least = child
        if (least === at) return first
        swap(at, least)
        at = least
      }
    },
  }
}

/** Mulberry32: small, seeded, good enough to shuffle packets. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
