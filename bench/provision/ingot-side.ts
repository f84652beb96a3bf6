/** Ingot: a machine that it enrolled and cleaned is provisioned by image, with no handoff, and then given back. */
import {readFileSync} from 'node:fs'
import type {Job, Page} from '../../cli/shapes.ts'
import {untilSsh} from '../../lab/baseline.ts'
import {RACK, RACK_IMAGE, type Rack} from '../../lab/rack.ts'
import {reachState, settled, waitFor} from '../../lab/walk.ts'
import {startCapture} from './capture.ts'
import {type CpuUse, cpuUse, hostBusyS} from './host-load.ts'
import {poweredOnMs, renew} from './machine.ts'
import type {PhaseTimes} from './phases.ts'
import type {Wait} from './server-waits.ts'

const HTTP_PORT = 8480
/** Generous: an emulated machine on a shared host may be slow, and evidence is waited for, not time. */
const LIMIT_MS = 1_500_000
const HOSTNAME = 'bench01'

/** What the machine, or who asked for it, waited for Ingot itself; milliseconds. */
export type ControlWaits = {
  /** from sending `POST …/provision` until it was answered */
  readonly answered_ms: number
  /** from the answer until the power cycle was begun */
  readonly taken_up_ms: number
  /** seeing it off and setting its boot device, over the BMC */
  readonly prepared_ms: number
  /** answers to DHCP and HTTP requests other than for files, until the first boot had reported */
  readonly answers_ms: number
  /** from the first boot's report until the job had succeeded and the machine was active */
  readonly closed_ms: number
}

export type OurRound = {
  readonly at_s: PhaseTimes
  readonly control: ControlWaits
  /** how long the BMC took to switch on what Ingot had ordered on */
  readonly bmc_on_ms: number
  readonly waits: readonly Wait[]
  readonly cpu: CpuUse
}

type DetailedJob = Job & {readonly attempts: readonly {readonly number: number; readonly powered_at: string}[]}
type Evidence = {readonly at: string; readonly kind: string; readonly job_id: string | null}

/** Not timed. The machine is off afterwards. */
export async function enrolAndClean(rack: Rack): Promise<void> {
  const {client} = rack.ingot
  await client.send('PUT', '/v1/profiles/bench', {
    template: 'debian/12',
    image: RACK_IMAGE,
    disk: 'smallest',
    parameters: {ssh_keys: [rack.sshPublicKey]},
    handoff: {kind: 'none'},
  })
  await rack.openWindow(true)
  await rack.machine.powerOn()
  await reachState(client, RACK.mac, ['available'], LIMIT_MS)
  if (rack.machine.isPowered()) throw new Error('a machine that was cleaned must be off')
}

export async function provisionByIngot(rack: Rack): Promise<OurRound> {
  const {client} = rack.ingot
  const machine = await reachState(client, RACK.mac, ['available'], LIMIT_MS)
  await renew(rack.machine)
  const capture = await startCapture(rack.network, HTTP_PORT)
  const busyBefore = hostBusyS()
  const sentMs = Date.now()
  const {job} = await client.send<{job: Job}>('POST', `/v1/machines/${machine.id}/provision`, {
    profile: 'bench',
    hostname: HOSTNAME,
  })
  const answeredMs = Date.now()
  await waitFor('the first boot', LIMIT_MS, async () => {
    const now = await client.get<Job>(`/v1/jobs/${job.id}`)
    if (now.cause) throw new Error(`provisioning failed: ${now.cause.code}: ${now.cause.detail}`)
    return phaseMs(now, 'first_boot')
  })
  const {addresses = []} = await client.get<{addresses?: {address: string; purpose: string}[]}>(`/v1/machines/${machine.id}`)
  const address = (addresses.find(held => held.purpose === 'host') ?? addresses[0])?.address ?? ''
  const sshMs = await untilSsh(rack.network, address, rack.sshKeyFile, performance.now() + LIMIT_MS)
  const cpu = cpuUse(busyBefore, rack.machine.usage())
  const done = (await settled(client, job.id, LIMIT_MS)) as DetailedJob
  const waits = await capture.stop()
  if (done.state !== 'succeeded' || done.attempt !== 1) throw new Error(`provisioning ${done.state} in attempt ${done.attempt}`)
  await requireThatHost(rack, machine.id, address)

  const onMs = poweredOnMs(rack.machine)
  const seen = await evidenceOf(rack, machine.id, job.id)
  const firstBootMs = seen('first_boot')
  const untilBooted = waits.filter(wait => wait.at_ms >= onMs && wait.at_ms <= firstBootMs)
  const cycleMs = phaseMs(done, 'network_ready') ?? Number.NaN
  const orderedMs = Date.parse(done.attempts[0]?.powered_at ?? '')
  const localMs = localBootMs(rack, onMs)
  const since = (ms: number) => (ms - onMs) / 1000
  return {
    at_s: {
      script: since(seen('script_fetched')),
      ramdisk: since(seen('ramdisk_up')),
      write_start: since(seen('claimed')),
      written: since(seen('disk_written')),
      ...(localMs === undefined ? {} : {local_boot: since(localMs)}),
      phone_home: since(firstBootMs),
      ssh: since(sshMs),
    },
    control: {
      answered_ms: answeredMs - sentMs,
      taken_up_ms: Math.max(0, cycleMs - answeredMs),
      prepared_ms: orderedMs - cycleMs,
      answers_ms: sumOf(untilBooted.filter(isAnswer)),
      closed_ms: Date.parse(done.finished_at ?? '') - firstBootMs,
    },
    bmc_on_ms: onMs - orderedMs,
    waits: untilBooted,
    cpu,
  }
}

/** Not timed: the machine is wiped and off afterwards. */
export async function giveBack(rack: Rack): Promise<void> {
  const {client} = rack.ingot
  const machine = await reachState(client, RACK.mac, ['active'], LIMIT_MS)
  const {job} = await client.send<{job: Job}>('POST', `/v1/machines/${machine.id}/deprovision`)
  const done = await settled(client, job.id, LIMIT_MS)
  if (done.state !== 'succeeded') throw new Error(`deprovisioning ${done.state}: ${done.cause?.detail}`)
}

/** Files are bytes that any server must send; everything else is an answer that had to be worked out. */
export function isAnswer({request}: Wait): boolean {
  return !/^GET \/(artefacts\/|vmlinuz|initrd|disk\.raw\.zst)/.test(request)
}

export function sumOf(waits: readonly Wait[]): number {
  return waits.reduce((sum, wait) => sum + wait.waited_ms, 0)
}

function phaseMs(job: Job, phase: string): number | undefined {
  const row = job.attempts?.flatMap(attempt => attempt.phases).find(entered => entered.phase === phase)
  return row && Date.parse(row.at)
}

async function evidenceOf(rack: Rack, machineId: string, jobId: string): Promise<(kind: string) => number> {
  const {items} = await rack.ingot.client.get<Page<Evidence>>(`/v1/machines/${machineId}/evidence`, {limit: 200})
  const rows = items.filter(row => row.job_id === jobId)
  return kind => {
    const row = rows.findLast(candidate => candidate.kind === kind)
    if (!row) throw new Error(`no evidence of ${kind}`)
    return Date.parse(row.at)
  }
}

/** When the machine, its disk written, asked again what to boot; nobody records that, as it proves nothing, but the log tells. */
function localBootMs(rack: Rack, sinceMs: number): number | undefined {
  const lines = readFileSync(rack.ingot.logFile, 'utf8').split('\n')
  const answers = lines.filter(line => line.includes('"boot target"') && line.includes('"local"') && line.includes(RACK.mac))
  return answers.map(line => Date.parse((JSON.parse(line) as {time: string}).time)).find(ms => ms >= sinceMs)
}

/** That it is the host asked for, and not whatever had this address: believed only with the host keys that it reported. */
async function requireThatHost(rack: Rack, machineId: string, address: string): Promise<void> {
  const {facts} = await rack.ingot.client.get<{facts: {first_boot: {ssh_host_keys: string[]} | null}}>(
    `/v1/machines/${machineId}`,
  )
  const {stdout} = await rack.ssh(address, facts.first_boot?.ssh_host_keys ?? [], 'hostname')
  if (stdout.trim() !== HOSTNAME) throw new Error(`'${stdout.trim()}' answered at ${address}`)
}
