/** Starts Ingot on the state it has, while a client beside it asks for an address again and again: how long until it is offered one. */
import {fileURLToPath} from 'node:url'
import {runCommand} from '../../lab/commands.ts'
import {createLabNetwork, type LabNetwork} from '../../lab/network.ts'
import {RACK, type Rack} from '../../lab/rack.ts'
import {waitFor} from '../../lab/walk.ts'

const CLIENT = fileURLToPath(new URL('first-offer-client.ts', import.meta.url))
/** In the prefix, so that the answering host has a way back to it. */
const CLIENT_ADDRESS = '10.77.3.250/22'

export type Start = {
  /** from starting `ingot serve` until the offer had arrived, and until the API answered */
  readonly offer_s: number
  readonly api_s: number
}

/** A network namespace with a cable to the rack's bridge: the kernel takes no packet that comes from one of its own addresses. */
export async function createClientNetwork(rack: Rack): Promise<LabNetwork> {
  const name = `${rack.network.name}-client`
  const client = await createLabNetwork({name, bridgeAddress: CLIENT_ADDRESS, taps: 0})
  try {
    const inRack = (...args: string[]) => runCommand(['ip', '-n', rack.network.name, 'link', ...args])
    await inRack('add', 'cable0', 'type', 'veth', 'peer', 'name', 'cable1', 'netns', name)
    await inRack('set', 'cable0', 'master', rack.network.bridge, 'up')
    await runCommand(['ip', '-n', name, 'link', 'set', 'cable1', 'master', client.bridge, 'up'])
    await runCommand(['ip', '-n', name, 'route', 'add', '255.255.255.255/32', 'dev', client.bridge])
    return client
  } catch (error) {
    await client.close()
    throw error
  }
}

/** Ingot must be stopped, and must know the rack's machine. */
export async function startUntilOffer(rack: Rack, network: LabNetwork): Promise<Start> {
  const client = network.spawn([process.execPath, CLIENT, RACK.mac])
  try {
    let said = ''
    client.child.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    client.child.stderr?.pipe(process.stderr)
    await waitFor('the DHCP client to ask', 20_000, async () => (said.includes('asking') ? true : undefined))
    const startedMs = Date.now()
    const api_s = await rack.ingot.start()
    const offeredMs = await waitFor('an offer', 60_000, async () => {
      const told = /^offer (\d+)$/m.exec(said)?.[1]
      return told === undefined ? undefined : Number(told)
    })
    return {offer_s: (offeredMs - startedMs) / 1000, api_s}
  } finally {
    await client.stop()
  }
}
