/** F6: what machines have said is said again, a thousand times, in any order. F5: clocks of Ingot's processes that jump. */
import {writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {sleep} from '../../lib/clock.ts'
import {DEATHS} from '../death.ts'
import {MIXES} from '../faults.ts'
import {eachOf} from '../world.ts'
import {failures} from './database.ts'
import {must, type Scenario} from './scenario.ts'

const REPLAYS = 1_000

export const replayedCallbacks: Scenario = {
  name: 'F6 callbacks doubled, replayed and reordered × 1000',
  about: 'all that machines said in former attempts and in this one; nothing moves, and each is answered',
  hosts: 1,
  async run({world, random, facts}) {
    world.setMix({...MIXES.none, doubled: 0.5, replayed: 0.5})
    for (let round = 0; round < 2; round++) await world.settle(await world.orderAll())
    world.setMix(MIXES.none)
    const before = await standing(world)
    const past = world.units.flatMap(unit => unit.machine.past().map(callback => ({unit, callback})))
    must(past.length > 0, 'no machine has said anything')
    const statuses = new Map<number, number>()
    await eachOf(Array.from({length: REPLAYS}), 32, async () => {
      const {unit, callback} = random.pick(past)
      const from = unit.machine.make.bmc?.address
      must(from !== undefined, 'a machine has no address to speak from')
      const {status} = await unit.machine.send(callback, new AbortController().signal, from)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    })
    // The worker looks at whatever woke it.
    await sleep(2_000)
    const after = await standing(world)
    must(before === after, 'something moved for a callback that was said before')
    for (const [status, count] of statuses) facts[`answers_${status}`] = count
    must(![...statuses.keys()].some(status => status >= 500), 'a replayed callback was a fault')
  },
}

/** States, jobs, attempts and phases, as one text. */
async function standing(world: Parameters<Scenario['run']>[0]['world']): Promise<string> {
  const rows = await Promise.all([
    world.query('SELECT machine_id, state, state_since, dirty FROM machine_states ORDER BY machine_id'),
    world.query('SELECT id, state, attempt, fence, phase, finished_at FROM jobs ORDER BY id'),
    world.query('SELECT fence, claimed_at, ended_at, outcome FROM attempts ORDER BY fence'),
    world.query('SELECT fence, phase, at FROM phases ORDER BY fence, phase'),
    world.query(`SELECT count(*) FROM events WHERE kind IN ('state_changed', 'phase_entered')`),
  ])
  return JSON.stringify(rows)
}

const HOUR_MS = 3_600_000
const JUMPS_MS = [HOUR_MS, -HOUR_MS, 87_660 * HOUR_MS, -87_660 * HOUR_MS, 0]

export const clockJumps: Scenario = {
  name: 'F5 the clock jumps by an hour and by ten years',
  about: 'the wall clock of wire and control, forth and back, mid-provision: no lease or address is let go, every job ends well',
  hosts: 1,
  async run({world, facts}) {
    const [node] = world.nodes
    must(node !== undefined, 'there is no host')
    const held = () =>
      world.query('SELECT address_id FROM allocations WHERE freed_at IS NULL AND purpose = $1 ORDER BY 1', ['boot'])
    const leases = () => world.query('SELECT count(*)::int AS n FROM leases')
    const before = JSON.stringify(await held())
    const [{n: leased} = {n: 0}] = (await leases()) as unknown as {n: number}[]
    let jobs = 0
    for (const jumpMs of JUMPS_MS) {
      writeFileSync(join(node.stateDir, DEATHS, 'clock'), String(jumpMs))
      await sleep(300)
      const orders = await world.orderAll()
      await world.settle(orders)
      jobs += orders.length
      const failed = await failures(world, orders)
      must(failed.length === 0, `jobs failed with a clock ${jumpMs} ms off: ${failed.join(', ')}`)
      must(JSON.stringify(await held()) === before, `boot addresses changed hands with a clock ${jumpMs} ms off`)
      const [{n} = {n: 0}] = (await leases()) as unknown as {n: number}[]
      must(n >= leased, `leases were dropped with a clock ${jumpMs} ms off: ${leased} before, ${n} after`)
    }
    facts.jumps = JUMPS_MS.length
    facts.jobs = jobs
  },
}
