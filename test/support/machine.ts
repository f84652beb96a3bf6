/** One emulated machine for ramdisk tests: QEMU (TCG) on its user network, started from a kernel or from its disk. */
import {type ChildProcess, spawn} from 'node:child_process'
import {copyFileSync, existsSync, readFileSync} from 'node:fs'
import {join} from 'node:path'

export type MachineOptions = {
  /** Scratch folder of this machine: serial log, firmware variables. Kept between two starts. */
  readonly folder: string
  readonly firmware: 'bios' | 'uefi'
  readonly disks: readonly {
    readonly file: string
    readonly format: 'raw' | 'qcow2'
    readonly serial?: string
    readonly readOnly?: boolean
  }[]
  /** Absent: firmware boots the disk. */
  readonly kernel?: {readonly vmlinuz: string; readonly initrd: string; readonly commandLine: string}
  readonly mac?: string
  /** QEMU's name of the network card. */
  readonly card?: string
  readonly smbios?: Readonly<Record<string, string>>
  /** Host port that leads to the guest's port 22. */
  readonly sshPort?: number
  readonly memoryMb?: number
  readonly extraArgs?: readonly string[]
}

export type Machine = {
  readonly process: ChildProcess
  /** Resolves when QEMU has ended: the guest powered off or, with `-no-reboot`, restarted. */
  readonly ended: Promise<void>
  readonly startedMs: number
  serial(): string
  stop(): Promise<void>
}

export const MAC = '52:54:00:70:78:01'

export function startMachine(options: MachineOptions): Machine {
  const serialLog = join(options.folder, 'serial.log')
  const child = spawn('qemu-system-x86_64', [...qemuArguments(options, serialLog)], {stdio: ['ignore', 'pipe', 'pipe']})
  const complaints: string[] = []
  child.stderr.on('data', (chunk: Buffer) => complaints.push(chunk.toString('utf8')))
  const ended = new Promise<void>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code =>
      code === 0 || child.killed ? resolve() : reject(new Error(`QEMU ended with ${code}: ${complaints.join('')}`)),
    )
  })
  return {
    process: child,
    ended,
    startedMs: performance.now(),
    serial: () => (existsSync(serialLog) ? readFileSync(serialLog, 'latin1') : ''),
    async stop() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

function* qemuArguments(options: MachineOptions, serialLog: string): Iterable<string> {
  yield* ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot']
  yield* ['-accel', 'tcg,thread=multi,tb-size=256', '-cpu', 'max', '-smp', '2', '-m', String(options.memoryMb ?? 512)]
  yield* ['-machine', options.firmware === 'uefi' ? 'q35,graphics=off' : 'pc,graphics=off']
  if (options.firmware === 'uefi') {
    const variables = join(options.folder, 'variables.fd')
    if (!existsSync(variables)) copyFileSync('/usr/share/OVMF/OVMF_VARS_4M.fd', variables)
    yield* ['-drive', 'if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd']
    yield* ['-drive', `if=pflash,format=raw,unit=1,file=${variables}`]
  }
  const forward = options.sshPort === undefined ? '' : `,hostfwd=tcp:127.0.0.1:${options.sshPort}-10.0.2.15:22`
  yield* [
    '-netdev',
    `user,id=n0${forward}`,
    '-device',
    `${options.card ?? 'virtio-net-pci'},netdev=n0,mac=${options.mac ?? MAC},romfile=`,
  ]
  for (const [index, disk] of options.disks.entries()) {
    yield* [
      '-drive',
      `if=none,id=d${index},file=${disk.file},format=${disk.format},cache=unsafe,discard=unmap${disk.readOnly ? ',readonly=on' : ''}`,
    ]
    const serial = disk.serial === undefined ? '' : `,serial=${disk.serial.replaceAll(',', ',,')}`
    yield* ['-device', `virtio-blk-pci,drive=d${index}${serial},bootindex=${index + 1}`]
  }
  yield* ['-object', 'rng-random,id=r0,filename=/dev/urandom', '-device', 'virtio-rng-pci,rng=r0']
  for (const [name, value] of Object.entries(options.smbios ?? {}))
    yield* ['-smbios', `type=1,${name}=${value.replaceAll(',', ',,')}`]
  yield* ['-serial', `file:${serialLog}`]
  if (options.kernel)
    yield* ['-kernel', options.kernel.vmlinuz, '-initrd', options.kernel.initrd, '-append', options.kernel.commandLine]
  yield* options.extraArgs ?? []
}
