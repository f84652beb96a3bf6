/** What is measured of one server: latency at fixed rates, everyone at once, and the highest rate at which it loses nothing to speak of. */
import type {Mac} from '../../lib/addresses.ts'
import {sleep} from '../../lib/clock.ts'
import type {Row} from '../report.ts'
import {clientMac, type Perf, runAvalanche, runRate} from './perfdhcp.ts'
import type {Running} from './servers.ts'
import {type Usage, usageOf} from './usage.ts'
import type {Wires} from './wires.ts'

export type Bench = {
  readonly wires: Wires
  /** The library preloaded into perfdhcp. */
  readonly buffer: string
  readonly server: string
  readonly running: Running
  readonly seconds: number
  readonly note: (line: string) => void
}

/** Rows of the report: `test` says what, the rest is figures. */
export type Measured = Row & {readonly test: string; readonly server: string}

const CLIENTS = 10_000
const LOSS_AT_MOST = 0.01
/** Of what it was told to send; less, and it was the generator that could not. */
const SENT_AT_LEAST = 0.93
const TRIES = 2
const STEP = 1.5
const HALVINGS = 3
const MOST_RATE = 60_000
const FIRST_BASE = '00:0c:01:02:03:04' as Mac
const SETTLE_MS = 300

type Timed = {readonly perf: Perf; readonly cpu_s: number; readonly database_cpu_s: number; readonly memory_mb: number}

/** Average answer times at a steady rate. */
export async function measureLatency(bench: Bench, rate: number): Promise<Measured> {
  const {perf, ...used} = await timed(bench, () =>
    runRate(bench.wires, bench.buffer, {rate, clients: CLIENTS, seconds: bench.seconds}),
  )
  return row(bench, `latency at ${rate}/s`, {
    offer_ms: perf.offers.avg_ms,
    ack_ms: perf.acks.avg_ms,
    lost: lossOf(perf),
    ...costOf(perf, used),
  })
}

/** Clients never seen before, all at once: a rack that is switched on. */
export async function measureBurst(bench: Bench, clients: number, number: number): Promise<Measured> {
  const base = clientMac('00:0c:10:02:03:04' as Mac, number << 24)
  const {perf, ...used} = await timed(bench, () => runAvalanche(bench.wires, bench.buffer, clients, base))
  return row(bench, `${clients} at once`, {
    took_s: perf.took_s,
    leased: perf.acks.received,
    resent: perf.resent,
    ...costOf(perf, used),
  })
}

/** Geometric climb, then bisection. */
export async function measureHighest(
  bench: Bench,
  from: number,
  base: Mac = FIRST_BASE,
  test = 'highest rate',
): Promise<Measured> {
  const attempt = async (rate: number): Promise<{ok: boolean; found: Timed}> => {
    for (let tries = 1; ; tries++) {
      const found = await timed(bench, () =>
        runRate(bench.wires, bench.buffer, {rate, clients: CLIENTS, seconds: bench.seconds, base}),
      )
      const ok = lossOf(found.perf) < LOSS_AT_MOST && found.perf.offers.sent >= SENT_AT_LEAST * rate * bench.seconds
      bench.note(`  ${bench.server}: ${rate}/s ${ok ? 'held' : `not held (${sayLoss(found.perf, rate, bench.seconds)})`}`)
      if (ok || tries === TRIES) return {ok, found}
    }
  }
  let [low, high] = [0, MOST_RATE]
  let best: Timed | undefined
  for (let rate = from; rate <= high; rate = Math.round(rate * STEP)) {
    const {ok, found} = await attempt(rate)
    if (ok) [low, best] = [rate, found]
    else {
      high = rate
      break
    }
  }
  for (let halving = 0; halving < HALVINGS && high > low * 1.05; halving++) {
    const middle = Math.round((low + high) / 2)
    const {ok, found} = await attempt(middle)
    if (ok) [low, best] = [middle, found]
    else high = middle
  }
  if (best === undefined) return row(bench, test, {dora_per_s: low})
  const {perf, ...used} = best
  return row(bench, test, {
    dora_per_s: Math.round(perf.acks.received / bench.seconds),
    offer_ms: perf.offers.avg_ms,
    ack_ms: perf.acks.avg_ms,
    lost: lossOf(perf),
    ...costOf(perf, used),
  })
}

/** As many clients as the network has room for, each once; perfdhcp compares their addresses. */
export async function measureFresh(bench: Bench, clients: number, rate: number, number: number): Promise<Measured> {
  const base = clientMac('00:0c:10:02:03:04' as Mac, number << 24)
  const seconds = Math.round(clients / rate)
  const {perf, ...used} = await timed(bench, () =>
    runRate(bench.wires, bench.buffer, {rate, clients, seconds, base, checkUnique: true}),
  )
  return row(bench, `${clients} new at ${rate}/s`, {
    leased: perf.acks.received,
    doubled: perf.doubled,
    lost: lossOf(perf),
    ...costOf(perf, used),
  })
}

async function timed(bench: Bench, run: () => Promise<Perf>): Promise<Timed> {
  await sleep(SETTLE_MS)
  const before = useOf(bench.running)
  const perf = await run()
  const after = useOf(bench.running)
  return {
    perf,
    cpu_s: after.server.cpu_s - before.server.cpu_s,
    database_cpu_s: after.database.cpu_s - before.database.cpu_s,
    memory_mb: after.server.memory_mb,
  }
}

function useOf({pid, databasePid, answers}: Running): {server: Usage; database: Usage} {
  const isPostgres = (command: string) => /\bpostgres\b/.test(command)
  const within = usageOf(pid, isPostgres)
  const beside = databasePid === null ? {cpu_s: 0, memory_mb: 0} : usageOf(databasePid)
  return {
    server: {
      cpu_s: usageOf(pid, command => !isPostgres(command)).cpu_s,
      memory_mb: usageOf(pid, answers ?? (command => !isPostgres(command))).memory_mb,
    },
    database: {cpu_s: within.cpu_s + beside.cpu_s, memory_mb: within.memory_mb + beside.memory_mb},
  }
}

function lossOf({offers, acks}: Perf): number {
  return offers.sent === 0 ? 1 : 1 - acks.received / offers.sent
}

function sayLoss(perf: Perf, rate: number, seconds: number): string {
  return `${(100 * lossOf(perf)).toFixed(1)} % lost, ${perf.offers.sent} of ${rate * seconds} sent`
}

function costOf({acks}: Perf, used: Omit<Timed, 'perf'>): Row {
  const each = (seconds: number) => (acks.received === 0 ? null : (seconds * 1e6) / acks.received)
  return {cpu_us: each(used.cpu_s), database_us: each(used.database_cpu_s), memory_mb: used.memory_mb}
}

function row(bench: Bench, test: string, figures: Row): Measured {
  const shown = Object.entries(figures).map(([name, value]) => `${name} ${typeof value === 'number' ? roughly(value) : value}`)
  bench.note(`  ${test}: ${shown.join(', ')}`)
  return {test, server: bench.server, ...figures}
}

function roughly(value: number): number {
  return Number(value.toPrecision(4))
}
