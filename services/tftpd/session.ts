/**
 * One transfer at work: feeds its state machine with packets and time, and puts on the wire what that says. It owns the transfer's
 * channel and timer and gives both back when it ends.
 */
import type {Clock} from '../../lib/clock.ts'
import type {Chunk, ChunkMemory, TftpFile} from './chunks.ts'
import {encodeDataHeader, encodeError, encodeOack, TFTP_ERROR, type TftpPacket} from './packet.ts'
import {advanceTransfer, blockRange, type Transfer, type TransferEnd, type TransferStep} from './transfer.ts'

export type Client = {readonly address: string; readonly port: number}

/** The socket a transfer speaks through: its own, or the server's in single-port mode. */
export type Channel = {send(parts: readonly Uint8Array[], to: Client): void; close(): void}

export type SessionEnd = TransferEnd | 'evicted' | 'read_failed' | 'socket_error' | 'shutdown'

/** What became of a transfer: for evidence, the log and the counters. */
export type TransferReport = {
  readonly end: SessionEnd
  readonly name: string
  readonly digest: string
  readonly client: Client
  readonly sizeBytes: number
  readonly ackedBytes: number
  readonly resentBlocks: number
  readonly durationMs: number
}

export type Session = {
  readonly client: Client
  start(step: TransferStep): void
  receive(packet: TftpPacket): void
  /** Whether the client has answered at least once. */
  answered(): boolean
  end(reason: SessionEnd): void
}

type SessionOptions = {
  readonly client: Client
  readonly name: string
  readonly file: TftpFile
  readonly channel: Channel
  readonly chunks: ChunkMemory
  readonly clock: Clock
  readonly onAnswered: () => void
  readonly onEnd: (report: TransferReport, cause?: unknown) => void
}

export function createSession(options: SessionOptions): Session {
  const {client, file, channel, chunks, clock} = options
  let transfer: Transfer | undefined
  let over = false
  let timer: NodeJS.Timeout | undefined
  let timerAtMs = 0
  /** Blocks the state machine has let go that have not left yet, because their bytes are still being read. */
  let next = 1
  let last = 0
  /** A block may straddle two chunks, so two are kept at hand. */
  let near: readonly Chunk[] = []

  function apply(step: TransferStep): void {
    const wasAnswered = transfer?.answered ?? false
    transfer = step.transfer
    if (transfer.answered && !wasAnswered) options.onAnswered()
    if (step.end) {
      end(step.end)
      return
    }
    if (step.send?.oack) channel.send([encodeOack(transfer.negotiated.accepted)], client)
    if (step.send && !step.send.oack) {
      next = step.send.first
      last = step.send.last
      pump(transfer)
    }
    schedule(transfer)
  }

  function pump(current: Transfer): void {
    while (next <= last && !over) {
      const parts = partsOf(current, next)
      if (parts instanceof Promise) {
        parts.then(() => pump(current), readFailed)
        return
      }
      channel.send([encodeDataHeader(next), ...parts], client)
      next++
    }
  }

  function partsOf(current: Transfer, block: number): Uint8Array[] | Promise<void> {
    const {start, end: stop} = blockRange(current, block, file.sizeBytes)
    const parts: Uint8Array[] = []
    for (let position = start; position < stop; ) {
      const chunk =
        near.find(held => held.start <= position && position < held.start + held.bytes.length) ?? chunks.at(file, position)
      if (chunk instanceof Promise) return chunk.then(keepNear)
      if (!near.includes(chunk)) keepNear(chunk)
      const upTo = Math.min(stop, chunk.start + chunk.bytes.length)
      parts.push(chunk.bytes.subarray(position - chunk.start, upTo - chunk.start))
      position = upTo
    }
    return parts
  }

  function keepNear(chunk: Chunk): void {
    near = [chunk, ...near.slice(0, 1)]
    if (transfer?.answered) chunks.prefetch(file, chunk.start + chunk.bytes.length)
  }

  function readFailed(cause: unknown): void {
    if (over) return
    channel.send([encodeError(TFTP_ERROR.undefined, 'the file cannot be read')], client)
    end('read_failed', cause)
  }

  /** One timer, looked at late: an ACK moves the deadline far more often than a deadline is reached. */
  function schedule(current: Transfer): void {
    if (timer && timerAtMs <= current.deadlineMs) return
    clearTimeout(timer)
    timerAtMs = current.deadlineMs
    timer = setTimeout(onTimer, Math.max(1, Math.ceil(current.deadlineMs - clock.monotonicMs())))
  }

  function onTimer(): void {
    timer = undefined
    if (over || !transfer) return
    const nowMs = clock.monotonicMs()
    if (nowMs < transfer.deadlineMs) schedule(transfer)
    else apply(advanceTransfer(transfer, {type: 'timeout', nowMs}))
  }

  function end(reason: SessionEnd, cause?: unknown): void {
    if (over) return
    over = true
    clearTimeout(timer)
    near = []
    channel.close()
    options.onEnd(
      {
        end: reason,
        name: options.name,
        digest: file.digest,
        client,
        sizeBytes: file.sizeBytes,
        ackedBytes: transfer ? Math.min(transfer.acked * transfer.negotiated.blockBytes, file.sizeBytes) : 0,
        resentBlocks: transfer?.resentBlocks ?? 0,
        durationMs: transfer ? Math.round(clock.monotonicMs() - transfer.startedMs) : 0,
      },
      cause,
    )
  }

  return {
    client,
    start(step) {
      if (!over) apply(step)
    },
    receive(packet) {
      if (over || !transfer) return
      const nowMs = clock.monotonicMs()
      // Anything else from the right end is a repeated or confused packet; RFC 1350 §4 lets it pass, and only errors stop a transfer.
      if (packet.kind === 'ack') apply(advanceTransfer(transfer, {type: 'ack', block: packet.block, nowMs}))
      else if (packet.kind === 'error') apply(advanceTransfer(transfer, {type: 'error', code: packet.code, nowMs}))
    },
    answered: () => transfer?.answered ?? false,
    end,
  }
}
