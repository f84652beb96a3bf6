/**
 * Client architectures (option 93) as the IANA registry "Processor Architecture Types" lists them, and the loader each one runs. Pure.
 *
 * RFC 4578 §2.1 gave 7 to EBC and 9 to x64; its erratum and the registry swap them, and firmware of both opinions is in the field:
 * both boot the x64 loader. `loader: null` is an architecture Ingot can address but has nothing to boot with.
 */

export type LoaderKind = 'bios' | 'uefi-x64' | 'uefi-arm64'
export type Firmware = 'bios' | 'uefi' | 'other'

export type Architecture = {
  readonly code: number
  readonly name: string
  readonly firmware: Firmware
  readonly over: 'tftp' | 'http'
  readonly loader: LoaderKind | null
}

/** File names in the artefact manifest. A snapshot may name others. */
export const LOADERS: Readonly<Record<LoaderKind, string>> = {
  bios: 'undionly.kpxe',
  'uefi-x64': 'snponly.efi',
  'uefi-arm64': 'snponly-arm64.efi',
}

type Row = readonly [code: number, name: string, firmware: Firmware, over: 'tftp' | 'http', loader: LoaderKind | null]

const ROWS: readonly Row[] = [
  [0x00, 'x86 BIOS', 'bios', 'tftp', 'bios'],
  [0x01, 'NEC/PC98', 'bios', 'tftp', null],
  [0x02, 'Itanium', 'uefi', 'tftp', null],
  [0x03, 'DEC Alpha', 'other', 'tftp', null],
  [0x04, 'Arc x86', 'other', 'tftp', null],
  [0x05, 'Intel Lean Client', 'other', 'tftp', null],
  [0x06, 'x86 UEFI', 'uefi', 'tftp', null],
  [0x07, 'x64 UEFI', 'uefi', 'tftp', 'uefi-x64'],
  [0x08, 'EFI Xscale', 'uefi', 'tftp', null],
  [0x09, 'EBC', 'uefi', 'tftp', 'uefi-x64'],
  [0x0a, 'ARM 32-bit UEFI', 'uefi', 'tftp', null],
  [0x0b, 'ARM 64-bit UEFI', 'uefi', 'tftp', 'uefi-arm64'],
  [0x0c, 'PowerPC Open Firmware', 'other', 'tftp', null],
  [0x0d, 'PowerPC ePAPR', 'other', 'tftp', null],
  [0x0e, 'POWER OPAL v3', 'other', 'tftp', null],
  [0x0f, 'x86 UEFI over HTTP', 'uefi', 'http', null],
  [0x10, 'x64 UEFI over HTTP', 'uefi', 'http', 'uefi-x64'],
  [0x11, 'EBC over HTTP', 'uefi', 'http', 'uefi-x64'],
  [0x12, 'ARM 32-bit UEFI over HTTP', 'uefi', 'http', null],
  [0x13, 'ARM 64-bit UEFI over HTTP', 'uefi', 'http', 'uefi-arm64'],
  [0x14, 'PC/AT BIOS over HTTP', 'bios', 'http', null],
  [0x15, 'ARM 32-bit U-Boot', 'other', 'tftp', null],
  [0x16, 'ARM 64-bit U-Boot', 'other', 'tftp', null],
  [0x17, 'ARM 32-bit U-Boot over HTTP', 'other', 'http', null],
  [0x18, 'ARM 64-bit U-Boot over HTTP', 'other', 'http', null],
  [0x19, 'RISC-V 32-bit UEFI', 'uefi', 'tftp', null],
  [0x1a, 'RISC-V 32-bit UEFI over HTTP', 'uefi', 'http', null],
  [0x1b, 'RISC-V 64-bit UEFI', 'uefi', 'tftp', null],
  [0x1c, 'RISC-V 64-bit UEFI over HTTP', 'uefi', 'http', null],
  [0x1d, 'RISC-V 128-bit UEFI', 'uefi', 'tftp', null],
  [0x1e, 'RISC-V 128-bit UEFI over HTTP', 'uefi', 'http', null],
  [0x1f, 's390 Basic', 'other', 'tftp', null],
  [0x20, 's390 Extended', 'other', 'tftp', null],
  [0x21, 'MIPS 32-bit UEFI', 'uefi', 'tftp', null],
  [0x22, 'MIPS 64-bit UEFI', 'uefi', 'tftp', null],
  [0x23, 'Sunway 32-bit UEFI', 'uefi', 'tftp', null],
  [0x24, 'Sunway 64-bit UEFI', 'uefi', 'tftp', null],
  [0x25, 'LoongArch 32-bit UEFI', 'uefi', 'tftp', null],
  [0x26, 'LoongArch 32-bit UEFI over HTTP', 'uefi', 'http', null],
  [0x27, 'LoongArch 64-bit UEFI', 'uefi', 'tftp', null],
  [0x28, 'LoongArch 64-bit UEFI over HTTP', 'uefi', 'http', null],
  [0x29, 'ARM Raspberry Pi boot', 'other', 'tftp', null],
]

const BY_CODE: ReadonlyMap<number, Architecture> = new Map(
  ROWS.map(([code, name, firmware, over, loader]) => [code, {code, name, firmware, over, loader}]),
)

export function findArchitecture(code: number): Architecture | undefined {
  return BY_CODE.get(code)
}

/** Option 93 is a list (RFC 4578 §2.1): the first that Ingot can boot, else the first that it knows. */
export function chooseArchitecture(codes: readonly number[]): Architecture | undefined {
  if (codes.length < 2) return codes[0] === undefined ? undefined : findArchitecture(codes[0])
  const known = codes.map(findArchitecture).filter(architecture => architecture !== undefined)
  return known.find(architecture => architecture.loader !== null) ?? known[0]
}

export const ARCHITECTURES: readonly Architecture[] = [...BY_CODE.values()]
