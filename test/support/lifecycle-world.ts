/**
 * The whole control plane on a real PostgreSQL and the real boot HTTP server, with machines that are only HTTP conversations: they do
 * what firmware, ramdisk and an installed system do, and can be told to misbehave. Power is a double that starts and stops them.
 */
import {randomBytes} from 'node:crypto'
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs'
import type {AddressInfo} from 'node:net'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {sql} from 'kysely'
import type {Mac} from '../../lib/addresses.ts'
import {sleep, systemClock} from '../../lib/clock.ts'
import {createDb, createPool, withTx} from '../../lib/db.ts'
import {createLog} from '../../lib/log.ts'
import {createSealer} from '../../lib/seal.ts'
import {Secret} from '../../lib/secret.ts'
import {createArtefacts} from '../../services/artefacts/index.ts'
import {createBoot} from '../../services/boot/index.ts'
import {FIRST_BOOT_TOKEN} from '../../services/boot/plan.ts'
import {createEvidence} from '../../services/evidence/index.ts'
import {createHandoff} from '../../services/handoff/index.ts'
import {createInventory} from '../../services/inventory/index.ts'
import {createIpam} from '../../services/ipam/index.ts'
import {createClaims, createLifecycle, type LifecycleServices} from '../../services/lifecycle/index.ts'
import {startWorker} from '../../services/lifecycle/worker.ts'
import {createTestDatabase} from './database.ts'
import {createPowerDouble} from './power-double.ts'

export type SimulatedRamdisk = {
  /** throws away the power-on: the machine stays silent */
  silent?: boolean
  /** reports this instead of finishing */
  fails?: {cause: string; detail: string}
  /** called right after the claim was granted */
  afterClaim?: () => Promise<void>
  /** does not phone home from its disk */
  noFirstBoot?: boolean
  /** what its disks hold when it is inspected */
  signature?: string | null
  /** facts it reports beside the usual ones, or in their place */
  facts?: Record<string, unknown>
  /** resets in the ramdisk before it claims, once, and asks for its script again */
  resets?: boolean
}

export type LifecycleWorld = Awaited<ReturnType<typeof createLifecycleWorld>>

const log = createLog('test', 'error')

type SimulatedMachine = {mac: Mac; behaviour: SimulatedRamdisk; on: boolean; boots: number; journal: string[]; session?: string}

function simulated(mac: Mac, behaviour: SimulatedRamdisk): SimulatedMachine {
  return {mac, behaviour, on: false, boots: 0, journal: []}
}

/** @param options.worker false: nobody works until the test does */
export async function createLifecycleWorld(options: {worker?: boolean} = {}) {
  const database = await createTestDatabase({maxConnections: 20})
  const dir = mkdtempSync(join(tmpdir(), 'ingot-lifecycle-'))
  const {db} = database
  const clock = systemClock
  const evidence = createEvidence({db})
  const inventory = createInventory({db, sealer: createSealer(Buffer.alloc(32, 7))})
  const ipam = createIpam({db, clock, log})
  const artefacts = createArtefacts({dir: join(dir, 'artefacts'), log})
  for (const name of ['ramdisk/vmlinuz', 'ramdisk/initrd', 'images/debian-12/manifest.json', 'images/debian-12/manifest.lines']) {
    const file = join(dir, 'content')
    writeFileSync(file, `content of ${name}`)
    await artefacts.importFile(name, file, {kind: name.startsWith('images') ? 'image' : 'kernel', version: '1', source: 'test'})
  }
  const claims = createClaims({db, evidence})
  const boot = createBoot({db, evidence, claims, artefacts, clock, log})
  await new Promise<void>(resolve => boot.server.listen(0, '127.0.0.1', () => resolve()))
  const bootUrl = `http://127.0.0.1:${(boot.server.address() as AddressInfo).port}`
  const machines = new Map<string, SimulatedMachine>()
  const power = createPowerDouble(
    machineId => powerOn(machineId),
    machineId => powerOff(machineId),
  )
  const handoff = createHandoff({dir: join(dir, 'handoff'), log, clock})
  const services: LifecycleServices = {
    db,
    clock,
    log,
    evidence,
    inventory,
    ipam,
    power: power.power,
    handoff,
    artefacts,
    renderInstall: input => [
      {path: 'etc/hostname', mode: 0o644, body: `${input.hostname}\n`},
      {path: 'etc/ingot/first-boot.conf', mode: 0o600, body: `url ${input.bootUrl}\ntoken ${FIRST_BOOT_TOKEN}\n`},
    ],
  }
  const lifecycle = createLifecycle(services)
  const queue = createPool({url: database.url, applicationName: 'test-queue', log})
  let worker = options.worker === false ? undefined : await startWorker(services, queue, 4)
  const prefix = await withTx(db, tx =>
    ipam.createPrefix(tx, {cidr: '127.0.0.0/16', boot_url: bootUrl, gateway: '127.0.255.254'}, 'test'),
  )

  function powerOn(machineId: string): void {
    const machine = machines.get(machineId)
    if (!machine || machine.on) return
    machine.on = true
    machine.boots++
    const boot = machine.boots
    void live(machineId, () => machine.on && machine.boots === boot).catch(error => {
      machine.journal.push(`died: ${error instanceof Error ? error.message : String(error)}`)
    })
  }

  function powerOff(machineId: string): void {
    const machine = machines.get(machineId)
    if (machine) machine.on = false
  }

  /** One life from power-on: netboot, then whatever the script says, again after each reboot. */
  async function live(machineId: string, alive: () => boolean): Promise<void> {
    const machine = machines.get(machineId)
    if (!machine || machine.behaviour.silent) return
    for (let reboots = 0; reboots < 4 && alive(); reboots++) {
      const script = await netboot(machine.mac)
      machine.journal.push(
        script === undefined ? 'nothing' : script.includes('exit 1\n') && !script.includes('kernel') ? 'local' : 'ramdisk',
      )
      const token = /ingot\.token=(\S+)/.exec(script ?? '')?.[1]
      if (!token) {
        if (machine.behaviour.noFirstBoot) return
        await firstBoot(machineId)
        return
      }
      if (machine.behaviour.resets) {
        machine.behaviour.resets = false
        continue
      }
      const then = await ramdisk(machine, token, machineId, alive)
      if (then === 'poweroff') {
        machine.on = false
        power.observe(machineId, 'off')
        return
      }
      if (then !== 'reboot') return
    }
  }

  async function netboot(mac: Mac): Promise<string | undefined> {
    const response = await fetch(`${bootUrl}/ipxe/${mac.replaceAll(':', '-')}`)
    return response.status === 200 ? await response.text() : undefined
  }

  async function callBoot(
    token: string,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{status: number; lines: Map<string, string>; text: string}> {
    const response = await fetch(`${bootUrl}${path}`, {
      method,
      headers: {authorization: `Bearer ${token}`},
      ...(body === undefined ? {} : {body: JSON.stringify(body)}),
    })
    const text = await response.text()
    const lines = new Map(text.split('\n').map(line => [line.split(' ')[0] ?? '', line.slice(line.indexOf(' ') + 1)]))
    return {status: response.status, lines, text}
  }

  async function ramdisk(machine: SimulatedMachine, token: string, machineId: string, alive: () => boolean): Promise<string> {
    const call = (...request: Parameters<typeof callBoot>) => {
      if (!alive()) throw new Error('its power went off')
      return callBoot(...request)
    }
    const hello = await call(token, 'POST', '/ramdisk/hello', {mac: machine.mac, firmware: 'bios', uptime_s: 3})
    if (hello.status !== 200) return 'refused'
    if (hello.lines.get('stage') === 'inspect') {
      const facts = {
        version: 1,
        firmware: 'bios',
        dmi: {serial: `SN-${machine.mac.replaceAll(':', '')}`, uuid: '11111111-2222-3333-4444-000000000001'},
        disks: [{name: 'vda', size_bytes: 4e9, signature: machine.behaviour.signature ?? null}],
        nics: [{name: 'eth0', mac: machine.mac, link: true}],
        bmc: null,
        ...machine.behaviour.facts,
      }
      return (await call(token, 'POST', '/ramdisk/facts', facts)).lines.get('then') ?? 'refused'
    }
    const stage = hello.lines.get('stage')
    if (stage === 'test') {
      machine.journal.push('burned in')
      const order = await call(token, 'GET', '/ramdisk/order')
      if (machine.behaviour.fails) {
        await call(token, 'POST', '/ramdisk/events', {kind: 'failed', ...machine.behaviour.fails})
        return 'poweroff'
      }
      const results = {memory_mb_s: 9000, seconds: Number(order.lines.get('seconds'))}
      return (await call(token, 'POST', '/ramdisk/events', {kind: 'tested', ...results})).lines.get('then') ?? 'refused'
    }
    if (stage === 'rescue' || stage === 'service') return stay(machine, token, call)
    machine.session = randomBytes(32).toString('hex')
    const claim = await call(token, 'POST', '/ramdisk/claim', {session: machine.session})
    machine.journal.push(claim.status === 200 ? 'claimed' : `claim ${claim.lines.get('refused')}`)
    if (claim.status !== 200) return 'reboot'
    await machine.behaviour.afterClaim?.()
    const session = claim.lines.get('session') ?? ''
    const event = (body: unknown) => call(session, 'POST', '/ramdisk/events', body)
    await event({kind: 'progress', step: 'write', percent: 50})
    if (machine.behaviour.fails) {
      await event({kind: 'failed', ...machine.behaviour.fails})
      return 'poweroff'
    }
    if (claim.lines.get('action') === 'clean') {
      const wiped = await event({kind: 'wiped', disks: [{name: 'vda', size_bytes: 4e9, verified: 'read_back'}]})
      return wiped.lines.get('then') ?? 'refused'
    }
    machine.journal.push(`wipe ${claim.lines.get('wipe')}`)
    const config = await fetch(`${bootUrl}${claim.lines.get('config')}`, {headers: {authorization: `Bearer ${session}`}})
    firstBootTokens.set(machineId, /token (\S+)/.exec(Buffer.from(await config.arrayBuffer()).toString('latin1'))?.[1] ?? '')
    await event({kind: 'disk_written', disk: 'vda', bytes: 1000, image_digest: 'x'})
    return (await event({kind: 'local_boot_set', method: 'firmware_order'})).lines.get('then') ?? 'refused'
  }

  /** Says that it stays, and asks until it is told to leave: the ramdisk of a machine with a BMC is simply switched off. */
  async function stay(machine: SimulatedMachine, token: string, call: typeof callBoot): Promise<string> {
    machine.journal.push(`stays: ${(await call(token, 'GET', '/ramdisk/order')).text.trim()}`)
    await call(token, 'POST', '/ramdisk/events', {kind: 'ready', ssh: null})
    for (;;) {
      const hello = await call(token, 'POST', '/ramdisk/hello', {mac: machine.mac, firmware: 'bios', uptime_s: 3})
      if (hello.status !== 200) return 'reboot'
      if (hello.lines.get('stage') === 'leave') {
        await call(token, 'POST', '/ramdisk/events', {kind: 'left'})
        return 'reboot'
      }
      await sleep(25)
    }
  }

  const firstBootTokens = new Map<string, string>()
  async function firstBoot(machineId: string): Promise<void> {
    const token = firstBootTokens.get(machineId)
    if (!token) return
    firstBootTokens.delete(machineId)
    const body = {facts: {hostname: 'x', kernel: '6.1'}, ssh_host_keys: ['ssh-ed25519 AAAA'], user_data: []}
    await callBoot(token, 'POST', '/first-boot', body)
  }

  return {
    db,
    url: database.url,
    dir,
    bootUrl,
    prefix,
    services,
    lifecycle,
    evidence,
    ipam,
    inventory,
    claims,
    power,
    machines,
    netboot,
    call: callBoot,
    /** Declares a machine with an IPMI BMC that the power double plays, or one that is switched by hand. */
    async declare(mac: string, behaviour: SimulatedRamdisk = {}, driver: 'ipmi' | 'manual' = 'ipmi') {
      const bmc = driver === 'manual' ? {driver} : {driver, address: '127.0.0.1', username: 'u', password: new Secret('p')}
      const machine = await withTx(db, tx => lifecycle.declare(tx, {macs: [mac as Mac], prefixId: prefix.id, bmc}, 'test'))
      machines.set(machine.id, simulated(mac as Mac, behaviour))
      return machine
    },
    /** A machine that nobody declared is switched on by hand. */
    switchOn(mac: string, behaviour: SimulatedRamdisk = {}) {
      machines.set(mac, simulated(mac as Mac, behaviour))
      powerOn(mac)
    },
    /** A person switches a declared machine off and on. */
    switchByHand(machineId: string) {
      powerOff(machineId)
      powerOn(machineId)
    },
    /** Puts a machine into a state as if it had come there by its jobs. */
    async place(machineId: string, state: 'enrolled' | 'available' | 'active') {
      await db
        .updateTable('machine_states')
        .set({state, state_since: new Date(), dirty: state !== 'available'})
        .where('machine_id', '=', machineId)
        .execute()
    },
    async settled(jobId: string, limitMs = 60_000) {
      const end = Date.now() + limitMs
      for (;;) {
        const {job, attempts, phases} = await lifecycle.job(jobId)
        if (job.finished_at) return {job, attempts, phases}
        if (Date.now() > end)
          throw new Error(`job ${jobId} (${job.kind}) still ${job.state} in ${job.phase}, attempt ${job.attempt}`)
        await sleep(25)
      }
    },
    async stateOf(machineId: string) {
      return (await lifecycle.state(machineId))?.state
    },
    async restartWorker() {
      await worker?.stop()
      worker = await startWorker(services, queue, 4)
    },
    stopWorker: () => worker?.stop(),
    /** A second worker, as a second process would be. */
    async startSecond() {
      const pool = createPool({url: database.url, applicationName: 'test-second-queue', log})
      const second = await startWorker(services, pool, 4)
      return {
        id: second.id,
        async stop() {
          await second.stop()
          await pool.end()
        },
      }
    },
    /** Sets a job's deadline into the past. */
    async expire(jobId: string) {
      await sql`UPDATE jobs SET deadline = now() - interval '1 second', wake_at = now() WHERE id = ${jobId}`.execute(db)
    },
    async close() {
      for (const machine of machines.values()) machine.on = false
      await worker?.stop()
      await queue.end()
      boot.server.closeAllConnections()
      await new Promise<void>(resolve => boot.server.close(() => resolve()))
      await database.drop()
      rmSync(dir, {recursive: true, force: true})
    },
  }
}

/** Another connection to the same database, as a second process would have. */
export function secondConnection(url: string) {
  return createDb({url, applicationName: 'test-second', log})
}
