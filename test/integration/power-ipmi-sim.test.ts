/**
 * The power service against BMCs and clients that others wrote: Debian's `ipmi_sim` (package openipmi) as the BMC, and `ipmitool` and
 * `ipmipower` (freeipmi-tools) as judges of our BMC double.
 */
import {execFile, spawnSync} from 'node:child_process'
import {createSocket} from 'node:dgram'
import {mkdtemp, readdir, readFile, rm} from 'node:fs/promises'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {Writable} from 'node:stream'
import {inspect, promisify} from 'node:util'
import {pino} from 'pino'
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import {type IpmiSim, startIpmiSim} from '../../lab/ipmi-sim.ts'
import {systemClock} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {Secret} from '../../lib/secret.ts'
import {createPower, faultKind, type Power, type PowerParts, type PowerTarget} from '../../services/power/index.ts'
import {startBmc} from '../../sim/bmc/index.ts'
import {createRandom} from '../../sim/random.ts'

const PASSWORD = 'canary-Zq81-hidden'
const has = (program: string) => spawnSync('sh', ['-c', 'command -v "$0"', program]).status === 0

describe.skipIf(!has('ipmi_sim'))('ipmi_sim (skipped without the package openipmi)', () => {
  let directory: string
  let sim: IpmiSim
  let power: Power
  const powers: Power[] = []

  function startPower(parts: Partial<PowerParts> = {}): Power {
    const started = createPower({log: silentLog, clock: systemClock, restMs: 1, ...parts})
    powers.push(started)
    return started
  }
  function target(more: Partial<PowerTarget> = {}): PowerTarget {
    const login = {username: 'ingot', password: new Secret(PASSWORD)}
    return {machineId: 'm1', driver: 'ipmi', address: '127.0.0.1', port: sim.port, ...login, ...more}
  }
  const chassis = async (name: string) => (await readFile(join(sim.stateDir, name), 'utf8')).trim()

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'ingot-power-'))
    sim = await startIpmiSim({
      address: '127.0.0.1',
      port: await freePort(),
      stateDir: join(directory, 'bmc'),
      username: 'ingot',
      password: PASSWORD,
    })
    power = startPower()
  })
  afterAll(async () => {
    await Promise.all(powers.map(started => started.close()))
    await sim?.stop()
    await rm(directory, {recursive: true, force: true})
  })

  test('on, status, cycle, off: the chassis did each, and repeats change nothing', async () => {
    expect(await power.status(target())).toMatchObject({state: 'off'})
    expect(await power.on(target())).toEqual({done: 'seen', state: 'on', changed: true})
    expect(await chassis('power')).toBe('1')
    expect(await power.on(target())).toEqual({done: 'seen', state: 'on', changed: false})
    expect(await power.cycle(target())).toEqual({done: 'seen', state: 'on', changed: true})
    expect(await power.off(target())).toEqual({done: 'seen', state: 'off', changed: true})
    expect(await chassis('power')).toBe('0')
    expect(await power.off(target())).toEqual({done: 'seen', state: 'off', changed: false})
    expect(await chassis('orders')).toBe('power 1\npower 0\npower 1\npower 0')
  })

  test('soft off goes to the operating system', async () => {
    await power.on(target())
    expect(await power.softOff(target())).toEqual({done: 'seen', state: 'off', changed: true})
    expect(await chassis('orders')).toContain('shutdown')
  })

  test('the boot device arrives at the chassis and is read back, with the flags that ipmi_sim drops', async () => {
    for (const [device, name] of [
      ['pxe', 'pxe'],
      ['disk', 'default'],
      ['cdrom', 'cdrom'],
      ['bios', 'bios'],
      ['none', 'none'],
    ] as const) {
      const outcome = await power.setBootDevice(target(), device, {firmware: 'bios', persistent: false})
      expect(outcome).toEqual({done: 'seen', device, notKept: ['valid']})
      expect(await chassis('boot')).toBe(name)
    }
    const outcome = await power.setBootDevice(target(), 'pxe', {firmware: 'uefi', persistent: true})
    expect(outcome).toEqual({done: 'seen', device: 'pxe', notKept: ['valid', 'persistent', 'firmware']})
  })

  test('identify is taken', async () => {
    expect(await power.identify(target(), 5)).toEqual({done: 'seen', seconds: 5})
  })

  test('a wrong password, a wrong user and a closed port are told apart', async () => {
    const closed = await freePort()
    const kinds = await Promise.all(
      [target({password: new Secret('wrong')}), target({username: 'nobody'}), target({port: closed})].map(wrong =>
        power.on(wrong).then(() => 'done', faultKind),
      ),
    )
    expect(kinds).toEqual(['wrong_password', 'wrong_user', 'port_refused'])
  })

  test('100 verbs and 100 wrong passwords leave none of its 63 sessions taken', async () => {
    for (let round = 0; round < 100; round++) {
      expect((await power.status(target())).state).not.toBe('unknown')
      const wrong = target({password: new Secret(`wrong ${round}`)})
      expect(await power.status(wrong).then(() => 'done', faultKind)).toBe('wrong_password')
    }
  })

  test('F9 a frozen BMC is unreachable, and works again when it thaws', async () => {
    const impatient = startPower({retransmitMs: [50, 100, 100]})
    process.kill(sim.pid, 'SIGSTOP')
    try {
      expect(await impatient.status(target()).then(() => 'done', faultKind)).toBe('no_answer')
    } finally {
      process.kill(sim.pid, 'SIGCONT')
    }
    expect((await power.status(target())).state).toBe('off')
  })

  test('F9 with one datagram in eight lost each way, every verb still succeeds', async () => {
    const relay = await startLossyRelay(sim.port, 0.125, 623)
    try {
      const patient = startPower({retransmitMs: [60, 120, 180, 240, 300, 300, 300, 300]})
      const through = target({port: relay.port})
      for (let round = 0; round < 8; round++) {
        expect(await patient.setBootDevice(through, 'pxe', {firmware: 'bios', persistent: false})).toMatchObject({device: 'pxe'})
        expect(await patient.cycle(through)).toMatchObject({done: 'seen', state: 'on'})
        expect(await patient.off(through)).toMatchObject({done: 'seen', state: 'off'})
      }
      expect(relay.lost()).toBeGreaterThan(10)
    } finally {
      await relay.stop()
    }
  })

  test('F24 the password is in no argument, no environment and no log while verbs run', async () => {
    const lines: string[] = []
    const sink = new Writable({
      write(chunk, _encoding, done) {
        lines.push(String(chunk))
        done()
      },
    })
    const loud = startPower({log: pino({level: 'trace'}, sink)})
    const working = Promise.allSettled([
      loud.cycle(target()),
      loud.setBootDevice(target(), 'pxe', {firmware: 'uefi', persistent: true}),
      loud.status(target({username: 'nobody'})),
    ])
    const seen = await processTexts()
    const results = await working
    expect(seen).toContain('ipmi_sim')
    expect(seen).not.toContain(PASSWORD)
    expect(lines.join('')).toContain('power was switched')
    expect(lines.join('') + inspect(results, {depth: 10})).not.toContain(PASSWORD)
  })
})

describe.skipIf(!has('ipmitool'))('ipmitool accepts the BMC double (skipped without the package ipmitool)', () => {
  const run = promisify(execFile)
  for (const suite of ['3', '17']) {
    test(`with cipher suite ${suite}: power and boot device`, async () => {
      const bmc = await startBmc({users: {ingot: {password: PASSWORD}}})
      const login = ['-I', 'lanplus', '-H', '127.0.0.1', '-p', String(bmc.port), '-U', 'ingot', '-E', '-C', suite]
      const ipmitool = async (...words: string[]) => {
        const {stdout} = await run('ipmitool', [...login, ...words], {env: {...process.env, IPMI_PASSWORD: PASSWORD}})
        return stdout.trim()
      }
      expect(await ipmitool('power', 'status')).toBe('Chassis Power is off')
      await ipmitool('power', 'on')
      expect(bmc.power).toBe(1)
      await ipmitool('chassis', 'bootdev', 'pxe', 'options=efiboot')
      expect(await ipmitool('chassis', 'bootparam', 'get', '5')).toMatch(
        /Boot parameter data: a004000000.*BIOS EFI boot.*Force PXE/s,
      )
      await ipmitool('power', 'off')
      expect(bmc.orders).toEqual([1, 0])
      expect(bmc.suitesUsed).toEqual(Array(5).fill(Number(suite)))
      expect(bmc.openSessions).toBe(0)
      await bmc.stop()
    })
  }

  test('and reads from it what our own client reads: sensors, event log, inventory, device', async () => {
    const bmc = await startBmc({users: {ingot: {password: PASSWORD}}})
    bmc.log.add({at_s: 1_760_000_000, sensorType: 0x01, sensor: 0x01, eventType: 0x01, offset: 9})
    bmc.log.add({at_s: 1_760_000_060, sensorType: 0x08, sensor: 0x41, eventType: 0x6f, offset: 3, deasserted: true})
    const power = createPower({log: silentLog, clock: systemClock})
    const target = {machineId: 'm1', driver: 'ipmi', address: '127.0.0.1', port: bmc.port, username: 'ingot'} as const
    const ours = {...target, password: new Secret(PASSWORD)}
    const login = ['-I', 'lanplus', '-H', '127.0.0.1', '-p', String(bmc.port), '-U', 'ingot', '-E']
    const ipmitool = async (suite: string, ...words: string[]) => {
      const options = {env: {...process.env, IPMI_PASSWORD: PASSWORD}}
      return (await run('ipmitool', [...login, '-C', suite, ...words], options)).stdout.trim()
    }
    try {
      for (const suite of ['3', '17']) {
        const rows = async (...words: string[]) =>
          (await ipmitool(suite, ...words)).split('\n').map(line => line.split('|').map(cell => cell.trim()))
        const seen = await power.sensors(ours)
        const sensors = seen.done === 'seen' ? seen.sensors : []
        const read = (await rows('sensor')).filter(([, value]) => value !== 'na' && !value?.startsWith('0x'))
        expect(read.length).toBe(8)
        for (const [name, value, , , ...limits] of read) {
          const sensor = sensors.find(candidate => candidate.name === name)
          const at = sensor!.thresholds
          const lower = [at.lower_non_recoverable, at.lower_critical, at.lower_non_critical]
          const upper = [at.upper_non_critical, at.upper_critical, at.upper_non_recoverable]
          expect([name, sensor?.value?.toFixed(3), ...[...lower, ...upper].map(limit => limit?.toFixed(3))]).toEqual([
            name,
            value,
            ...limits,
          ])
        }
        const log = await power.events(ours)
        const entries = log.done === 'seen' ? log.entries : []
        expect(entries.map(({sensor, asserted}) => [sensor, asserted])).toEqual([
          ['CPU Temp', true],
          ['PSU2 Status', false],
        ])
        const theirs = await rows('sel', 'elist')
        expect(theirs.map(([, , , sensor, , direction]) => [sensor, direction])).toEqual([
          ['Temperature CPU Temp', 'Asserted'],
          ['Power Supply PSU2 Status', 'Deasserted'],
        ])
        const inventory = await power.fru(ours)
        const areas = inventory.done === 'seen' ? inventory.inventories.map(fru => fru.areas) : []
        const fru = [...(await rows('fru', 'print', '0')), ...(await rows('fru', 'print', '1'))].flat().join('\n')
        expect(areas.length).toBe(2)
        for (const area of areas.flatMap(fields => Object.values(fields)))
          for (const [field, text] of Object.entries(area))
            if (field !== 'made_at' && field !== 'file_id') expect(fru).toContain(text)
        const device = await power.device(ours)
        const info = (await rows('mc', 'info')).flat().join('\n')
        if (device.done === 'seen') expect(info).toMatch(new RegExp(`Manufacturer ID *: ${device.device.manufacturer_id}\n`))
        expect(device).toMatchObject({device: {firmware: /Firmware Revision *: (.*)/.exec(info)?.[1]}})
      }
      await ipmitool('17', 'sel', 'clear')
      expect(await power.events(ours)).toMatchObject({total: 0, entries: []})
      await ipmitool('3', 'chassis', 'identify', '7')
      expect(bmc.identify_s).toBe(7)
      expect(bmc.openSessions).toBe(0)
    } finally {
      await power.close()
      await bmc.stop()
    }
  })

  test.skipIf(!has('ipmipower'))('and so does ipmipower (skipped without the package freeipmi-tools)', async () => {
    const bmc = await startBmc({users: {ingot: {password: 'not-secret'}}})
    bmc.power = 1
    for (const suite of ['3', '17']) {
      const login = ['-D', 'LAN_2_0', '-I', suite, '-h', `127.0.0.1:${bmc.port}`, '-u', 'ingot', '-p', 'not-secret']
      expect((await run('ipmipower', [...login, '--stat'])).stdout).toBe('127.0.0.1: on\n')
    }
    await bmc.stop()
  })
})

async function freePort(): Promise<number> {
  const socket = createSocket('udp4')
  await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
  const {port} = socket.address()
  await new Promise<void>(resolve => socket.close(() => resolve()))
  return port
}

/** Arguments and environment of every process that can be read. */
async function processTexts(): Promise<string> {
  const pids = (await readdir('/proc')).filter(name => /^\d+$/.test(name))
  const files = pids.flatMap(pid => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`])
  const texts = await Promise.allSettled(files.map(file => readFile(file, 'utf8')))
  return texts.map(text => (text.status === 'fulfilled' ? text.value : '')).join('\n')
}

/** Stands between the client and a BMC and loses datagrams, seeded: the kernel of the test hosts has no netem. */
async function startLossyRelay(bmcPort: number, loss: number, seed: number) {
  const random = createRandom(seed)
  let lost = 0
  let clientPort = 0
  const [front, back] = [createSocket('udp4'), createSocket('udp4')]
  const isLost = () => {
    const drop = random() < loss
    if (drop) lost += 1
    return drop
  }
  front.on('message', (bytes, from) => {
    clientPort = from.port
    if (!isLost()) back.send(bytes, bmcPort, '127.0.0.1')
  })
  back.on('message', bytes => {
    if (!isLost()) front.send(bytes, clientPort, '127.0.0.1')
  })
  await Promise.all([front, back].map(socket => new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))))
  return {
    port: front.address().port,
    lost: () => lost,
    async stop() {
      await Promise.all([front, back].map(socket => new Promise<void>(resolve => socket.close(() => resolve()))))
    },
  }
}
