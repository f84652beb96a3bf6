/**
 * Runs a stretch of packets through one responder, in this thread, and says what went wrong. Stretches begin at multiples of
 * `STRETCH_PACKETS`, each in a fresh world, so that any packet can be met again in the state it was met in: run its stretch up to it.
 *
 * Within a stretch packets come in handfuls: the leases port has a mood for each, and a handful's packets wait for the port together.
 */
import {performance} from 'node:perf_hooks'
import {setFlagsFromString} from 'node:v8'
import {runInNewContext} from 'node:vm'
import type {Mac} from '../../lib/addresses.ts'
import {hexColon} from '../../lib/bytes.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import {createCounters} from '../../services/dhcpd/counters.ts'
import {decodePacket, encodePacket} from '../../services/dhcpd/packet.ts'
import {createResponder, type Responder, type ResponderDeps, type Send} from '../../services/dhcpd/responder.ts'
import {createRandom} from '../random.ts'
import {HEAD_OCTETS, LARGEST_DATAGRAM, readOptionsPlainly} from './frame.ts'
import {type FuzzPacket, spoilPacket} from './mutations.ts'
import {brokenRules} from './rules.ts'
import {createFuzzClock, createFuzzLeases, MOODS, SNAPSHOT} from './world.ts'

export const STRETCH_PACKETS = 200_000
const HANDFUL = 64
const ROUND_TRIP_ONE_IN = 8
/** No observation may hand the database more than this. */
const MOST_OBSERVED_OCTETS = 8192
/** A packet that takes longer whenever it is tried is called slow: at 64 KiB a datagram may cost a few milliseconds. */
const SLOW_MS = 40

export type Failure = {readonly index: number; readonly what: string; readonly how: readonly string[]; readonly hex: string}

export type StretchResult = {
  readonly packets: number
  readonly replies: number
  readonly counters: Readonly<Record<string, number>>
  readonly failures: readonly Failure[]
  readonly slowest_ms: number
  /** Memory in use after a garbage collection: once a fifth of the stretch is done, and at its end. */
  readonly heap_bytes: {readonly early: number; readonly end: number} | null
}

export type StretchOptions = {
  readonly seed: number
  readonly seeds: readonly Buffer[]
  readonly from: number
  readonly to: number
  /** Told the index of each packet before it is received. */
  readonly progress?: (index: number) => void
  readonly measuresHeap?: boolean
  /** What is fuzzed; a test hands in one with a fault. */
  readonly create?: (deps: ResponderDeps) => Responder
}

export function makePacket(seed: number, index: number, seeds: readonly Buffer[]): FuzzPacket {
  return spoilPacket(createRandom(seed, index), seeds)
}

/** @param options `from` is brought down to the beginning of a stretch; `to` is exclusive and within the same stretch */
export async function runStretch(options: StretchOptions): Promise<StretchResult> {
  const {seed, seeds, to} = options
  const from = options.from - (options.from % STRETCH_PACKETS)
  const failures: Failure[] = []
  const world = createWorld(options.create ?? createResponder)
  const early = from + Math.floor((to - from) / 5 / HANDFUL) * HANDFUL
  let earlyBytes = 0
  let slowest_ms = 0
  for (let first = from; first < to; first += HANDFUL) {
    if (options.measuresHeap && first === early) earlyBytes = measureHeap()
    const random = createRandom(~seed, first)
    world.beginHandful(random)
    for (let index = first; index < Math.min(first + HANDFUL, to); index++) {
      options.progress?.(index)
      const packet = makePacket(seed, index, seeds)
      const fail = (what: string) => void failures.push({index, what, how: packet.how, hex: packet.bytes.toString('hex')})
      compareCodec(packet.bytes, index, fail)
      const took_ms = world.receive(packet, fail)
      if (took_ms > slowest_ms) slowest_ms = took_ms
      if (took_ms > SLOW_MS && (await isSlow(packet, options.create))) fail(`slow: ${took_ms.toFixed(0)} ms for one packet`)
    }
    await world.idle()
  }
  const heap_bytes = options.measuresHeap ? {early: earlyBytes, end: measureHeap()} : null
  return {packets: to - from, replies: world.replies(), counters: world.counters(), failures, slowest_ms, heap_bytes}
}

/** What goes wrong with one packet alone in a fresh world whose port behaves; for making a failing packet smaller. */
export async function tryAlone(
  packet: FuzzPacket,
  create: StretchOptions['create'] = createResponder,
): Promise<readonly string[]> {
  const found: string[] = []
  const world = createWorld(create)
  compareCodec(packet.bytes, 0, what => found.push(what))
  world.receive(packet, what => found.push(what))
  await world.idle()
  return found
}

/** Five times over, as a collector or a neighbour may have had the processor. */
async function isSlow(packet: FuzzPacket, create: StretchOptions['create'] = createResponder): Promise<boolean> {
  for (let round = 0; round < 5; round++) {
    const world = createWorld(create)
    const took_ms = world.receive(packet, () => undefined)
    await world.idle()
    if (took_ms <= SLOW_MS) return false
  }
  return true
}

function createWorld(create: (deps: ResponderDeps) => Responder) {
  const clock = createFuzzClock()
  const counters = createCounters()
  let failNow: (what: string) => void = () => undefined
  let replies = 0
  let portFails = false
  let tellsAll = false
  const leases = createFuzzLeases(clock, what => failNow(`the leases port got ${what}`))
  const observe = (observation: object) => {
    if (!tellsAll) return
    const octets = JSON.stringify(observation).length
    if (octets > MOST_OBSERVED_OCTETS) failNow(`an observation of ${octets} octets`)
  }
  const log = {
    isLevelEnabled: () => tellsAll,
    // Reasons are put into words when they are read.
    debug: (fields: {readonly reasons?: unknown}) => void fields.reasons,
    warn: () => undefined,
    error(fields: {readonly error?: string; readonly stack?: string; readonly call?: string}) {
      if (fields.call === undefined) failNow(`fault: ${fields.stack ?? fields.error}`)
    },
  } as unknown as Log
  const responder = create({
    snapshot: () => SNAPSHOT,
    leases: leases.port,
    sightings: observe,
    evidence: observe,
    alerts: observe,
    advertise: () => undefined,
    log,
    clock,
    counters,
  })

  return {
    beginHandful(random: ReturnType<typeof createRandom>): void {
      const mood = random.pick(MOODS)
      portFails = mood === 'away' || mood === 'broken' || mood === 'short'
      tellsAll = random.oneIn(4)
      leases.setMood(mood, random)
      clock.advance(random.oneIn(50) ? random.below(900_000) : random.below(400))
    },
    receive(packet: FuzzPacket, fail: (what: string) => void): number {
      const {bytes, arrival} = packet
      failNow = fail
      let answered = 0
      const send: Send = (reply, destination) => {
        replies++
        if (++answered > 1) fail(`${answered} replies to one packet`)
        const decoded = decodePacket(reply)
        if ('ignored' in decoded) return fail(`the reply does not decode: ${decoded.ignored}`)
        const secondsTo = (untilMs: number) => Math.ceil((untilMs - clock.monotonicMs()) / 1000)
        const committed = leases.committed(decoded.yiaddr)
        const holder = committed && {mac: committed.mac, seconds: secondsTo(committed.untilMs)}
        const granted_s = secondsTo(leases.grantedUntilMs(hexColon(decoded.chaddr.subarray(0, 6)) as Mac, decoded.yiaddr) ?? 0)
        const asked = bytes.subarray(0, HEAD_OCTETS)
        const askedOptions = readOptionsPlainly(bytes)
        const exchange = {asked, askedOptions, arrival, reply, destination, holder, granted_s, portFails}
        for (const broken of brokenRules(exchange)) fail(`${broken} [reply ${reply.toString('hex')}]`)
      }
      const beganMs = performance.now()
      try {
        responder.receive(bytes, arrival, send)
      } catch (error) {
        fail(`thrown at the socket: ${messageOf(error)}`)
      }
      return performance.now() - beganMs
    },
    idle: () => responder.idle(),
    replies: () => replies,
    counters: () => Object.fromEntries(counters.read()),
  }
}

/** The decoder finds what a plain reading of the RFCs finds; now and then, what it decoded comes back from the encoder. */
function compareCodec(bytes: Buffer, index: number, fail: (what: string) => void): void {
  const packet = decodePacket(bytes)
  if ('ignored' in packet) return
  const plain = readOptionsPlainly(bytes)
  if (!sameOptions(packet.options, plain))
    fail(`the decoder reads ${describe(packet.options)}, a plain reader ${describe(plain)}`)
  if (index % ROUND_TRIP_ONE_IN !== 0 || packet.file.length > 127 || packet.sname.length > 63) return
  const again = decodePacket(encodePacket(packet, LARGEST_DATAGRAM * 2).bytes)
  if ('ignored' in again) return fail(`what was encoded does not decode: ${again.ignored}`)
  const isSame = again.xid === packet.xid && again.file === packet.file && again.sname === packet.sname
  if (!isSame || !sameOptions(again.options, packet.options)) fail('decoding, encoding and decoding again changes the packet')
}

function sameOptions(a: ReadonlyMap<number, Uint8Array>, b: ReadonlyMap<number, Uint8Array>): boolean {
  if (a.size !== b.size) return false
  for (const [code, value] of a) {
    const other = b.get(code)
    if (other === undefined || Buffer.compare(value, other) !== 0) return false
  }
  return true
}

function describe(options: ReadonlyMap<number, Uint8Array>): string {
  return [...options].map(([code, {length}]) => `${code}(${length})`).join(' ')
}

let collect: (() => void) | undefined

/** The heap of this thread and the buffers beside it, after what is garbage was collected. */
function measureHeap(): number {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as () => void
  }
  collect()
  const {heapUsed, external} = process.memoryUsage()
  return heapUsed + external
}
