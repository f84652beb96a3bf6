/**
 * The main job, on real input, in one continuous journey: a machine with an empty disk is switched on inside a window, enrols, is wiped,
 * provisioned while everything is killed twice, handed to ansible, used, installed again otherwise, given back, and then never sees an
 * installer again, not even from a boot service that was asleep and has lost its database.
 */
import {readFileSync} from 'node:fs'
import {afterAll, beforeAll, beforeEach, describe, expect, it, onTestFailed} from 'vitest'
import type {Event, Job, Machine, Page} from '../../cli/shapes.ts'
import {buildLabArtefacts} from '../../lab/artefacts.ts'
import {createRack, RACK, RACK_IMAGE, type Rack} from '../../lab/rack.ts'
import {machineByMac, phasesOf, reachState, settled, waitFor} from '../../lab/walk.ts'

const MINUTE_MS = 60_000
/** Emulated machines on shared cores: everything waits for evidence, and gives up only when something is surely stuck. */
const LONG_MS = 20 * MINUTE_MS

const PLAYBOOK = `- hosts: all
  gather_facts: true
  tasks:
    - name: leave a mark
      ansible.builtin.copy:
        content: "{{ ansible_facts.distribution }} {{ ansible_facts.distribution_version }}\\n"
        dest: /root/handed-over
`

type Full = Machine & {facts: {inspection: Inspection | null; first_boot: {ssh_host_keys: string[]; user_data: unknown[]} | null}}
type Inspection = {
  disks: {name: string; serial: string; size_bytes: number; signature: string | null}[]
  nics: {mac: string}[]
  bmc: {address: string} | null
  dmi: {serial: string}
}

let rack: Rack
beforeAll(async () => {
  const builtDir = await buildLabArtefacts(line => process.stderr.write(`${line}\n`))
  rack = await createRack({name: 'ingot-journey', builtDir})
  await rack.ingot.start()
}, LONG_MS)
/** Each leg begins where the one before ended: after a failure the rest would only wait in vain. */
let failed = false
beforeEach(context => {
  context.skip(failed, 'an earlier leg of the journey failed')
  onTestFailed(() => {
    failed = true
  })
})
afterAll(async () => {
  await rack?.close({keepFiles: failed})
}, MINUTE_MS)

const look = async (): Promise<Full> => {
  const machine = await machineByMac(rack.ingot.client, RACK.mac)
  if (!machine) throw new Error('the machine is not known')
  return rack.ingot.client.get<Full>(`/v1/machines/${machine.id}`)
}

const post = async (verb: string, body?: unknown): Promise<Job> => {
  const {id} = await look()
  return (await rack.ingot.client.send<{job: Job}>('POST', `/v1/machines/${id}/${verb}`, body)).job
}

const phaseReached = (jobId: string, phase: string) =>
  waitFor(`phase ${phase}`, LONG_MS, async () => {
    const job = await rack.ingot.client.get<Job>(`/v1/jobs/${jobId}`)
    if (job.finished_at) throw new Error(`the job ended in ${job.state} before ${phase}: ${JSON.stringify(job.cause)}`)
    return phasesOf(job, 0).some(row => row.phase === phase) ? job : undefined
  })

/** Ingot's own log lines about what it let machines boot. */
const targets = (): {target: string; stage?: string}[] =>
  readFileSync(rack.ingot.logFile, 'utf8')
    .split('\n')
    .filter(line => line.includes('"boot target"'))
    .map(line => JSON.parse(line) as {target: string; stage?: string})

describe('the main job', () => {
  it('enrols a machine that nobody declared, by its power-on alone, with its facts and its BMC', async () => {
    await rack.openWindow(false)
    await rack.bmc.ipmitool(['chassis', 'power', 'on'])
    await reachState(rack.ingot.client, RACK.mac, ['enrolled'], LONG_MS)
    const machine = await look()
    expect(machine.flags.quarantined).toBeNull()
    expect(machine.facts.inspection?.disks).toMatchObject([
      {name: 'vda', serial: 'DISK0', size_bytes: 4 * 1024 ** 3, signature: null},
    ])
    expect(machine.facts.inspection?.nics.map(nic => nic.mac)).toEqual([RACK.mac])
    expect(machine.facts.inspection?.dmi.serial).toBe(rack.machine.serial)
    expect(machine.bmc).toMatchObject({driver: 'ipmi', address: RACK.bmc})
    expect(machine.addresses).toMatchObject([{purpose: 'boot'}])
    expect(rack.machine.isPowered()).toBe(false)
  })

  it('wipes it on request and reads every byte back', async () => {
    await rack.machine.fillDisk({offset: 2 * 1024 ** 3, length: 1024 ** 2, byte: 0xa5})
    expect(await rack.machine.diskIsZero()).toBe(false)
    const job = await settled(rack.ingot.client, (await post('clean')).id, LONG_MS)
    expect(job).toMatchObject({state: 'succeeded', cause: null})
    expect((await look()).state).toBe('available')
    expect(await rack.machine.diskIsZero()).toBe(true)
  })

  it('F1 provisions it with Debian and ansible although everything is killed before the claim and after the disk is written', async () => {
    const started = await post('provision', {
      template: 'debian/12',
      image: RACK_IMAGE,
      hostname: 'web01',
      parameters: {ssh_keys: [rack.sshPublicKey]},
      handoff: {kind: 'ansible', playbook_yaml: PLAYBOOK},
    })
    await phaseReached(started.id, 'loader_fetched')
    await rack.ingot.killEverything()
    await rack.ingot.start()
    await phaseReached(started.id, 'disk_written')
    await rack.ingot.killEverything()
    await rack.ingot.start()
    const job = await settled(rack.ingot.client, started.id, LONG_MS)
    expect(job.cause).toBeNull()
    expect(job.state).toBe('succeeded')
    expect(phasesOf(job, 0).map(row => row.phase)).toEqual(
      expect.arrayContaining(['claimed', 'disk_written', 'first_boot', 'handed_off']),
    )
    expect((await look()).state).toBe('active')
  })

  it('lets its user in by the key given, with the host keys it reported itself, on the one address it always had', async () => {
    const machine = await look()
    const [address] = machine.addresses ?? []
    expect(machine.addresses).toHaveLength(1)
    const answer = await rack.ssh(
      address?.address ?? '',
      machine.facts.first_boot?.ssh_host_keys ?? [],
      'hostname; cat /root/handed-over',
    )
    expect(answer.stdout).toBe('web01\nDebian 12\n')
    const leases = await rack.ingot.client.get<{holder: {name: string}}>(`/v1/addresses/${address?.address}`)
    expect(leases.holder.name).toBe(machine.name)
  })

  it('installs it again with other parameters', async () => {
    const started = await post('reinstall', {
      hostname: 'web02',
      parameters: {user_data: [{name: 'mark', body: '#!/bin/sh\necho again > /root/mark\n'}]},
      handoff: {kind: 'none'},
    })
    const job = await settled(rack.ingot.client, started.id, LONG_MS)
    expect(job.cause).toBeNull()
    const machine = await look()
    expect(machine.facts.first_boot?.user_data).toMatchObject([{exit_code: 0}])
    const [address] = machine.addresses ?? []
    const command = 'hostname; cat /root/mark; test -e /root/handed-over && echo kept || echo new'
    const answer = await rack.ssh(address?.address ?? '', machine.facts.first_boot?.ssh_host_keys ?? [], command)
    expect(answer.stdout).toBe('web02\nagain\nnew\n')
  })

  it('takes it back: off, wiped, every byte zero, available', async () => {
    const job = await settled(rack.ingot.client, (await post('deprovision')).id, LONG_MS)
    expect(job.cause).toBeNull()
    expect(await look()).toMatchObject({state: 'available', provisioned: null, flags: {dirty: false}})
    expect(rack.machine.isPowered()).toBe(false)
    expect(await rack.machine.diskIsZero()).toBe(true)
  })

  it('sends it to its own disk at three idle netboots', async () => {
    for (let boot = 0; boot < 3; boot++) {
      const before = targets().length
      await rack.bmc.ipmitool(['chassis', 'power', 'on'])
      await waitFor('a boot target', LONG_MS, async () => (targets().length > before ? true : undefined))
      await waitFor('the firmware to go on', LONG_MS, async () =>
        rack.machine.serialText({sincePowerOn: true}).includes('booting from the local disk') ? true : undefined,
      )
      expect(
        targets()
          .slice(before)
          .map(row => row.target),
      ).toEqual(['local'])
      await rack.bmc.ipmitool(['chassis', 'power', 'off'])
      await waitFor('power off', MINUTE_MS, async () => (rack.machine.isPowered() ? undefined : true))
    }
    expect(await rack.machine.diskIsZero()).toBe(true)
  })
})

describe('what keeps it honest', () => {
  it('F19 leaves the disk alone when the boot service slept through the end of the job and woke without its database', async () => {
    await rack.machine.fillDisk({offset: 0, length: 4 * 1024 ** 2, byte: 0x5a})
    const before = await rack.machine.diskDigest()
    const {wire, postgres} = await rack.ingot.pids()
    if (!wire || postgres.length === 0) throw new Error('wire or PostgreSQL does not run')
    process.kill(wire, 'SIGSTOP')
    const started = await post('clean')
    await phaseReached(started.id, 'power_cycled')
    await rack.ingot.client.send('POST', `/v1/jobs/${started.id}/cancel`)
    const ended = await settled(rack.ingot.client, started.id, LONG_MS)
    expect(ended.state).toBe('cancelled')
    for (const pid of postgres) process.kill(pid, 'SIGSTOP')
    try {
      process.kill(wire, 'SIGCONT')
      await rack.machine.powerOff()
      await rack.machine.powerOn()
      await waitFor('local boot', LONG_MS, async () =>
        rack.machine.serialText({sincePowerOn: true}).includes('booting from the local disk') ? true : undefined,
      )
      expect(rack.machine.serialText({sincePowerOn: true})).not.toContain('starting the ramdisk')
    } finally {
      for (const pid of postgres) process.kill(pid, 'SIGCONT')
    }
    await rack.machine.powerOff()
    expect(await rack.machine.diskDigest()).toBe(before)
  })

  it('goes on by itself when the database is back, and the failed machine is cleaned on request', async () => {
    await waitFor('the API', LONG_MS, async () => {
      const page = await rack.ingot.client.get<Page<Event>>('/v1/events').catch(() => undefined)
      return page ? true : undefined
    })
    expect((await look()).state).toBe('failed')
    const job = await settled(rack.ingot.client, (await post('clean')).id, LONG_MS)
    expect(job.cause).toBeNull()
    expect((await look()).state).toBe('available')
    expect(await rack.machine.diskIsZero()).toBe(true)
  })

  it('shows no secret in its log, its events or its API', async () => {
    const events = await rack.ingot.client.get<Page<Event>>('/v1/events', {limit: 500})
    const shown = [readFileSync(rack.ingot.logFile, 'utf8'), JSON.stringify(events), JSON.stringify(await look())].join('\n')
    for (const secret of [rack.bmc.password, rack.ingot.token]) expect(shown).not.toContain(secret)
    expect(shown).not.toMatch(/\ba\.\d+\.(install|clean|first_boot)\.[\w-]{20}/)
  })
})
