/** The hand-made baseline, with the image, kernel and machine that Ingot gets. */
import {join} from 'node:path'
import {CACHE_DIR} from '../../lab/artefacts.ts'
import {type BaselineInputs, prepareBaseline} from '../../lab/baseline/prepare.ts'
import {type BaselinePhase, runBaseline} from '../../lab/baseline.ts'
import {RACK, RACK_IMAGE, type Rack} from '../../lab/rack.ts'
import {startCapture} from './capture.ts'
import {type CpuUse, cpuUse, hostBusyS} from './host-load.ts'
import {poweredOnMs, renew} from './machine.ts'
import type {Wait} from './server-waits.ts'

export const PEER_PACKAGES = ['dnsmasq-base', 'nginx-light']
const ADDRESS = '10.77.0.100'
const HTTP_PORT = 80

export type PeerRound = {
  readonly at_s: Record<BaselinePhase, number>
  readonly waits: readonly Wait[]
  readonly cpu: CpuUse
}

export function preparePeer(rack: Rack, builtDir: string): Promise<BaselineInputs> {
  return prepareBaseline({
    buildDir: builtDir,
    cacheDir: CACHE_DIR,
    dir: join(rack.network.dir, 'peer'),
    imageName: RACK_IMAGE,
    url: `http://${RACK.bridge.split('/')[0]}`,
    authorizedKey: rack.sshPublicKey,
  })
}

/** Ingot must be stopped. The machine is off afterwards. */
export async function provisionByPeer(rack: Rack, inputs: BaselineInputs): Promise<PeerRound> {
  const {network, machine} = rack
  await renew(machine)
  const capture = await startCapture(network, HTTP_PORT)
  const busyBefore = hostBusyS()
  const {phases_s, usage} = await runBaseline({network, machine, address: ADDRESS, sshKey: rack.sshKeyFile, ...inputs})
  const cpu = cpuUse(busyBefore, usage)
  const waits = await capture.stop()
  const bootedMs = poweredOnMs(machine) + phases_s.phone_home * 1000
  await machine.powerOff()
  return {at_s: phases_s, waits: waits.filter(wait => wait.at_ms <= bootedMs), cpu}
}
