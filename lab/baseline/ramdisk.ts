/** Builds the baseline's ramdisk from what the host has: busybox-static, zstd, coreutils' dd, and a kernel's virtio modules. */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import {tmpdir} from 'node:os'
import {basename, dirname, join} from 'node:path'
import {fileURLToPath} from 'node:url'
import {runCommand} from '../commands.ts'

/** In the order in which they load. A kernel that has some built in ships no file for those. */
const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'failover',
  'net_failover',
  'virtio_net',
  'virtio_blk',
]

/**
 * @param modulesDir the kernel's `lib/modules/<version>`
 * @param out        file to write: a gzipped cpio
 */
export async function buildBaselineRamdisk(options: {modulesDir: string; out: string}): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'ingot-baseline-'))
  try {
    for (const directory of ['bin', 'dev', 'modules', 'proc', 'sys', 'tmp']) mkdirSync(join(root, directory))
    installScript(root, 'init.sh', 'init')
    installScript(root, 'udhcpc.sh', 'bin/udhcpc.sh')
    copyFileSync('/bin/busybox', join(root, 'bin/busybox'))
    symlinkSync('busybox', join(root, 'bin/sh'))
    await installProgram(root, '/usr/bin/zstd', 'zstd')
    await installProgram(root, '/bin/dd', 'gnu-dd')
    installModules(root, options.modulesDir)
    await runCommand(['sh', '-ec', 'find . | cpio -o -H newc -R 0:0 --quiet | gzip -6 >"$0"', options.out], {cwd: root})
  } finally {
    rmSync(root, {recursive: true, force: true})
  }
}

function installScript(root: string, source: string, target: string): void {
  const text = readFileSync(fileURLToPath(new URL(source, import.meta.url)))
  writeFileSync(join(root, target), text, {mode: 0o755})
}

/** With the shared libraries that `ldd` names, at the paths where the loader looks for them. */
async function installProgram(root: string, path: string, name: string): Promise<void> {
  copyFileSync(realpathSync(path), join(root, 'bin', name))
  const {stdout} = await runCommand(['ldd', path])
  for (const [library] of stdout.matchAll(/\/\S+\.so\S*/g)) {
    mkdirSync(join(root, dirname(library)), {recursive: true})
    copyFileSync(realpathSync(library), join(root, library))
  }
}

function installModules(root: string, modulesDir: string): void {
  const files = new Map<string, string>()
  for (const file of readdirSync(modulesDir, {recursive: true, encoding: 'utf8'})) {
    if (file.endsWith('.ko')) files.set(basename(file, '.ko').replaceAll('-', '_'), join(modulesDir, file))
  }
  const present = MODULES.filter(module => files.has(module))
  if (!present.includes('virtio_net')) throw new Error(`${modulesDir} holds no virtio_net.ko`)
  for (const module of present) copyFileSync(files.get(module) ?? '', join(root, 'modules', `${module}.ko`))
  writeFileSync(join(root, 'modules/order'), present.map(module => `${module}.ko\n`).join(''))
}
