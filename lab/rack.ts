/** The smallest rack: one network, Ingot serving it, one QEMU machine with an empty disk and its BMC. Used by demo, lab tests and bench. */
import {chmodSync, mkdirSync, readFileSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {importLabArtefacts} from './artefacts.ts'
import {createLabBmc, type LabBmc} from './bmc.ts'
import {type CommandResult, runCommand} from './commands.ts'
import {createLabIngot, type LabIngot} from './ingot.ts'
import {createQemuMachine, type LabMachine} from './machine.ts'
import {cleanupStale, createLabNetwork, type LabNetwork} from './network.ts'

export const RACK = {
  bridge: '10.77.0.1/22',
  prefix: '10.77.0.0/22',
  ipv6: 'fd77::1/64',
  bmc: '10.77.0.201',
  mac: '52:54:00:77:00:30',
} as const
/** Named by the build of lab/artefacts.ts. */
export const RACK_IMAGE = 'debian-12-cloud'

export type Rack = {
  readonly network: LabNetwork
  readonly ingot: LabIngot
  readonly machine: LabMachine
  readonly bmc: LabBmc
  readonly sshPublicKey: string
  readonly sshKeyFile: string
  /** Opens an enrolment window that knows the BMC's credentials, and lets blank newcomers be cleaned when `clean`. */
  openWindow(clean: boolean): Promise<void>
  /** Runs a command on a machine by SSH with the key given, believing only these host keys. */
  ssh(address: string, hostKeys: readonly string[], command: string): Promise<CommandResult>
  close(options?: {keepFiles?: boolean}): Promise<void>
}

export type RackOptions = {
  /** of the namespace; also what is cleaned up after a crashed run of the same name */
  readonly name: string
  readonly builtDir: string
  readonly firmware?: 'bios' | 'uefi'
  readonly disk_bytes?: number
  readonly memory_mb?: number
}

export async function createRack(options: RackOptions): Promise<Rack> {
  await cleanupStale(options.name)
  const network = await createLabNetwork({name: options.name, bridgeAddress: RACK.bridge, ipv6: RACK.ipv6, taps: 1})
  try {
    // Ingot's unprivileged user must be able to pass through to its state directory.
    chmodSync(network.dir, 0o711)
    const stateDir = join(network.dir, 'state')
    const ingot = await createLabIngot({network, stateDir, prefix: RACK.prefix})
    await importLabArtefacts(options.builtDir, stateDir)
    const machine = await createQemuMachine({
      network,
      name: 'machine',
      tap: 'tap0',
      mac: RACK.mac,
      firmware: options.firmware ?? 'bios',
      disks: [{size_bytes: options.disk_bytes ?? 4 * 1024 ** 3, serial: 'DISK0'}],
      smp: 2,
      memory_mb: options.memory_mb ?? 512,
      bmc: true,
    })
    const bmc = await createLabBmc({network, machine, address: RACK.bmc})
    const keyFile = join(network.dir, 'id_ed25519')
    await runCommand(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'lab', '-f', keyFile])
    return assemble({network, ingot, machine, bmc, keyFile})
  } catch (error) {
    await network.close()
    throw error
  }
}

function assemble(parts: {network: LabNetwork; ingot: LabIngot; machine: LabMachine; bmc: LabBmc; keyFile: string}): Rack {
  const {network, ingot, bmc, keyFile} = parts
  return {
    ...parts,
    sshPublicKey: readFileSync(`${keyFile}.pub`, 'utf8').trim(),
    sshKeyFile: keyFile,
    async openWindow(clean) {
      await ingot.client.send('POST', '/v1/windows', {
        prefix: RACK.prefix,
        minutes: 60,
        clean,
        bmc: {username: bmc.user, password: bmc.password},
      })
    },
    async ssh(address, hostKeys, command) {
      const known = join(network.dir, 'known_hosts')
      mkdirSync(network.dir, {recursive: true})
      writeFileSync(known, hostKeys.map(key => `${address} ${key}\n`).join(''))
      const options = [
        `UserKnownHostsFile=${known}`,
        'StrictHostKeyChecking=yes',
        'BatchMode=yes',
        'ConnectTimeout=10',
        'LogLevel=ERROR',
      ]
      return network.exec(
        ['ssh', '-F', 'none', ...options.flatMap(option => ['-o', option]), '-i', keyFile, `root@${address}`, command],
        {
          timeout_ms: 60_000,
        },
      )
    },
    async close(options) {
      await ingot.stop()
      await network.close(options)
    },
  }
}
