/**
 * A rack, one or two hosts of Ingot over one PostgreSQL, and what an operator does with them. Requests go by the public API; the database
 * is looked into only to check what is promised, and to let a deadline pass that nobody wants to wait for.
 */
import {chmodSync, mkdirSync, mkdtempSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import pg from 'pg'
import {runCommand} from '../lab/commands.ts'
import type {Ipv4} from '../lib/addresses.ts'
import {sleep} from '../lib/clock.ts'
import type {Chance} from './chance.ts'
import {type DatabaseCable, layDatabaseCable} from './database-cable.ts'
import {type FaultMix, MIXES} from './faults.ts'
import {addHost, layGround} from './ground.ts'
import type {Times} from './machine.ts'
import {createNode, type Node, type NodeOptions} from './node.ts'
import {createRack, type Rack, type Unit} from './rack.ts'

export type WorldOptions = {
  readonly random: Chance
  readonly machines: number
  readonly mix?: FaultMix
  readonly times?: Times
  readonly hosts?: 1 | 2
  /** A file system of this size under the first host's state, which can be filled. */
  readonly stateMb?: number
  /** Stands between the second host and the database. */
  readonly cuttable?: boolean
  readonly node?: Pick<NodeOptions, 'script' | 'workers' | 'env'>
  readonly onProgress?: (line: string) => void
}

export type Ordered = {readonly unit: Unit; readonly machineId: string; readonly jobId: string; readonly kind: string}

export type World = {
  readonly dir: string
  /** Between the second host and the database, where it was asked for. */
  readonly cable: DatabaseCable | undefined
  readonly nodes: readonly Node[]
  readonly racks: readonly Rack[]
  readonly units: readonly Unit[]
  /** CIDRs of the prefixes, one a host. */
  readonly prefixes: readonly string[]
  /** Machine ids by unit, once declared. */
  readonly ids: ReadonlyMap<Unit, string>
  /** Every job whose 202 came. */
  readonly accepted: Ordered[]
  /** What goes wrong from now on. */
  setMix(mix: FaultMix): void
  declareAll(): Promise<void>
  /** Puts machines where their jobs would have brought them: `available`, so that a run begins with what it is about. */
  placeAll(state: 'available'): Promise<void>
  /** Asks for what is next in the life of each: inspected, cleaned, provisioned, given back, and around again. */
  orderAll(units?: readonly Unit[]): Promise<Ordered[]>
  order(unit: Unit, action: string, body?: unknown): Promise<Ordered | undefined>
  /** Waits until these jobs have ended; @throws naming those that have not */
  settle(orders: readonly Ordered[], options?: {limitMs?: number; hurryMs?: number}): Promise<void>
  query<T extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<T[]>
  close(options?: {keepFiles?: boolean}): Promise<void>
}

/** One rack a host: its machines, its relay, its BMCs. */
const PREFIXES = [
  {cidr: '10.64.0.0/17', relay: '10.64.0.1', gateway: '10.64.0.2', bmcs: '10.64.128.1'},
  {cidr: '10.65.0.0/17', relay: '10.65.0.1', gateway: '10.65.0.2', bmcs: '10.65.128.1'},
] as const

/** What to ask for in each state. */
const NEXT_ACTION: Readonly<Record<string, string>> = {
  discovered: 'inspect',
  enrolled: 'clean',
  available: 'provision',
  active: 'deprovision',
  failed: 'clean',
}

const PROVISION = {template: 'debian/12', image: 'debian-12'}
const ORDERS_AT_ONCE = 16
/** A machine that hangs shows in nothing but time; after this long without any news its deadline is brought forward. */
const HURRY_MS = 12_000

export async function createWorld(options: WorldOptions): Promise<World> {
  const {random, hosts = 1} = options
  let mix = options.mix ?? MIXES.none
  const say = options.onProgress ?? (() => undefined)
  const dir = mkdtempSync(join(tmpdir(), 'ingot-sim-'))
  // The unprivileged processes have to pass through.
  chmodSync(dir, 0o755)
  await layGround()
  if (options.stateMb) {
    mkdirSync(join(dir, 'node0'))
    await runCommand(['mount', '-t', 'tmpfs', '-o', `size=${options.stateMb}m,mode=755`, 'tmpfs', join(dir, 'node0')])
  }
  let cable: DatabaseCable | undefined
  const nodes: Node[] = []
  for (let number = 0; number < hosts; number++) {
    const [first] = nodes
    if (first && options.cuttable) cable = await layDatabaseCable(first.databaseUrl, join(dir, 'cable'))
    const beside = first && {node: first, ...(cable ? {databaseUrl: cable.url} : {})}
    nodes.push(await createNode({host: await addHost(number), dir, ...options.node, ...(beside ? {beside} : {})}))
    await nodes[number]?.start()
    say(`node ${number} serves`)
  }
  const [main] = nodes
  if (!main) throw new Error('a world has at least one host')
  const racks: Rack[] = []
  for (const [number, node] of nodes.entries()) {
    const prefix = PREFIXES[number]
    if (!prefix) throw new Error('there are only two prefixes')
    const {cidr, relay, gateway} = prefix
    const made = await main.api.post('/v1/prefixes', {
      cidr,
      gateway,
      dns: [gateway],
      boot_url: node.bootUrl,
      relays: [relay],
      exclude: [relay, gateway],
    })
    if (made.status !== 201) throw new Error(`the prefix was refused: ${JSON.stringify(made.body)}`)
    const count = Math.floor(options.machines / hosts) + (number < options.machines % hosts ? 1 : 0)
    racks.push(
      await createRack({
        count,
        random,
        mix: () => mix,
        first: number * 100_000,
        relay: relay as Ipv4,
        servers: [node.host.address],
        bmcs: prefix.bmcs as Ipv4,
        ...(options.times ? {times: options.times} : {}),
      }),
    )
  }
  const units = racks.flatMap(rack => rack.units)
  const ids = new Map<Unit, string>()
  const accepted: Ordered[] = []
  const pool = new pg.Pool({connectionString: main.databaseUrl, max: 4, connectionTimeoutMillis: 5_000})
  pool.on('error', () => undefined)

  /** Asks until the database answers: it may be what is being killed. */
  async function query<T extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<T[]> {
    const end = performance.now() + 60_000
    for (;;) {
      try {
        return (await pool.query<T>(text, [...values])).rows
      } catch (error) {
        const code = (error as {code?: string}).code ?? ''
        const refused = /^(22|23|42)/.test(code)
        if (refused || performance.now() > end) throw error
      }
      await sleep(100)
    }
  }

  const api = () => (nodes.find(node => node.isUp) ?? main).api

  const world: World = {
    dir,
    cable,
    nodes,
    racks,
    units,
    ids,
    prefixes: PREFIXES.slice(0, hosts).map(({cidr}) => cidr),
    accepted,
    query,
    setMix(wanted) {
      mix = wanted
    },
    async declareAll() {
      for (const [number, rack] of racks.entries()) {
        const cidr = PREFIXES[number]?.cidr ?? ''
        await eachOf(rack.units, ORDERS_AT_ONCE, async unit => {
          const made = await api().post('/v1/machines', rack.declaration(unit, cidr))
          if (made.status !== 201) throw new Error(`a machine was refused: ${JSON.stringify(made.body)}`)
          ids.set(unit, String(made.body.id))
        })
      }
      say(`${ids.size} machines are declared`)
    },
    async placeAll(state) {
      await query('UPDATE machine_states SET state = $1, state_since = now(), dirty = false', [state])
    },
    async order(unit, action, body) {
      const machineId = ids.get(unit)
      const said = await api().post(
        `/v1/machines/${machineId}/${action}`,
        body ?? (action === 'provision' ? PROVISION : undefined),
      )
      if (said.status !== 202) {
        // What the state of a moment ago allowed may be refused now; anything else is a fault.
        if (said.status === 409) return undefined
        throw new Error(`${action} of ${unit.machine.make.name} was answered ${said.status}: ${JSON.stringify(said.body)}`)
      }
      const job = said.body.job as {id: string; kind: string}
      const ordered = {unit, machineId: String(machineId), jobId: job.id, kind: job.kind}
      accepted.push(ordered)
      return ordered
    },
    async orderAll(wanted = units) {
      const states = new Map(
        (await query<{machine_id: string; state: string}>('SELECT machine_id, state FROM machine_states')).map(row => [
          row.machine_id,
          row.state,
        ]),
      )
      const orders: Ordered[] = []
      await eachOf(wanted, ORDERS_AT_ONCE, async unit => {
        const action = NEXT_ACTION[states.get(ids.get(unit) ?? '') ?? '']
        const ordered = action && (await world.order(unit, action))
        if (ordered) orders.push(ordered)
      })
      return orders
    },
    async settle(orders, {limitMs = 240_000, hurryMs = HURRY_MS} = {}) {
      const end = performance.now() + limitMs
      const mine = orders.map(order => order.jobId)
      for (;;) {
        const open = await query<{id: string; kind: string; phase: string; attempt: number}>(
          'SELECT id, kind, phase, attempt FROM jobs WHERE id = ANY($1::uuid[]) AND finished_at IS NULL',
          [mine],
        )
        if (open.length === 0) return
        if (performance.now() > end) {
          const names = open.map(job => `${job.kind} in ${job.phase}, attempt ${job.attempt} (${job.id})`)
          throw new Error(`${open.length} jobs did not end: ${names.slice(0, 5).join('; ')}`)
        }
        await hurry(mine, hurryMs)
        await sleep(250)
      }
    },
    async close({keepFiles = false} = {}) {
      await Promise.all(racks.map(rack => rack.close()))
      await pool.end()
      for (const node of nodes) await node.killAll()
      await cable?.close()
      if (options.stateMb) await runCommand(['umount', '-l', join(dir, 'node0')])
      if (!keepFiles) rmSync(dir, {recursive: true, force: true})
    },
  }
  return world

  /**
   * Real deadlines are minutes to hours. A job of which nothing was heard for HURRY_MS gets its deadline now, which is what would come
   * about by waiting: simulated machines live a hundred times faster than real ones.
   */
  async function hurry(jobIds: readonly string[], hurryMs: number): Promise<void> {
    await query(
      `UPDATE jobs SET deadline = clock_timestamp() - interval '1 ms', wake_at = clock_timestamp()
       WHERE id = ANY($1::uuid[]) AND finished_at IS NULL AND state = 'waiting' AND deadline > clock_timestamp()
         AND phase NOT IN ('planned', 'network_ready', 'power_cycled', 'stopped', 'powered_off', 'addresses_freed', 'power_proven')
         AND NOT EXISTS (SELECT FROM evidence e WHERE e.fence = jobs.fence AND e.at > clock_timestamp() - $2::float8 * interval '1 ms')
         AND NOT EXISTS (SELECT FROM effects f WHERE f.fence = jobs.fence
           AND coalesce(f.finished_at, f.started_at) > clock_timestamp() - $2::float8 * interval '1 ms')
         AND NOT EXISTS (SELECT FROM attempts a WHERE a.fence = jobs.fence
           AND a.started_at > clock_timestamp() - $2::float8 * interval '1 ms')`,
      [jobIds, hurryMs],
    )
  }
}

/** Runs `work` over all of them, a few at a time. */
export async function eachOf<T>(all: readonly T[], atOnce: number, work: (one: T) => Promise<void>): Promise<void> {
  let next = 0
  async function take(): Promise<void> {
    for (;;) {
      const index = next++
      if (index >= all.length) return
      await work(all[index] as T)
    }
  }
  await Promise.all(Array.from({length: Math.min(atOnce, all.length)}, take))
}
