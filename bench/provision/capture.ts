/** What the machine asked and was answered, captured on the bridge while a run lasts. */
import {readFileSync, rmSync} from 'node:fs'
import {join} from 'node:path'
import type {LabNetwork} from '../../lab/network.ts'
import {waitFor} from '../../lab/walk.ts'
import {serverWaits, type Wait} from './server-waits.ts'

/** Enough of a frame for a request line and the options of a DHCP message. */
const FRAME_BYTES = 700

export type Capture = {stop(): Promise<Wait[]>}

export async function startCapture(network: LabNetwork, httpPort: number): Promise<Capture> {
  const [file, logFile] = [join(network.dir, 'capture.pcap'), join(network.dir, 'capture.log')]
  for (const path of [file, logFile]) rmSync(path, {force: true})
  const filter = `tcp port ${httpPort} or udp port 67`
  const argv = [
    'tcpdump',
    '-i',
    network.bridge,
    '-n',
    '-s',
    String(FRAME_BYTES),
    '-B',
    '16384',
    '-U',
    '-Z',
    'root',
    '-w',
    file,
    filter,
  ]
  const tcpdump = network.spawn(argv, {logFile})
  await waitFor('tcpdump to listen', 20_000, async () =>
    readFileSync(logFile, 'utf8').includes('listening on') ? true : undefined,
  )
  return {
    async stop() {
      await tcpdump.stop()
      const said = readFileSync(logFile, 'utf8')
      if (!/^0 packets dropped by kernel/m.test(said)) throw new Error(`packets are missing in the capture: ${said.trim()}`)
      return serverWaits(readFileSync(file), httpPort)
    },
  }
}
