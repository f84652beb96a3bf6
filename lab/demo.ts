/**
 * `npm run demo`: one machine with an empty disk, from power-on to a running host, before your eyes: real DHCP, real firmware, a real
 * BMC protocol, on the embedded PostgreSQL, all inside one network namespace. `--once` ends by itself, `--json` prints one object last.
 */
import {parseArgs} from 'node:util'
import type {Job, Machine} from '../cli/shapes.ts'
import {buildLabArtefacts} from './artefacts.ts'
import {createRack, RACK, RACK_IMAGE, type Rack} from './rack.ts'
import {timelineLine, timelineText} from './timeline.ts'
import {followEvents, type PhaseShown, phasesOf, reachState, settled} from './walk.ts'

const USAGE = `npm run demo [-- --once] [--json] [--firmware bios|uefi] [--keep]
  --once      end when the machine is active instead of staying until Ctrl-C
  --json      print one JSON object as the last line
  --firmware  of the machine (default bios)
  --keep      leave the machine's files for looking at afterwards`

const PLAYBOOK = `- hosts: all
  gather_facts: true
  tasks:
    - name: leave a mark
      ansible.builtin.copy:
        content: "provisioned by ingot: {{ ansible_facts.distribution }} {{ ansible_facts.distribution_version }}\\n"
        dest: /etc/motd
`

/** Generous: a shared machine that emulates another may be slow, and evidence is waited for, not time. */
const ENROL_MS = 900_000
const PROVISION_MS = 1_500_000

type Summary = {
  machine: string
  state: string
  phases: PhaseShown[]
  total_ms: number
  address: string
  facts: unknown
  handoff: unknown
}

const {values: options} = parseArgs({
  options: {
    once: {type: 'boolean', default: false},
    json: {type: 'boolean', default: false},
    keep: {type: 'boolean', default: false},
    help: {type: 'boolean', default: false},
    firmware: {type: 'string', default: 'bios'},
  },
})

/** Ctrl-C: the ordinary end. */
class Interrupted extends Error {}

if (options.help) say(USAGE)
else await main()

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) {
    process.stderr.write('The demo makes network namespaces and a bridge, which only root may: run it as root.\n')
    process.exitCode = 1
    return
  }
  const stopping = new AbortController()
  let rack: Rack | undefined
  const interrupted = Promise.withResolvers<never>()
  interrupted.promise.catch(() => undefined)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (stopping.signal.aborted) process.exit(130)
      stopping.abort()
      interrupted.reject(new Interrupted())
    })
  }
  try {
    rack = await Promise.race([bringUp(), interrupted.promise])
    const summary = await Promise.race([walk(rack, stopping.signal), interrupted.promise])
    if (!options.once) {
      sayHowToGoOn(rack, summary)
      await interrupted.promise
    }
    if (options.json) say(JSON.stringify(summary))
  } catch (error) {
    if (!(error instanceof Interrupted)) {
      process.stderr.write(`\nThe demo failed: ${error instanceof Error ? error.message : String(error)}\n`)
      if (rack)
        process.stderr.write(`Ingot's log: ${rack.ingot.logFile}; the machine's console: ${rack.machine.dir}/serial.log\n`)
      process.exitCode = 1
    }
  } finally {
    stopping.abort()
    if (rack) {
      note('cleaning up')
      await rack.close({keepFiles: options.keep || process.exitCode === 1})
    }
  }
  process.exit()
}

async function bringUp(): Promise<Rack> {
  note('building loaders, ramdisk and image from Debian packages (kept for the next time)')
  const builtDir = await buildLabArtefacts(line => note(`  ${line}`))
  note('making a network namespace with a bridge, a machine with an empty disk, and its BMC')
  const rack = await createRack({name: 'ingot-demo', builtDir, firmware: options.firmware === 'uefi' ? 'uefi' : 'bios'})
  const seconds = await rack.ingot.start()
  note(`Ingot serves, ${seconds.toFixed(1)} s after its start: DHCP, TFTP and HTTP boot on the bridge, PostgreSQL embedded`)
  return rack
}

async function walk(rack: Rack, signal: AbortSignal): Promise<Summary> {
  const {client} = rack.ingot
  await client.send('PUT', '/v1/profiles/web', {
    template: 'debian/12',
    image: RACK_IMAGE,
    disk: 'smallest',
    parameters: {ssh_keys: [rack.sshPublicKey]},
    handoff: {kind: 'ansible', playbook_yaml: PLAYBOOK},
  })
  await rack.openWindow(true)
  note('an enrolment window is open: unknown machines on 10.77.0.0/22 may enrol, and are wiped if their disks are blank')
  const startMs = Date.now()
  void followEvents(client, event => showEvent(event, startMs), signal)
  await rack.bmc.ipmitool(['chassis', 'power', 'on'])
  show(0, '⏻', 'power on', 'somebody pressed the button; nobody told Ingot')
  const available = await reachState(client, RACK.mac, ['available'], ENROL_MS)
  show(Date.now() - startMs, '→', 'provision', 'asked for by API: profile "web", Debian 12, then an ansible playbook')
  const {job} = await client.send<{job: Job}>('POST', `/v1/machines/${available.id}/provision`, {
    profile: 'web',
    hostname: 'web01',
  })
  const done = await settled(client, job.id, PROVISION_MS)
  if (done.state !== 'succeeded') throw new Error(`provisioning ${done.state}: ${done.cause?.code}: ${done.cause?.detail}`)
  const machine = await client.get<Machine & {facts: {first_boot: {ssh_host_keys: string[]} | null}}>(
    `/v1/machines/${available.id}`,
  )
  const address = machine.addresses?.find(held => held.purpose === 'host')?.address ?? machine.addresses?.[0]?.address ?? ''
  const proof = await rack.ssh(address, machine.facts.first_boot?.ssh_host_keys ?? [], 'hostname; cat /etc/motd; uptime -p')
  show(Date.now() - startMs, '★', 'ssh answers', proof.stdout.trim().split('\n').join(' · '))
  const phases = await allPhases(rack, machine.id, startMs)
  return {
    machine: machine.name,
    state: machine.state,
    phases,
    total_ms: Date.now() - startMs,
    address,
    facts: machine.facts,
    handoff: phases.find(row => row.phase === 'handed_off')?.evidence ?? null,
  }
}

async function allPhases(rack: Rack, machineId: string, startMs: number): Promise<PhaseShown[]> {
  const {items} = await rack.ingot.client.get<{items: Job[]}>('/v1/jobs', {machine: machineId, limit: 50})
  const jobs = await Promise.all(items.map(job => rack.ingot.client.get<Job>(`/v1/jobs/${job.id}`)))
  return jobs.flatMap(job => phasesOf(job, startMs)).sort((a, b) => a.at_ms - b.at_ms)
}

function showEvent(event: Parameters<typeof timelineText>[0], startMs: number): void {
  const line = timelineText(event)
  if (line) show(Date.parse(event.at) - startMs, line.mark, line.text, line.why)
}

function sayHowToGoOn(rack: Rack, summary: Summary): void {
  const enter = `ip netns exec ${rack.network.name}`
  say(`
${summary.machine} is ${summary.state} at ${summary.address}, ${(summary.total_ms / 1000).toFixed(0)} s after it was switched on.

Go on in another terminal:
  export INGOT_STATE=${rack.ingot.stateDir} INGOT_TOKEN=${rack.ingot.token}
  bin/ingot machines                          # what there is
  bin/ingot explain ${summary.machine}        # what the wire would give it now, and why
  bin/ingot jobs                              # what was done; jobs show <id> has the evidence
  bin/ingot deprovision ${summary.machine} --wait
  ${enter} ssh -i ${rack.sshKeyFile} root@${summary.address}

API: http://127.0.0.1:8481 inside the namespace (${enter} curl …), or the Unix socket ${rack.ingot.stateDir}/api.sock
Log: ${rack.ingot.logFile}    console: ${rack.machine.dir}/serial.log

Ctrl-C ends it and cleans up.`)
}

function show(sinceMs: number, mark: string, text: string, why: string): void {
  process.stderr.write(`${timelineLine(sinceMs, mark, text, why)}\n`)
}

/** The story goes to standard error, so that standard output holds the answer alone. */
function note(text: string): void {
  process.stderr.write(`${text}\n`)
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
