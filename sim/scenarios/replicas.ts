/** F7, F19 and the take-over: two hosts over one database; one is stopped, cut off, or loses power while it works. */
import {sleep} from '../../lib/clock.ts'
import type {Order} from '../machine-bmc.ts'
import type {Node} from '../node.ts'
import type {Unit} from '../rack.ts'
import type {Ordered, World} from '../world.ts'
import {type Context, must, type Scenario, until} from './scenario.ts'

/** Within this a process that lost its database gives no order any more (services/lifecycle/presence.ts). */
const CLAIM_MS = 10_000

export const stoppedReplica: Scenario = {
  name: 'F7 one of two replicas is stopped and continued',
  about: 'SIGSTOP in the middle of a power cycle; the other takes over; the first, continued, gives no more orders for that job',
  hosts: 2,
  async run(context) {
    const {world, facts} = context
    const {order, node, rest, struckMs} = await catchWorking(context, owner => owner.signal('control', 'SIGSTOP'))
    const other = await until('an order by the other replica', () =>
      ordersOf(order.unit).find(seen => seen.atMs > struckMs && nodeOf(world, seen) !== node),
    )
    const continuedMs = performance.now()
    node.signal('control', 'SIGCONT')
    await world.settle([order, ...rest])
    const late = ordersOf(order.unit).filter(seen => seen.atMs > continuedMs && nodeOf(world, seen) === node)
    const ended = await endOf(world, order)
    must(ended.attempt > 1 || late.length === 0, `the replica that lost the job gave ${late.length} more orders`)
    must(ended.state === 'succeeded', `the job that was taken over ended as ${ended.state}: ${ended.code}`)
    facts.taken_over_after_ms = Math.round(other.atMs - struckMs)
  },
}

export const cutReplica: Scenario = {
  name: 'F19 a replica is cut from PostgreSQL',
  about:
    'nothing passes and nothing says so: within the claim’s time it stops giving orders, the other one goes on with everything',
  hosts: 2,
  async run(context) {
    const {world, facts} = context
    const {cable} = world
    must(cable !== undefined, 'nothing stands between the second host and the database')
    const far = world.nodes[1]
    let cutMs = 0
    const {order, rest} = await catchWorking(
      context,
      () => {
        cutMs = performance.now()
        cable.cut()
      },
      far,
    )
    await until(
      'an order by the other replica',
      () => ordersOf(order.unit).some(seen => seen.atMs > cutMs && nodeOf(world, seen) !== far),
      90_000,
    )
    const lateOf = () =>
      world.units.flatMap(unit => ordersOf(unit).filter(seen => nodeOf(world, seen) === far && seen.atMs > cutMs + CLAIM_MS))
    await sleep(Math.max(0, cutMs + CLAIM_MS + 3_000 - performance.now()))
    const late = lateOf().length
    cable.mend()
    must(late === 0, `cut off, it gave ${late} orders after the claim’s time`)
    await world.settle([order, ...rest])
    facts.jobs = 1 + rest.length
  },
}

export const deadReplica: Scenario = {
  name: 'F1c a replica loses power and the other takes over',
  about: 'kill -9 of everything of one host; how long until each of its jobs goes on, by the database’s clock',
  hosts: 2,
  async run(context) {
    const {world, facts} = context
    const far = world.nodes[1]
    must(far !== undefined, 'there is no second host')
    let diedAt = ''
    const {order, rest} = await catchWorking(
      context,
      async () => {
        const gone = far.killAll()
        const [row] = await world.query<{now: string}>('SELECT clock_timestamp()::text AS now')
        diedAt = row?.now ?? ''
        await gone
      },
      far,
    )
    const [row] = await until('its job to go on', async () => {
      const rows = await world.query<{after_s: number}>(
        `SELECT extract(epoch FROM min(f.started_at) - $2::timestamptz)::float8 AS after_s FROM effects f
         JOIN attempts a ON a.fence = f.fence WHERE a.job_id = $1 AND f.started_at > $2::timestamptz HAVING count(*) > 0`,
        [order.jobId, diedAt],
      )
      return rows.length > 0 && rows
    })
    facts.taken_over_after_s = Math.round((row?.after_s ?? Number.NaN) * 10) / 10
    await far.start()
    await world.settle([order, ...rest])
    const ended = await endOf(world, order)
    must(ended.state === 'succeeded', `the job that was taken over ended as ${ended.state}: ${ended.code}`)
  },
}

type Struck = {unit: Unit; node: Node; atMs: number; done: void | Promise<void>}

/**
 * Orders everybody off and on again, and strikes at the moment in which a replica has just ordered a machine off: then its power cycle
 * is begun and not ended.
 *
 * @param wanted the replica to strike; whichever comes first without
 */
async function catchWorking(
  {world}: Context,
  strike: (node: Node) => void | Promise<void>,
  wanted?: Node,
): Promise<{order: Ordered; node: Node; rest: Ordered[]; struckMs: number}> {
  for (let tries = 0; tries < 6; tries++) {
    // What is off already needs no order.
    for (const unit of world.units) unit.bmc.bmc.power = 1
    let struck: Struck | undefined
    for (const unit of world.units) {
      unit.bmc.onOrder = given => {
        const node = nodeOf(world, given)
        if (struck || given.order !== 'off' || !node || (wanted && node !== wanted)) return
        struck = {unit, node, atMs: given.atMs, done: strike(node)}
      }
    }
    const orders = await world.orderAll()
    const open = async () =>
      Number(
        (
          await world.query<{n: string}>('SELECT count(*) AS n FROM jobs WHERE id = ANY($1::uuid[]) AND finished_at IS NULL', [
            orders.map(order => order.jobId),
          ])
        )[0]?.n,
      )
    while (!struck && (await open()) > 0) await sleep(50)
    for (const unit of world.units) unit.bmc.onOrder = undefined
    if (struck) {
      const {unit, node, atMs, done} = struck as Struck
      await done
      const order = orders.find(one => one.unit === unit)
      must(order !== undefined, 'an order came for a machine that none was asked for')
      return {order, node, rest: orders.filter(one => one !== order), struckMs: atMs}
    }
    await world.settle(orders)
  }
  throw new Error('no replica was caught at work')
}

function ordersOf(unit: Unit): readonly Order[] {
  return unit.bmc.orders
}

function nodeOf(world: World, order: Order): Node | undefined {
  return world.nodes.find(node => node.host.address === order.from)
}

async function endOf(world: World, order: Ordered) {
  const [row] = await world.query<{state: string; attempt: number; code: string | null}>(
    `SELECT state, attempt, cause->>'code' AS code FROM jobs WHERE id = $1`,
    [order.jobId],
  )
  must(row !== undefined, `job ${order.jobId} is gone`)
  return row
}
