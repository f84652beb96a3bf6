/** What must hold after every fault (I1–I5): asked of the database, of the machines, and of the logs. */
import {createReadStream, existsSync} from 'node:fs'
import {createInterface} from 'node:readline'
import {type Callback, fenceOf} from './machine.ts'
import {BMC_PASSWORD} from './machine-bmc.ts'
import type {World} from './world.ts'

export type Violation = {readonly invariant: 'I1' | 'I2' | 'I3' | 'I4' | 'I5'; readonly what: string}

/** A deadline that passed so long ago was seen by nobody: the sweep looks every second. */
const OVERDUE_S = 60

export async function checkInvariants(world: World): Promise<Violation[]> {
  const found: Violation[] = []
  const say = (invariant: Violation['invariant'], what: string) => void found.push({invariant, what})
  await checkAddresses(world, say)
  await checkDeadlines(world, say)
  await checkAcknowledged(world, say)
  await checkDestruction(world, say)
  await checkSecrets(world, say)
  return found
}

type Say = (invariant: Violation['invariant'], what: string) => void

async function checkAddresses(world: World, say: Say): Promise<void> {
  const doubled = await world.query<{address_id: string}>(
    'SELECT address_id FROM allocations WHERE freed_at IS NULL GROUP BY address_id HAVING count(*) > 1',
  )
  for (const {address_id} of doubled) say('I1', `address ${address_id} has two live owners`)
  for (const rack of world.racks) for (const line of rack.relay.doubled) say('I1', `acknowledged to two machines: ${line}`)
}

async function checkDeadlines(world: World, say: Say): Promise<void> {
  const overdue = await world.query<{id: string; kind: string; phase: string}>(
    `SELECT id, kind, phase FROM jobs WHERE finished_at IS NULL AND deadline < clock_timestamp() - $1::int * interval '1 s'`,
    [OVERDUE_S],
  )
  for (const job of overdue) say('I2', `job ${job.id} (${job.kind}) is past the deadline of ${job.phase}`)
  const stuck = await world.query<{machine_id: string; state: string}>(
    `SELECT machine_id, state FROM machine_states s WHERE state IN ('inspecting', 'cleaning', 'provisioning')
       AND NOT EXISTS (SELECT FROM jobs j WHERE j.machine_id = s.machine_id AND j.finished_at IS NULL)`,
  )
  for (const row of stuck) say('I2', `machine ${row.machine_id} is ${row.state} and no job will end that`)
  const idle = await world.query<{fence: string}>(
    `SELECT a.fence FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.ended_at IS NULL AND j.finished_at IS NOT NULL`,
  )
  for (const {fence} of idle) say('I2', `attempt ${fence} stays open although its job has ended`)
}

async function checkAcknowledged(world: World, say: Say): Promise<void> {
  const jobs = new Set((await world.query<{id: string}>('SELECT id FROM jobs')).map(row => row.id))
  for (const {jobId} of world.accepted) if (!jobs.has(jobId)) say('I3', `job ${jobId} was accepted and is gone`)
  const machines = new Set((await world.query<{id: string}>('SELECT id FROM machines')).map(row => row.id))
  for (const id of world.ids.values()) if (!machines.has(id)) say('I3', `machine ${id} was declared and is gone`)
  const rows = await world.query<{fence: string; kind: string}>(
    'SELECT DISTINCT fence, kind FROM evidence WHERE fence IS NOT NULL',
  )
  const recorded = new Set(rows.map(row => `${row.fence} ${row.kind}`))
  for (const {machine} of world.units) {
    for (const callback of machine.acks) {
      const kind = evidenceOf(callback)
      if (kind && !recorded.has(`${fenceOf(callback.bearer)} ${kind}`)) {
        say('I3', `${kind} of attempt ${fenceOf(callback.bearer)} was acknowledged to ${machine.make.name} and is not recorded`)
      }
    }
  }
}

const EVIDENCE: Readonly<Record<string, string>> = {
  '/ramdisk/hello': 'ramdisk_up',
  '/ramdisk/facts': 'facts',
  '/ramdisk/claim': 'claimed',
  '/first-boot': 'first_boot',
}

function evidenceOf({path, body}: Callback): string | undefined {
  if (path === '/ramdisk/events') return (body as {kind: string}).kind
  return EVIDENCE[path]
}

async function checkDestruction(world: World, say: Say): Promise<void> {
  const rows = await world.query<{fence: string; kind: string; count: string}>(
    `SELECT e.fence, e.kind, count(*) FROM evidence e JOIN attempts a ON a.fence = e.fence JOIN jobs j ON j.id = a.job_id
     WHERE j.kind <> 'inspect' AND e.kind IN ('claimed', 'script_fetched') GROUP BY 1, 2`,
  )
  const counts = new Map(rows.map(row => [`${row.fence} ${row.kind}`, Number(row.count)]))
  for (const [key, count] of counts) if (count > 1) say('I4', `attempt ${key} ${count} times`)
  for (const {machine} of world.units) {
    const fences = machine.destructions.map(({fence}) => fence)
    for (const {what, fence} of machine.destructions) {
      if (!counts.has(`${fence} claimed`)) say('I4', `${machine.make.name} began to ${what} without a recorded claim of ${fence}`)
    }
    if (new Set(fences).size !== fences.length) say('I4', `${machine.make.name} began to write twice in one attempt`)
  }
  const without = await world.query<{fence: string; kind: string}>(
    `SELECT DISTINCT e.fence, e.kind FROM evidence e WHERE e.kind IN ('wiped', 'disk_written')
       AND NOT EXISTS (SELECT FROM evidence c WHERE c.fence = e.fence AND c.kind = 'claimed')`,
  )
  for (const row of without) say('I4', `attempt ${row.fence} has ${row.kind} without a claim`)
  const wet = await world.query<{machine_id: string}>(`SELECT machine_id FROM machine_states WHERE state = 'available' AND dirty`)
  for (const row of wet) say('I4', `machine ${row.machine_id} is available although its disks are not proven wiped`)
}

async function checkSecrets(world: World, say: Say): Promise<void> {
  const secrets = new Map<string, string>([[BMC_PASSWORD, 'the BMC password']])
  for (const node of world.nodes) secrets.set(node.api.token, 'the API token')
  for (const {machine} of world.units) {
    for (const secret of machine.secrets)
      if (secret.length >= 20) secrets.set(secret, `a token or session secret of ${machine.make.name}`)
  }
  const lengths = [...new Set([...secrets.keys()].map(secret => secret.length))]
  for (const node of world.nodes) {
    for (const file of [node.logFile, `${node.stateDir}/postgres.log`]) {
      if (!existsSync(file)) continue
      const told = new Set<string>()
      for await (const line of createInterface({input: createReadStream(file)})) {
        for (const word of line.split(/[^\w.-]+/)) {
          for (const part of new Set([word, ...word.split('.')])) {
            const name = lengths.includes(part.length) ? secrets.get(part) : undefined
            if (name) told.add(name)
          }
        }
      }
      for (const name of told) say('I5', `${name} stands in ${file.split('/').at(-1)}`)
    }
  }
}
