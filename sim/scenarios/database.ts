/** F2 and F4: the database is restarted under everybody; its disk is full. */
import {closeSync, openSync, rmSync, writeSync} from 'node:fs'
import {join} from 'node:path'
import type {Ipv4} from '../../lib/addresses.ts'
import {sleep} from '../../lib/clock.ts'
import {MIXES} from '../faults.ts'
import {eachOf} from '../world.ts'
import {must, type Scenario, until} from './scenario.ts'

const RESTARTS = 3

export const databaseRestarts: Scenario = {
  name: 'F2 PostgreSQL is restarted mid-provision',
  about:
    'a fast shutdown breaks every connection; a known machine keeps its address meanwhile; everything goes on when it is back',
  hosts: 1,
  async run({world, random, facts}) {
    const [node] = world.nodes
    must(node !== undefined, 'there is no host')
    const orders = await world.orderAll()
    let longestMs = 0
    for (let count = 0; count < RESTARTS; count++) {
      await sleep(random.integer(300, 1_500))
      const [before] = node.pids('postmaster')
      node.signal('postmaster', 'SIGINT')
      const startMs = performance.now()
      await until('another PostgreSQL', () => node.pids('postmaster').some(pid => pid !== before) && node.api.answers())
      longestMs = Math.max(longestMs, performance.now() - startMs)
    }
    await world.settle(orders)
    const failed = await failures(world, orders)
    must(failed.length === 0, `jobs failed for a database that was away: ${failed.join(', ')}`)
    facts.restarts = RESTARTS
    facts.jobs = orders.length
    facts.longest_away_ms = Math.round(longestMs)
  },
}

/** @returns causes of those that did not succeed */
export async function failures(
  world: Parameters<Scenario['run']>[0]['world'],
  orders: readonly {jobId: string}[],
): Promise<string[]> {
  const rows = await world.query<{kind: string; code: string | null}>(
    `SELECT kind, cause->>'code' AS code FROM jobs WHERE id = ANY($1::uuid[]) AND state <> 'succeeded'`,
    [orders.map(order => order.jobId)],
  )
  return rows.map(row => `${row.kind}: ${row.code}`)
}

const DECLARATIONS = 150
/** Of the first host's machines. */
const FILLED = '10.64.0.0/17'

export const diskFull: Scenario = {
  name: 'F4 the disk under the database is full',
  about: 'reads and renewals go on, writes are answered 507 and nothing else, and all heals by itself when there is space',
  hosts: 1,
  async run({world, facts}) {
    const [node] = world.nodes
    const [rack] = world.racks
    must(node !== undefined && rack !== undefined, 'there is no host')
    const orders = await world.orderAll()
    await world.settle(orders)
    const [unit] = world.units
    must(unit !== undefined, 'there is no machine')
    const {wire} = {wire: rack.relay.wire('eth0')}
    const dice = {random: unit.machine.dice.random, mix: MIXES.none}
    const ask = () => wire.dhcp({...unit.machine.make, speaker: 'os'}, dice, new AbortController().signal)
    const before = await ask()
    const filler = join(node.stateDir, 'filler')
    fill(filler)
    const statuses = new Map<number, number>()
    try {
      await eachOf(
        Array.from({length: DECLARATIONS}, (_, index) => index),
        8,
        async index => {
          const mac = `02:ff:00:00:${hex(index >> 8)}:${hex(index & 255)}`
          const made = await node.api.once('POST', '/v1/machines', {
            macs: [mac],
            prefix: FILLED,
            labels: {filler: 'x'.repeat(250)},
          })
          statuses.set(made.status, (statuses.get(made.status) ?? 0) + 1)
        },
      )
      const list = await node.api.once('GET', '/v1/machines?limit=10')
      must(list.status === 200, `a list was answered ${list.status} while the disk was full`)
      const renewed: Ipv4 = (await ask()).address
      must(renewed === before.address, 'a known machine got another address while the disk was full')
    } finally {
      rmSync(filler, {force: true})
    }
    for (const [status, count] of statuses) facts[`answers_${status}`] = count
    const wrong = [...statuses.keys()].filter(status => status !== 201 && status !== 507)
    must(wrong.length === 0, `writes to a full disk were answered ${wrong.join(', ')}`)
    must((statuses.get(507) ?? 0) > 0, 'no write met the full disk: nothing was tried')
    const after = await node.api.post('/v1/machines', {macs: ['02:ff:ff:ff:ff:fe'], prefix: FILLED})
    must(after.status === 201, `a write after there was space again was answered ${after.status}`)
    const again = await world.orderAll()
    await world.settle(again)
    const failed = await failures(world, again)
    must(failed.length === 0, `jobs failed after there was space again: ${failed.join(', ')}`)
  },
}

/** Everything that is left, to the last page. */
function fill(path: string): void {
  const fd = openSync(path, 'w')
  try {
    for (const size of [1 << 20, 4096]) {
      const bytes = Buffer.alloc(size)
      try {
        for (;;) if (writeSync(fd, bytes) < size) break
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      }
    }
  } finally {
    closeSync(fd)
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0')
}
