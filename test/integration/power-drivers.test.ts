/** The conformance suite of power drivers, over every driver of the registry. */
import {spawnSync} from 'node:child_process'
import {createSocket} from 'node:dgram'
import {mkdtemp, readFile, rm, writeFile} from 'node:fs/promises'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {startIpmiSim} from '../../lab/ipmi-sim.ts'
import {Secret} from '../../lib/secret.ts'
import {type BmcOptions, startBmc} from '../../sim/bmc/index.ts'
import {describeDrivers, type Ground} from '../support/power-conformance.ts'

const PASSWORD = 'conform-Rt55'
const hasIpmiSim = spawnSync('sh', ['-c', 'command -v ipmi_sim']).status === 0

describeDrivers([
  {driver: 'ipmi', name: 'our simulated BMC, cipher suite 17', start: () => simulated({suites: [17]})},
  {driver: 'ipmi', name: 'our simulated BMC, cipher suite 3, and few graces', start: () => simulated(GRACELESS)},
  {
    driver: 'ipmi',
    name: 'ipmi_sim',
    skip: hasIpmiSim ? undefined : 'the package openipmi is missing',
    start: independent,
  },
  {
    driver: 'manual',
    name: 'a person',
    start: async () => ({target: {machineId: 'rack1-7', driver: 'manual'}, stop: async () => undefined}),
  },
])

/** What real ones do at their worst, all at once. */
const GRACELESS: BmcOptions = {
  suites: [3],
  otherSuites: 'ignore',
  maxSessions: 1,
  partBytes: 20,
  changesAfter: 9,
  fruReadBytes: 24,
  wordwiseFru: true,
  erasePolls: 2,
  chassis: {slowPolls: 2, keptBootFlags: 0x80, refusedParameters: [0, 3, 4]},
}

async function simulated(options: BmcOptions): Promise<Ground> {
  const bmc = await startBmc({...options, users: {ingot: {password: PASSWORD}}})
  bmc.log.add({at_s: 1_760_000_000, sensorType: 0x01, sensor: 0x01, eventType: 0x01, offset: 9})
  bmc.log.add({at_s: 1_760_000_060, sensorType: 0x08, sensor: 0x41, eventType: 0x6f, offset: 3})
  return {
    ...targets(bmc.port, await freePort()),
    isOn: async () => bmc.power === 1,
    async pressButton(on) {
      bmc.power = on ? 1 : 0
    },
    stop: () => bmc.stop(),
  }
}

async function independent(): Promise<Ground> {
  const directory = await mkdtemp(join(tmpdir(), 'ingot-drivers-'))
  const stateDir = join(directory, 'bmc')
  const login = {username: 'ingot', password: PASSWORD}
  const sim = await startIpmiSim({address: '127.0.0.1', port: await freePort(), stateDir, ...login, withHealth: true})
  return {
    ...targets(sim.port, await freePort()),
    isOn: async () => (await readFile(join(stateDir, 'power'), 'utf8')).trim() === '1',
    pressButton: on => writeFile(join(stateDir, 'power'), on ? '1\n' : '0\n'),
    async stop() {
      await sim.stop()
      await rm(directory, {recursive: true, force: true})
    },
  }
}

function targets(port: number, deadPort: number) {
  const login = {username: 'ingot', password: new Secret(PASSWORD)}
  const target = {machineId: 'rack1-7', driver: 'ipmi', address: '127.0.0.1', port, ...login} as const
  return {
    target,
    wrongPassword: {...target, password: new Secret('another-Vx12')},
    wrongUser: {...target, username: 'nobody'},
    dead: {...target, port: deadPort},
  }
}

async function freePort(): Promise<number> {
  const socket = createSocket('udp4')
  await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
  const {port} = socket.address()
  await new Promise<void>(resolve => socket.close(() => resolve()))
  return port
}
