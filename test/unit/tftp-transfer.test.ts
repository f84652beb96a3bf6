/** The transfer state machine, event by event, and then against a lossy network that repeats, delays and drops. */
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {DEFAULT_TFTP_LIMITS} from '../../services/tftpd/limits.ts'
import {negotiateOptions} from '../../services/tftpd/options.ts'
import type {TftpOption} from '../../services/tftpd/packet.ts'
import {advanceTransfer, beginTransfer, blockRange, type TransferEvent, type TransferStep} from '../../services/tftpd/transfer.ts'
import {simulateTransfer} from '../support/tftp-simulation.ts'

const LIMITS = DEFAULT_TFTP_LIMITS
const WIDE = {blockBytes: 65464, windowBlocks: 65535}

function begin(sizeBytes: number, options: TftpOption[] = [], limits = LIMITS): TransferStep {
  return beginTransfer(negotiateOptions(options, sizeBytes, WIDE), sizeBytes, limits, 0)
}

function ack(step: TransferStep, block: number, nowMs = step.transfer.sentAtMs + 1): TransferStep {
  return advanceTransfer(step.transfer, {type: 'ack', block, nowMs})
}

function timeout(step: TransferStep): TransferStep {
  return advanceTransfer(step.transfer, {type: 'timeout', nowMs: step.transfer.deadlineMs})
}

function blocks(step: TransferStep): [number, number] | 'oack' | 'nothing' {
  if (!step.send) return 'nothing'
  return step.send.oack ? 'oack' : [step.send.first, step.send.last]
}

describe('TFTP transfer', () => {
  it('sends block 1 at once when no option was accepted', () => {
    expect(blocks(begin(1000))).toEqual([1, 1])
  })

  it('W63 never sends DATA again on a duplicate ACK', () => {
    const second = ack(begin(5 * 512), 1)
    expect(blocks(second)).toEqual([2, 2])
    expect(blocks(ack(second, 1))).toBe('nothing')
    expect(ack(second, 1).transfer.deadlineMs).toBe(second.transfer.deadlineMs)
  })

  it('W63 never sends a window again on a duplicate ACK', () => {
    const window = ack(begin(100 * 512, [['windowsize', '8']]), 0)
    const next = ack(window, 8)
    expect(blocks(next)).toEqual([9, 16])
    expect(blocks(ack(next, 8))).toBe('nothing')
  })

  it('W64 measures the round trip and waits longer each time', () => {
    const first = begin(100 * 512)
    expect(first.transfer.deadlineMs).toBe(LIMITS.firstTimeoutMs)
    const quick = ack(ack(first, 1, 2), 2, 4)
    expect(quick.transfer.deadlineMs - quick.transfer.sentAtMs).toBe(LIMITS.leastTimeoutMs)
    const slow = ack(ack(first, 1, 900), 2, 1800)
    expect(slow.transfer.deadlineMs - slow.transfer.sentAtMs).toBeGreaterThan(900)
    const waits: number[] = []
    for (let step = quick; !step.end; step = timeout(step)) waits.push(step.transfer.deadlineMs - step.transfer.sentAtMs)
    expect(waits).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 8000, 8000])
  })

  it('W64 keeps the longer wait until a block that left once is confirmed', () => {
    const again = timeout(ack(begin(100 * 512), 1, 1))
    const after = ack(again, 2, again.transfer.sentAtMs + 150)
    expect(after.transfer.deadlineMs - after.transfer.sentAtMs).toBe(2 * LIMITS.leastTimeoutMs)
    const clean = ack(after, 3, after.transfer.sentAtMs + 1)
    expect(clean.transfer.deadlineMs - clean.transfer.sentAtMs).toBe(LIMITS.leastTimeoutMs)
  })

  it('W67 an exact multiple of the block size ends with an empty DATA', () => {
    const last = ack(ack(begin(1024), 1), 2)
    expect(blocks(last)).toEqual([3, 3])
    expect(blockRange(last.transfer, 3, 1024)).toEqual({start: 1024, end: 1024})
    expect(ack(last, 3).end).toBe('complete')
  })

  it('W67 an empty file is one empty DATA', () => {
    const only = begin(0)
    expect(blocks(only)).toEqual([1, 1])
    expect(blockRange(only.transfer, 1, 0)).toEqual({start: 0, end: 0})
    expect(ack(only, 1).end).toBe('complete')
  })

  it('W68 an ERROR ends the transfer and sends nothing', () => {
    const step = advanceTransfer(begin(1000).transfer, {type: 'error', code: 3, nowMs: 1})
    expect(step).toMatchObject({end: 'aborted', send: undefined})
  })

  it('W71 after OACK it waits for ACK 0', () => {
    const asked = begin(5000, [['blksize', '1024']])
    expect(blocks(asked)).toBe('oack')
    expect(blocks(ack(asked, 1))).toBe('nothing')
    expect(blocks(timeout(asked))).toBe('oack')
    expect(blocks(ack(asked, 0))).toEqual([1, 1])
  })

  it('W71 the client ends the negotiation with ERROR 8', () => {
    const step = advanceTransfer(begin(5000, [['tsize', '0']]).transfer, {type: 'error', code: 8, nowMs: 1})
    expect(step).toMatchObject({end: 'declined', send: undefined})
  })

  it('W73 waits as long as the client asked until it has measured, and never longer afterwards', () => {
    const asked = begin(5000, [['timeout', '3']])
    expect(asked.transfer.deadlineMs).toBe(3000)
    const quick = ack(asked, 0, 5)
    expect(quick.transfer.deadlineMs - quick.transfer.sentAtMs).toBe(LIMITS.leastTimeoutMs)
    const slow = ack(asked, 0, 2_900)
    expect(slow.transfer.deadlineMs - slow.transfer.sentAtMs).toBe(3000)
  })

  it('W74 windowsize 1 is lock-step', () => {
    const data = ack(begin(5000, [['windowsize', '1']]), 0)
    expect(blocks(data)).toEqual([1, 1])
    expect(blocks(ack(data, 1))).toEqual([2, 2])
  })

  it('W75 the window timer restarts after the last ACK', () => {
    const window = ack(begin(100 * 512, [['windowsize', '4']]), 0, 10)
    const next = ack(window, 4, 500)
    expect(next.transfer.deadlineMs).toBeGreaterThanOrEqual(500 + LIMITS.leastTimeoutMs)
  })

  it('W75 an out-of-sequence ACK sets the start of the next window', () => {
    const window = ack(begin(100 * 512, [['windowsize', '8']]), 0)
    expect(blocks(window)).toEqual([1, 8])
    const gap = ack(window, 3)
    expect(blocks(gap)).toEqual([4, 11])
    expect(gap.transfer.resentBlocks).toBe(5)
  })

  it('W75 while a window is out for the second time, such an ACK lets only new blocks follow', () => {
    const gap = ack(ack(begin(100 * 512, [['windowsize', '8']]), 0), 3)
    const slid = ack(gap, 8)
    expect(blocks(slid)).toEqual([12, 16])
    expect(blocks(ack(slid, 16))).toEqual([17, 24])
    expect(blocks(ack(ack(slid, 16), 20))).toEqual([21, 28])
  })

  it('W75 an ACK from before the window or beyond it moves nothing', () => {
    const window = ack(ack(begin(100 * 512, [['windowsize', '8']]), 0), 8)
    for (const stray of [0, 7, 17, 40_000, 65_535]) expect(blocks(ack(window, stray)), String(stray)).toBe('nothing')
  })

  it('W76 gives up after a bounded number of tries', () => {
    let step = ack(begin(100 * 512), 1)
    let sends = 0
    for (; !step.end; step = timeout(step)) sends++
    expect(step.end).toBe('timed_out')
    expect(sends).toBe(LIMITS.tries)
  })

  it('W76 says unconfirmed when only the last ACK is missing', () => {
    let step = ack(begin(600), 1)
    while (!step.end) step = timeout(step)
    expect(step.end).toBe('unconfirmed')
  })

  it('F14 forgets a client that never answered, however long a timeout it asked for', () => {
    let step = begin(5000, [['timeout', '255']])
    while (!step.end) step = timeout(step)
    expect(step.end).toBe('timed_out')
    expect(step.transfer.deadlineMs).toBe(LIMITS.halfOpenMs)
  })

  it('ends a transfer that a client draws out beyond all bounds', () => {
    let step = begin(10_000 * 512)
    for (let block = 1; !step.end; block++) step = ack(step, block, step.transfer.sentAtMs + 3_000)
    expect(step.end).toBe('timed_out')
    expect(step.transfer.acked).toBeLessThan(2_000)
  })

  it('W77 counts past block 65535', () => {
    let step = begin(70_000 * 512)
    for (let block = 1; !step.end; block++) {
      expect(blocks(step)).toEqual([block, block])
      step = ack(step, block & 0xffff)
    }
    expect(step).toMatchObject({end: 'complete', transfer: {acked: 70_001}})
  })

  it('delivers every block in order over any network', {timeout: 120_000}, () => {
    const world = fc.record({
      seed: fc.integer(),
      loss: fc.double({min: 0, max: 0.25, noNaN: true}),
      repeat: fc.double({min: 0, max: 0.25, noNaN: true}),
      delayMs: fc.integer({min: 0, max: 40}),
      blockBytes: fc.integer({min: 8, max: 64}),
      windowBlocks: fc.integer({min: 1, max: 20}),
      sizeBytes: fc.integer({min: 0, max: 4_000}),
    })
    fc.assert(
      fc.property(world, input => {
        const run = simulateTransfer(input, {...LIMITS, tries: 60, halfOpenMs: 300_000})
        expect(run.received).toEqual(run.expected)
        expect(['complete', 'unconfirmed']).toContain(run.end)
      }),
      {seed: 6006, numRuns: 400},
    )
  })

  it('W63 a network that repeats every packet does not multiply the data', () => {
    const lockStep = {seed: 7, loss: 0, repeat: 1, delayMs: 0, blockBytes: 8, windowBlocks: 1, sizeBytes: 8 * 400}
    expect(simulateTransfer(lockStep, LIMITS)).toMatchObject({sentBlocks: 401, end: 'complete'})
    const windowed = simulateTransfer({...lockStep, windowBlocks: 16}, LIMITS)
    expect(windowed.received).toEqual(windowed.expected)
    expect(windowed.sentBlocks).toBeLessThan(2 * 401)
  })

  it('W63 one repeated packet does not keep the window going out twice', () => {
    for (const windowBlocks of [4, 16]) {
      const input = {seed: 3, loss: 0, repeat: 0, repeatOnly: 9, delayMs: 0, blockBytes: 8, windowBlocks, sizeBytes: 8 * 4000}
      const run = simulateTransfer(input, LIMITS)
      expect(run.received).toEqual(run.expected)
      expect(run.sentBlocks).toBeGreaterThan(4001)
      expect(run.sentBlocks).toBeLessThanOrEqual(4001 + windowBlocks)
    }
  })

  it('W77 rolls over in the middle of a window on a lossy network', {timeout: 120_000}, () => {
    const input = {seed: 11, loss: 0.001, repeat: 0.001, delayMs: 0, blockBytes: 8, windowBlocks: 12, sizeBytes: 8 * 66_000 + 3}
    const run = simulateTransfer(input, {...LIMITS, tries: 60})
    expect(run.received.length).toBe(66_001)
    expect(run.received).toEqual(run.expected)
  })

  it('F12 stays within its window whatever events arrive', () => {
    const event = fc.oneof(
      fc.record({type: fc.constant('ack' as const), block: fc.integer({min: 0, max: 65535}), nowMs: fc.nat(100_000)}),
      fc.record({type: fc.constant('ack' as const), block: fc.nat(30), nowMs: fc.nat(100_000)}),
      fc.record({type: fc.constant('timeout' as const), nowMs: fc.nat(100_000)}),
    )
    fc.assert(
      fc.property(
        fc.array(event, {maxLength: 60}),
        fc.integer({min: 1, max: 9}),
        fc.nat(20_000),
        (events: TransferEvent[], window, size) => {
          let step = begin(size, [['windowsize', String(window)]])
          for (const next of events) {
            if (step.end) break
            const before = step.transfer
            step = advanceTransfer(before, next)
            expect(step.transfer.acked).toBeGreaterThanOrEqual(before.acked)
            if (step.send && !step.send.oack) {
              expect(step.send.first).toBeGreaterThan(step.transfer.acked)
              expect(step.send.last).toBeLessThanOrEqual(step.transfer.acked + window)
              expect(step.send.last).toBeLessThanOrEqual(step.transfer.lastBlock)
            }
          }
        },
      ),
      {seed: 6007, numRuns: 3_000},
    )
  })
})
