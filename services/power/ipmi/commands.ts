/** The IPMI commands in use, as a table, with the bytes of their requests and answers (IPMI 2.0 §22, §28). Pure. */
import type {BootChoice, BootDevice, BootReading, Privilege} from '../drivers/driver.ts'

export type Command = {
  readonly netFn: number
  readonly command: number
  readonly needs: Privilege | 'nothing'
  readonly name: string
}

export const COMMANDS = {
  /** §22.13 */
  getAuthCapabilities: {netFn: 0x06, command: 0x38, needs: 'nothing', name: 'Get Channel Authentication Capabilities'},
  /** §22.18 */
  setPrivilege: {netFn: 0x06, command: 0x3b, needs: 'nothing', name: 'Set Session Privilege Level'},
  /** §22.19 */
  closeSession: {netFn: 0x06, command: 0x3c, needs: 'nothing', name: 'Close Session'},
  /** §28.2 */
  getChassisStatus: {netFn: 0x00, command: 0x01, needs: 'user', name: 'Get Chassis Status'},
  /** §28.3 */
  chassisControl: {netFn: 0x00, command: 0x02, needs: 'operator', name: 'Chassis Control'},
  /** §28.5 */
  chassisIdentify: {netFn: 0x00, command: 0x04, needs: 'operator', name: 'Chassis Identify'},
  /** §28.12 */
  setBootOptions: {netFn: 0x00, command: 0x08, needs: 'operator', name: 'Set System Boot Options'},
  /** §28.13 */
  getBootOptions: {netFn: 0x00, command: 0x09, needs: 'operator', name: 'Get System Boot Options'},
  /** §20.1 */
  getDeviceId: {netFn: 0x06, command: 0x01, needs: 'user', name: 'Get Device ID'},
  /** §31.2 */
  getSelInfo: {netFn: 0x0a, command: 0x40, needs: 'user', name: 'Get SEL Info'},
  /** §31.4 */
  reserveSel: {netFn: 0x0a, command: 0x42, needs: 'user', name: 'Reserve SEL'},
  /** §31.5 */
  getSelEntry: {netFn: 0x0a, command: 0x43, needs: 'user', name: 'Get SEL Entry'},
  /** §31.9 */
  clearSel: {netFn: 0x0a, command: 0x47, needs: 'operator', name: 'Clear SEL'},
  /** §33.9 */
  getSdrRepositoryInfo: {netFn: 0x0a, command: 0x20, needs: 'user', name: 'Get SDR Repository Info'},
  /** §33.11 */
  reserveSdrRepository: {netFn: 0x0a, command: 0x22, needs: 'user', name: 'Reserve SDR Repository'},
  /** §33.12 */
  getSdr: {netFn: 0x0a, command: 0x23, needs: 'user', name: 'Get SDR'},
  /** §35.2: for controllers without a repository */
  getDeviceSdrInfo: {netFn: 0x04, command: 0x20, needs: 'user', name: 'Get Device SDR Info'},
  /** §35.3 */
  getDeviceSdr: {netFn: 0x04, command: 0x21, needs: 'user', name: 'Get Device SDR'},
  /** §35.4 */
  reserveDeviceSdrs: {netFn: 0x04, command: 0x22, needs: 'user', name: 'Reserve Device SDR Repository'},
  /** §35.14 */
  getSensorReading: {netFn: 0x04, command: 0x2d, needs: 'user', name: 'Get Sensor Reading'},
  /** §34.1 */
  getFruAreaInfo: {netFn: 0x0a, command: 0x10, needs: 'user', name: 'Get FRU Inventory Area Info'},
  /** §34.2 */
  readFruData: {netFn: 0x0a, command: 0x11, needs: 'user', name: 'Read FRU Data'},
} as const satisfies Record<string, Command>

/** Chassis Control, data byte 1 (§28.3). `soft_off` emulates an over-temperature event: the ACPI shutdown. */
export const CHASSIS_CONTROL = {off: 0, on: 1, soft_off: 5} as const

export type ChassisStatus = {readonly on: boolean; readonly faults: readonly string[]}

const POWER_FAULTS = [
  {bit: 0x02, name: 'power_overload'},
  {bit: 0x08, name: 'power_fault'},
  {bit: 0x10, name: 'power_control_fault'},
] as const
const MISC_FAULTS = [
  {bit: 0x04, name: 'drive_fault'},
  {bit: 0x08, name: 'cooling_fault'},
] as const

/** @param data the answer without its completion code: current power state, last power event, miscellaneous state (§28.2) */
export function readChassisStatus(data: Buffer): ChassisStatus | undefined {
  const power = data[0]
  if (power === undefined) return undefined
  const misc = data[2] ?? 0
  const faults = [...POWER_FAULTS.filter(fault => power & fault.bit), ...MISC_FAULTS.filter(fault => misc & fault.bit)]
  return {on: (power & 1) === 1, faults: faults.map(fault => fault.name)}
}

/** Boot device selector, bits 5:2 of boot flags data 2 (Table 28-14, parameter 5). */
const BOOT_SELECTORS = {none: 0, pxe: 1, disk: 2, cdrom: 5, bios: 6} as const satisfies Record<BootDevice, number>

const VALID = 0x80
const PERSISTENT = 0x40
const EFI = 0x20

export const BOOT_PARAMETER = {setInProgress: 0, clearing: 3, acknowledge: 4, flags: 5} as const

/** Boot flags as data 1–5 of parameter 5 (Table 28-14). */
export function bootFlags(choice: BootChoice): readonly number[] {
  const persistent = choice.persistent ? PERSISTENT : 0
  const efi = choice.firmware === 'uefi' ? EFI : 0
  return [VALID | persistent | efi, BOOT_SELECTORS[choice.device] << 2, 0, 0, 0]
}

/** @param data the answer without its completion code: version, parameter, data 1–5 (§28.13) */
export function readBootFlags(data: Buffer): BootReading | undefined {
  const [, parameter, flags, selector] = data
  if (parameter === undefined || flags === undefined || selector === undefined) return undefined
  if ((parameter & 0x7f) !== BOOT_PARAMETER.flags) return undefined
  const number = (selector >> 2) & 0x0f
  const device = (Object.keys(BOOT_SELECTORS) as BootDevice[]).find(name => BOOT_SELECTORS[name] === number)
  return {device, valid: (flags & VALID) !== 0, persistent: (flags & PERSISTENT) !== 0, firmware: flags & EFI ? 'uefi' : 'bios'}
}

/** Completion codes worth a name (Table 5-2). */
export const COMPLETION = {
  busy: 0xc0,
  invalidCommand: 0xc1,
  invalidForLun: 0xc2,
  timeout: 0xc3,
  reservationCancelled: 0xc5,
  requestTruncated: 0xc6,
  wrongLength: 0xc7,
  lengthExceeded: 0xc8,
  parameterOutOfRange: 0xc9,
  cannotReturnThatMany: 0xca,
  notPresent: 0xcb,
  invalidField: 0xcc,
  notForThisSensor: 0xcd,
  noPrivilege: 0xd4,
  notInThisState: 0xd5,
  disabled: 0xd6,
} as const

const COMPLETION_TEXTS: Record<number, string> = {
  128: 'parameter not supported',
  129: 'privilege level not available for this user',
  130: 'privilege level exceeds the limit of the user or channel',
  192: 'busy',
  193: 'unknown command',
  194: 'command not valid here',
  195: 'timed out',
  196: 'out of space',
  197: 'reservation cancelled',
  198: 'request data truncated',
  199: 'wrong request length',
  200: 'request data too long',
  201: 'parameter out of range',
  202: 'cannot return that many bytes',
  203: 'not present',
  204: 'invalid data field',
  206: 'no answer from the managed system',
  211: 'destination unavailable',
  212: 'insufficient privilege',
  213: 'not supported in its present state',
  214: 'switched off on this BMC',
  255: 'unspecified error',
}

export function completionText(code: number): string {
  return `0x${code.toString(16).padStart(2, '0')} (${COMPLETION_TEXTS[code] ?? 'no meaning on record'})`
}
