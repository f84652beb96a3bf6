/** F8, F9, F15 and F18: BMCs that lie or say nothing, templates that do not render, and many machines of which a third fails. */
import {sleep} from '../../lib/clock.ts'
import {MIXES} from '../faults.ts'
import {failures} from './database.ts'
import {must, type Scenario, until} from './scenario.ts'

export const lyingBmcs: Scenario = {
  name: 'F8 a BMC says on, and the machine is off',
  about: 'found by the evidence that does not come; the job fails after its attempts, and names the cause',
  hosts: 1,
  async run({world, facts}) {
    const liars = world.units.filter((_, index) => index % 3 === 0)
    for (const {bmc} of liars) {
      bmc.bmc.power = 0
      bmc.bmc.manners = 'lies'
    }
    const orders = await world.orderAll()
    await world.settle(orders, {hurryMs: 3_000})
    for (const {bmc} of liars) bmc.bmc.manners = 'obeys'
    const rows = await world.query<{id: string; state: string; attempt: number; code: string | null; mend: string | null}>(
      `SELECT id, state, attempt, cause->>'code' AS code, cause->>'mend' AS mend FROM jobs WHERE id = ANY($1::uuid[])`,
      [orders.map(order => order.jobId)],
    )
    const byId = new Map(rows.map(row => [row.id, row]))
    const causes = new Map<string, number>()
    for (const order of orders) {
      const row = byId.get(order.jobId)
      must(row !== undefined, 'a job is gone')
      const lied = liars.includes(order.unit)
      must(lied || row.state === 'succeeded', `a machine whose BMC did not lie failed: ${row.code}`)
      if (!lied) continue
      must(row.state === 'failed', `a machine that never was on ended as ${row.state}`)
      must(row.code !== null && row.mend !== null, 'the failure names no cause or no mend')
      must(row.attempt <= 3, `it was tried ${row.attempt} times`)
      causes.set(row.code, (causes.get(row.code) ?? 0) + 1)
    }
    facts.causes = [...causes].map(([code, count]) => `${code} ${count}`).join(', ')
  },
}

const SILENT_MS = 3_000

export const silentBmcs: Scenario = {
  name: 'F9 BMCs say nothing for a while, and lose replies',
  about: 'the jobs wait and use up no attempt; those of other machines do not wait for them',
  hosts: 1,
  async run({world, facts}) {
    const silent = world.units.filter((_, index) => index % 3 === 0)
    for (const {bmc} of silent) bmc.bmc.stalled = true
    world.setMix({...MIXES.none, bmc_lost: 0.1})
    const orders = await world.orderAll()
    const others = orders.filter(order => !silent.includes(order.unit))
    const startMs = performance.now()
    await Promise.all([world.settle(others), sleep(SILENT_MS)])
    facts.others_done_ms = Math.round(performance.now() - startMs)
    const stillOpen = await world.query(`SELECT id FROM jobs WHERE id = ANY($1::uuid[]) AND finished_at IS NULL`, [
      orders.filter(order => silent.includes(order.unit)).map(order => order.jobId),
    ])
    must(stillOpen.length > 0 || silent.length === 0, 'a job ended although its BMC said nothing')
    for (const {bmc} of silent) bmc.bmc.stalled = false
    await world.settle(orders)
    world.setMix(MIXES.none)
    const failed = await failures(world, orders)
    must(failed.length === 0, `jobs failed for a BMC that was silent for ${SILENT_MS} ms: ${failed.join(', ')}`)
    const [again] = await world.query<{n: string}>('SELECT count(*) AS n FROM jobs WHERE id = ANY($1::uuid[]) AND attempt > 1', [
      orders.map(order => order.jobId),
    ])
    facts.second_attempts = Number(again?.n)
  },
}

export const templateErrors: Scenario = {
  name: 'F15 a template does not render',
  about: 'that request is refused before power is touched, naming what is wrong; the others go on',
  hosts: 1,
  async run({world, facts}) {
    await until('machines to provision', async () => {
      const rows = await world.query(`SELECT machine_id FROM machine_states WHERE state IN ('available', 'active')`)
      if (rows.length === world.units.length) return true
      await world.settle(await world.orderAll())
      return false
    })
    const [bad, ...good] = world.units
    must(bad !== undefined, 'there is no machine')
    const ordersBefore = bad.bmc.orders.length
    const sessionsBefore = bad.bmc.bmc.suitesUsed.length
    const [node] = world.nodes
    // A value that no line of a file can hold.
    const refused = await node?.api.post(`/v1/machines/${world.ids.get(bad)}/provision`, {
      template: 'debian/12',
      image: 'debian-12',
      parameters: {ssh_keys: ['ssh-ed25519 AAAA\nmalicious']},
    })
    must(refused !== undefined && refused.status >= 400 && refused.status < 500, `it was answered ${refused?.status}`)
    facts.answer = `${refused.status} ${String(refused.body.code)}`
    facts.detail = JSON.stringify(refused.body.detail).slice(0, 120)
    const orders = await world.orderAll(good)
    await world.settle(orders)
    must(bad.bmc.orders.length === ordersBefore && bad.bmc.bmc.suitesUsed.length === sessionsBefore, 'its BMC was spoken to')
    const failed = await failures(world, orders)
    must(failed.length === 0, `others failed with it: ${failed.join(', ')}`)
  },
}

export const manyFailing: Scenario = {
  name: 'F18 all at once, and 30 % fail',
  about: 'hardware that breaks, hangs and resets; every job ends in a result, and power is not switched everywhere at once',
  hosts: 1,
  async run({world, facts}) {
    world.setMix({...MIXES.wire, hangs: 0.05, resets: 0.05, breaks: 0.2, bmc_stalls: 0.02})
    let mostAtOnce = 0
    const watch = setInterval(() => {
      mostAtOnce = Math.max(mostAtOnce, world.units.filter(({bmc}) => bmc.bmc.openSessions > 0).length)
    }, 5)
    const orders = await world.orderAll()
    await world.settle(orders, {hurryMs: 5_000}).finally(() => clearInterval(watch))
    world.setMix(MIXES.none)
    const failed = await failures(world, orders)
    facts.jobs = orders.length
    facts.failed = failed.length
    facts.causes = [...new Set(failed)].toSorted().join(', ')
    facts.bmcs_at_once = mostAtOnce
    must(
      failed.every(line => !line.endsWith('null')),
      'a job failed without a cause',
    )
  },
}
