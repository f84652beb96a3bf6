/**
 * Lays a root file system and an EFI system partition out on a raw disk image that boots from BIOS and UEFI. No loop device, no mount:
 * partitions by sgdisk, ext4 by `mkfs.ext4 -d` straight into its place, GRUB's two BIOS stages patched here as grub-bios-setup does it.
 */
import {open, readFile, truncate, writeFile} from 'node:fs/promises'
import {run} from './run.ts'

const MIB = 1_048_576
const SECTOR = 512
/** In MiB from the start of the disk. One MiB each for the table and BIOS GRUB's core.img, 64 for the ESP, one at the end for the backup table. */
const CORE_AT = 1
const ESP_AT = 2
const ESP_MIB = 64
const ROOT_AT = ESP_AT + ESP_MIB

export type DiskParts = {
  readonly image: string
  readonly root: string
  readonly espImage: string
  readonly bootImage: string
  readonly coreImage: string
  readonly rootUuid: string
  readonly diskGuid: string
  readonly rootMib: number
}

/** Writes the image and returns where its root file system lies. */
export async function layOutDisk(
  parts: DiskParts,
): Promise<{readonly sizeBytes: number; readonly rootOffset: number; readonly rootBytes: number}> {
  const sizeBytes = (ROOT_AT + parts.rootMib + 1) * MIB
  const rootOffset = ROOT_AT * MIB
  const rootBytes = parts.rootMib * MIB
  await writeFile(parts.image, '')
  await truncate(parts.image, sizeBytes)
  await run('mkfs.ext4', [
    ...['-q', '-F', '-L', 'ingot-root', '-U', parts.rootUuid, '-J', 'size=64', '-d', parts.root],
    ...['-E', `offset=${rootOffset},hash_seed=${parts.rootUuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard`],
    ...[parts.image, `${rootBytes / 1024}k`],
  ])
  const partition = (number: number, fromMib: number, untilMib: number, type: string, name: string) => [
    ...[`-n${number}:${fromMib * (MIB / SECTOR)}:${untilMib * (MIB / SECTOR) - 1}`, `-t${number}:${type}`, `-c${number}:${name}`],
    `-u${number}:${parts.diskGuid.slice(0, -2)}${String(number).padStart(2, '0')}`,
  ]
  await run('sgdisk', [
    ...['-o', '-U', parts.diskGuid, '-a', '1'],
    ...partition(1, CORE_AT, ESP_AT, 'ef02', 'bios-grub'),
    ...partition(2, ESP_AT, ROOT_AT, 'ef00', 'esp'),
    ...partition(3, ROOT_AT, ROOT_AT + parts.rootMib, '8304', 'root'),
    parts.image,
  ])
  await installBiosGrub(parts)
  const disk = await open(parts.image, 'r+')
  await disk.write(await readFile(parts.espImage), 0, undefined, ESP_AT * MIB)
  await disk.close()
  return {sizeBytes, rootOffset, rootBytes}
}

/** boot.img into the MBR, core.img into the BIOS boot partition, each told where the next one lies (GRUB's boot.S, diskboot.S). */
async function installBiosGrub(parts: DiskParts): Promise<void> {
  const [boot, core] = await Promise.all([readFile(parts.bootImage), readFile(parts.coreImage)])
  const coreSector = BigInt((CORE_AT * MIB) / SECTOR)
  if (core.length > MIB) throw new Error(`core.img has ${core.length} bytes, more than its partition`)
  core.writeBigUInt64LE(coreSector + 1n, 0x1f4) // first block list: the rest of core.img follows its first sector
  boot.writeBigUInt64LE(coreSector, 0x5c)
  boot.writeUInt8(0xff, 0x64) // boot drive: the one that the BIOS passed
  boot.writeUInt16LE(0x9090, 0x66) // no floppy check, which some BIOSes trip over
  const disk = await open(parts.image, 'r+')
  await disk.write(boot, 0, 440) // up to the disk signature; the protective partition entry stays
  await disk.write(core, 0, core.length, CORE_AT * MIB)
  await disk.close()
}
