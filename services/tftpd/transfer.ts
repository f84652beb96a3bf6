/**
 * One TFTP read transfer as a state machine. Pure: what arrived and what time it is go in; what to send and when to look again come out.
 *
 * Blocks are counted without wrapping; only the wire sees them modulo 65536. `acked` is the last block the client has confirmed and
 * `sent` the last one that left; a window is everything between the two.
 *
 * What moves it:
 * - An ACK inside the window confirms everything up to it and opens the next window behind it. When it is not the window's last block,
 *   the client has seen a gap and the next window starts there (RFC 7440 §4): blocks leave again. Until everything that was on the wire
 *   then is confirmed (`recoverTo`), further such ACKs only let new blocks follow. Clients like edk2 send one for every block they did not
 *   expect, repeated ones too, and would otherwise keep each block going out twice to the end of the file.
 * - An ACK for `acked` itself is a duplicate and moves nothing, whatever the window size: answering it doubles every packet from then
 *   on (RFC 1123 §4.2.3.1). A window whose first block was lost therefore waits for the timer.
 * - The timer sends the window again and waits twice as long. The wait is measured (RFC 6298, with Karn's rule: a window that was sent
 *   again measures nothing). The wait a client asks for (RFC 2349) is taken until there is a measurement and bounds it from then on:
 *   curl asks for 20 s when it is told to finish in 100 s, and would lose that much for every lost packet.
 */
import type {Negotiated} from './options.ts'
import {TFTP_ERROR} from './packet.ts'

export type TransferLimits = {
  /** Wait before anything was measured. */
  readonly firstTimeoutMs: number
  readonly leastTimeoutMs: number
  readonly greatestTimeoutMs: number
  /** How often the same window may leave before the client is given up. */
  readonly tries: number
  /** A client that has not answered once is forgotten after this, whatever it asked for. */
  readonly halfOpenMs: number
  /** No transfer lives longer. */
  readonly transferMs: number
}

export type Transfer = {
  readonly negotiated: Negotiated
  readonly limits: TransferLimits
  readonly lastBlock: number
  readonly startedMs: number
  /** `oack`: our OACK awaits ACK 0. `data`: blocks travel. */
  readonly phase: 'oack' | 'data'
  /** Whether the client has answered from its end at least once. */
  readonly answered: boolean
  readonly acked: number
  readonly sent: number
  /** Blocks up to here may be on the wire twice. */
  readonly recoverTo: number
  /** How often what is on the wire now has left. */
  readonly tries: number
  /** How often the wait is doubled; falls back only with a fresh measurement (Karn). */
  readonly backoff: number
  readonly sentAtMs: number
  readonly deadlineMs: number
  readonly roundTrip: {readonly smoothMs: number; readonly varianceMs: number} | undefined
  readonly resentBlocks: number
}

export type TransferEvent =
  | {readonly type: 'ack'; readonly block: number; readonly nowMs: number}
  | {readonly type: 'error'; readonly code: number; readonly nowMs: number}
  | {readonly type: 'timeout'; readonly nowMs: number}

export type TransferSend = {readonly oack: true} | {readonly oack: false; readonly first: number; readonly last: number}

/** `declined`: the client looked at our options and left (edk2 probes `tsize` so). `unconfirmed`: all but the last ACK was seen. */
export type TransferEnd = 'complete' | 'unconfirmed' | 'declined' | 'aborted' | 'timed_out'

export type TransferStep =
  | {readonly transfer: Transfer; readonly send: TransferSend | undefined; readonly end: undefined}
  | {readonly transfer: Transfer; readonly send: undefined; readonly end: TransferEnd}

export function beginTransfer(negotiated: Negotiated, sizeBytes: number, limits: TransferLimits, nowMs: number): TransferStep {
  const oack = negotiated.accepted.length > 0
  const transfer: Transfer = {
    negotiated,
    limits,
    // The last block is the first one shorter than a full block, empty if need be (RFC 1350 §6).
    lastBlock: Math.floor(sizeBytes / negotiated.blockBytes) + 1,
    startedMs: nowMs,
    phase: oack ? 'oack' : 'data',
    answered: false,
    acked: 0,
    sent: 0,
    recoverTo: 0,
    tries: 0,
    backoff: 0,
    sentAtMs: nowMs,
    deadlineMs: nowMs,
    roundTrip: undefined,
    resentBlocks: 0,
  }
  return oack ? sendOack(transfer, nowMs) : sendWindow(transfer, nowMs, 1)
}

export function advanceTransfer(transfer: Transfer, event: TransferEvent): TransferStep {
  switch (event.type) {
    case 'ack':
      return onAck(transfer, event.block, event.nowMs)
    case 'error':
      return ended(transfer, event.code === TFTP_ERROR.optionsDeclined ? 'declined' : 'aborted')
    case 'timeout':
      return onTimeout(transfer, event.nowMs)
  }
}

/** Where block `n` lies in the file. */
export function blockRange(transfer: Transfer, block: number, sizeBytes: number): {readonly start: number; readonly end: number} {
  const start = (block - 1) * transfer.negotiated.blockBytes
  return {start, end: Math.min(start + transfer.negotiated.blockBytes, sizeBytes)}
}

function onAck(transfer: Transfer, block: number, nowMs: number): TransferStep {
  if (transfer.phase === 'oack') {
    if (block !== 0) return unmoved(transfer)
    return sendWindow({...measured(transfer, nowMs), phase: 'data', answered: true, tries: 0}, nowMs, 1)
  }
  const progress = (block - transfer.acked) & 0xffff
  if (progress === 0 || progress > transfer.sent - transfer.acked) return unmoved(transfer)
  const moved = {...measured(transfer, nowMs), answered: true, tries: 0, acked: transfer.acked + progress}
  if (moved.acked === moved.lastBlock) return ended(moved, 'complete')
  if (nowMs - transfer.startedMs >= transfer.limits.transferMs) return ended(moved, 'timed_out')
  const recovering = moved.acked < moved.recoverTo
  return sendWindow(moved, nowMs, recovering ? moved.sent + 1 : moved.acked + 1)
}

function onTimeout(transfer: Transfer, nowMs: number): TransferStep {
  if (nowMs < transfer.deadlineMs) return unmoved(transfer)
  const forgotten = !transfer.answered && nowMs - transfer.startedMs >= transfer.limits.halfOpenMs
  if (forgotten || transfer.tries >= transfer.limits.tries || nowMs - transfer.startedMs >= transfer.limits.transferMs) {
    return ended(transfer, transfer.answered && transfer.sent === transfer.lastBlock ? 'unconfirmed' : 'timed_out')
  }
  const again = {...transfer, backoff: transfer.backoff + 1}
  return again.phase === 'oack' ? sendOack(again, nowMs) : sendWindow(again, nowMs, again.acked + 1)
}

function sendOack(transfer: Transfer, nowMs: number): TransferStep {
  return {transfer: departed(transfer, nowMs), send: {oack: true}, end: undefined}
}

function sendWindow(transfer: Transfer, nowMs: number, first: number): TransferStep {
  const last = Math.min(transfer.acked + transfer.negotiated.windowBlocks, transfer.lastBlock)
  const resent = transfer.sent + 1 - first
  const counted = resent > 0 ? {resentBlocks: transfer.resentBlocks + resent, recoverTo: last} : {}
  const next = departed({...transfer, ...counted, sent: last}, nowMs)
  return {transfer: next, send: first <= last ? {oack: false, first, last} : undefined, end: undefined}
}

function departed(transfer: Transfer, nowMs: number): Transfer {
  const {limits} = transfer
  const waitMs = Math.min(
    baseTimeout(transfer) * 2 ** transfer.backoff,
    Math.max(limits.greatestTimeoutMs, baseTimeout(transfer)),
  )
  const halfOpenEnd = transfer.answered ? Number.POSITIVE_INFINITY : transfer.startedMs + limits.halfOpenMs
  return {...transfer, tries: transfer.tries + 1, sentAtMs: nowMs, deadlineMs: Math.min(nowMs + waitMs, halfOpenEnd)}
}

function baseTimeout(transfer: Transfer): number {
  const {negotiated, limits, roundTrip} = transfer
  if (!roundTrip) return negotiated.timeoutMs ?? limits.firstTimeoutMs
  const estimate = roundTrip.smoothMs + 4 * roundTrip.varianceMs
  return Math.min(
    Math.max(estimate, limits.leastTimeoutMs),
    negotiated.timeoutMs ?? limits.greatestTimeoutMs,
    limits.greatestTimeoutMs,
  )
}

function measured(transfer: Transfer, nowMs: number): Transfer {
  if (transfer.tries > 1 || transfer.acked < transfer.recoverTo) return transfer
  const sampleMs = Math.max(0, nowMs - transfer.sentAtMs)
  const old = transfer.roundTrip
  if (!old) return {...transfer, backoff: 0, roundTrip: {smoothMs: sampleMs, varianceMs: sampleMs / 2}}
  const varianceMs = 0.75 * old.varianceMs + 0.25 * Math.abs(old.smoothMs - sampleMs)
  return {...transfer, backoff: 0, roundTrip: {smoothMs: 0.875 * old.smoothMs + 0.125 * sampleMs, varianceMs}}
}

function unmoved(transfer: Transfer): TransferStep {
  return {transfer, send: undefined, end: undefined}
}

function ended(transfer: Transfer, end: TransferEnd): TransferStep {
  return {transfer, send: undefined, end}
}
