/**
 * Two network namespaces with one cable between them: servers at 10.77.0.1, perfdhcp, which plays a relay, at 10.77.0.2. Whatever serves
 * runs on core 0, its database included, and the generator on core 1.
 */
import {runCommand} from '../../lab/commands.ts'
import {createLabNetwork, type LabNetwork, type LabProcess, type SpawnOptions} from '../../lab/network.ts'

export const SERVER = '10.77.0.1'
export const RELAY = '10.77.0.2'
export const SERVER_LINK = 'wire0'
const RELAY_LINK = 'wire1'
/** A core each, and before whatever else the host does: what others take of a core would be measured as ours or a peer's. */
const ON_SERVER_CORE = ['nice', '-n', '-15', 'taskset', '-c', '0']
const ON_GENERATOR_CORE = ['nice', '-n', '-15', 'taskset', '-c', '1']
/** Servers look at their interface once, at their start: it must be up by then. */
const LINK_LIMIT_MS = 10_000

export type Wires = {
  /** For files; removed at the end. */
  readonly dir: string
  startServer(argv: readonly string[], options?: SpawnOptions): LabProcess
  /** A command that must not take the server's core. */
  serverSide(argv: readonly string[], options?: Parameters<LabNetwork['exec']>[1]): ReturnType<LabNetwork['exec']>
  generate(argv: readonly string[], options?: Parameters<LabNetwork['exec']>[1]): ReturnType<LabNetwork['exec']>
  close(options?: {keepFiles?: boolean}): Promise<void>
}

/** @param name of the servers' namespace */
export async function createWires(name: string): Promise<Wires> {
  // The bridges that a lab network brings along are of no use here; their addresses are for documentation only (RFC 5737).
  const server = await createLabNetwork({name, bridgeAddress: '192.0.2.1/32', taps: 0})
  let client: LabNetwork | undefined
  try {
    client = await createLabNetwork({name: `${name}-client`, bridgeAddress: '192.0.2.2/32', taps: 0})
    await joinByCable(server, client)
    return withNetworks(server, client)
  } catch (error) {
    await client?.close()
    await server.close()
    throw error
  }
}

async function joinByCable(server: LabNetwork, client: LabNetwork): Promise<void> {
  const end = (link: string, network: LabNetwork) => ['name', link, 'netns', network.name]
  const cable = ['ip', 'link', 'add', ...end(SERVER_LINK, server), 'type', 'veth', 'peer', ...end(RELAY_LINK, client)]
  await runCommand(cable)
  for (const [network, link, address] of [
    [server, SERVER_LINK, SERVER],
    [client, RELAY_LINK, RELAY],
  ] as const) {
    const inside = (...args: string[]) => runCommand(['ip', '-n', network.name, ...args])
    await inside('addr', 'add', `${address}/16`, 'brd', '+', 'dev', link)
    await inside('link', 'set', link, 'up')
  }
  await client.exec(['ping', '-q', '-c', '1', '-W', String(LINK_LIMIT_MS / 1000), SERVER])
}

function withNetworks(server: LabNetwork, client: LabNetwork): Wires {
  return {
    dir: server.dir,
    startServer: (argv, options) => server.spawn([...ON_SERVER_CORE, ...argv], options),
    serverSide: (argv, options) => server.exec([...ON_GENERATOR_CORE, ...argv], options),
    generate: (argv, options) => client.exec([...ON_GENERATOR_CORE, ...argv], options),
    async close(options) {
      await client.close(options)
      await server.close(options)
    },
  }
}
