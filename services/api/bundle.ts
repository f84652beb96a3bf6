/**
 * One file with all that is known of a machine or a job, to be looked at elsewhere: state, facts, jobs with phases and causes, plans,
 * rendered files, events, evidence with packets and logs, what the wire would give it now, versions. Redacted.
 */
import {sql} from 'kysely'
import {parseMac} from '../../lib/addresses.ts'
import {messageOf} from '../../lib/errors.ts'
import {type TarFile, writeTar} from '../../lib/tar.ts'
import type {JobPlan} from '../lifecycle/index.ts'
import {CUT, createBundleRedaction, textsIn} from './bundle-redaction.ts'
import type {ApiServices} from './services.ts'
import {jobView, machineView} from './views.ts'

const JOBS_AT_MOST = 20
const EVENTS_AT_MOST = 2_000
const EVIDENCE_AT_MOST = 2_000
/** ustar's limit for a name. */
const PATH_BYTES = 100

/** @returns a tar that is UTF-8 text throughout */
export async function makeBundle(services: ApiServices, machineId: string, jobId?: string): Promise<string> {
  const {inventory, lifecycle, ipam, evidence} = services
  const machine = await inventory.requireMachine(machineId)
  const ids = jobId ? [jobId] : (await lifecycle.jobs({machineId: machine.id, limit: JOBS_AT_MOST})).map(job => job.id)
  const jobs = await Promise.all(ids.map(id => lifecycle.job(id)))
  const plans = jobs.map(({job}) => job.plan as unknown as JobPlan)
  const redaction = createBundleRedaction(plans.flatMap(plan => textsIn([plan.install?.parameters, plan.install?.handoff])))
  const seen = await evidence.ofMachine(machine.id, {limit: EVIDENCE_AT_MOST})
  const end = await evidence.eventsStart(EVENTS_AT_MOST, machine.id)
  const events = await evidence.events({after: end, since: null, lookBack: 0, limit: EVENTS_AT_MOST, machineId: machine.id})
  const mine = (row: {job_id: string | null}) => jobId === undefined || row.job_id === jobId
  const files: TarFile[] = []
  const put = (path: string, body: string) => files.push({path, mode: 0o644, body})

  put('README.txt', readme(services, machine.name, jobId))
  put('versions.json', redaction.json(await versionsOf(services)))
  put(
    'machine.json',
    redaction.json({
      ...machineView({
        machine,
        state: await lifecycle.state(machine.id),
        addresses: await ipam.allocationsOf(machine.id),
        bmc: (await inventory.describeBmc(machine.id)) ?? null,
        openJob: await lifecycle.openJobOf(machine.id),
      }),
      actions: await lifecycle.actions(machine.id),
    }),
  )
  for (const source of ['inspection', 'first_boot', 'test'] as const)
    put(`facts/${source}.json`, redaction.json((await inventory.latestFacts(machine.id, source)) ?? null))
  put('events.json', redaction.json(events.rows.filter(mine)))
  put('evidence.json', redaction.json(seen.filter(row => mine(row) && row.kind !== 'ramdisk_log')))
  for (const row of seen.filter(one => mine(one) && one.kind === 'ramdisk_log')) {
    const {lines} = row.detail as {lines?: unknown}
    put(`console/ramdisk-${row.id}.log`, redaction.text(Array.isArray(lines) ? `${lines.join('\n')}\n` : ''))
  }
  put('explain.json', redaction.json(await explained(services, machine)))
  for (const {job, attempts, phases, eta} of jobs) {
    const folder = `jobs/${job.id.slice(0, 8)}`
    put(`${folder}/job.json`, redaction.json(jobView(job, attempts, phases, eta)))
    const {install} = job.plan as unknown as JobPlan
    for (const [index, file] of (install?.files ?? []).entries()) {
      const path = `${folder}/files/${file.path}`
      // What only root may read on the machine is not for others to read here.
      const body =
        (file.mode & 0o077) === 0 ? `${CUT}: ${file.body.length} characters, mode ${file.mode.toString(8)}\n` : file.body
      put(Buffer.byteLength(path) > PATH_BYTES ? `${folder}/files/${index}` : path, redaction.text(body))
    }
  }
  return Buffer.from(writeTar(files)).toString('utf8')
}

function readme(services: ApiServices, name: string, jobId: string | undefined): string {
  return [
    `What Ingot knows of machine ${name}${jobId ? ` for job ${jobId}` : ''}, as of ${services.clock.now().toISOString()}.`,
    `Parameters, what handoffs were given, tokens, keys and files that only root may read are cut out and stand as ${CUT}.`,
    'Look through it all the same before you give it away: names and addresses are in it.',
    '',
  ].join('\n')
}

async function versionsOf(services: ApiServices) {
  const {rows} = await sql<{postgresql: string}>`SELECT version() AS postgresql`.execute(services.db)
  const names = ['ramdisk/vmlinuz', 'ramdisk/initrd', 'ramdisk/tools']
  return {
    ingot: services.version,
    node: process.version,
    postgresql: rows[0]?.postgresql ?? null,
    artefacts: Object.fromEntries(names.map(name => [name, services.artefacts.lookup(name)?.sha256 ?? null])),
  }
}

/** Best effort: a bundle is wanted most where something is broken. */
async function explained(
  services: ApiServices,
  machine: {interfaces: readonly {mac: string; is_boot: boolean}[]},
): Promise<unknown> {
  const mac = parseMac(machine.interfaces.find(row => row.is_boot)?.mac ?? '')
  if (!mac) return null
  return services.explain(mac, {}).catch(error => ({failed: messageOf(error)}))
}
