/** What the numbers of sensors and events mean (IPMI 2.0 §42, §43.17), as tables. Pure. */

/** Table 42-3. A sensor's states, by the offset of the event, where its event type is 6f. */
const SENSOR_TYPES: Readonly<Record<number, readonly [name: string, ...offsets: string[]]>> = {
  1: ['temperature'],
  2: ['voltage'],
  3: ['current'],
  4: ['fan'],
  5: [
    'chassis_intrusion',
    'chassis opened',
    'drive bay opened',
    'I/O card area opened',
    'processor area opened',
    'LAN unplugged',
    'undocked',
    'fan area opened',
  ],
  6: [
    'secure_mode',
    'secure mode violated',
    'user password violated',
    'setup password violated',
    'network boot password violated',
    'password violated',
    'out-of-band password violated',
  ],
  7: [
    'processor',
    'internal error',
    'thermal trip',
    'BIST failed',
    'hung in POST',
    'startup failed',
    'configuration error',
    'uncorrectable CPU complex error',
    'present',
    'disabled',
    'terminator present',
    'throttled',
    'uncorrectable machine check',
    'correctable machine check',
  ],
  8: [
    'power_supply',
    'present',
    'failed',
    'failure predicted',
    'input lost',
    'input lost or out of range',
    'input out of range',
    'configuration error',
    'inactive',
  ],
  9: [
    'power_unit',
    'power off',
    'power cycle',
    '240 VA power down',
    'interlock power down',
    'AC lost',
    'soft power control failed',
    'power unit failed',
    'failure predicted',
  ],
  10: ['cooling_device'],
  11: ['other_units'],
  12: [
    'memory',
    'correctable ECC error',
    'uncorrectable ECC error',
    'parity error',
    'scrub failed',
    'device disabled',
    'ECC log limit reached',
    'present',
    'configuration error',
    'spare',
    'throttled',
    'critical overtemperature',
  ],
  13: [
    'drive_slot',
    'present',
    'fault',
    'failure predicted',
    'hot spare',
    'parity check in progress',
    'in critical array',
    'in failed array',
    'rebuild in progress',
    'rebuild aborted',
  ],
  14: ['memory_resize'],
  15: ['system_firmware', 'firmware error', 'firmware hang', 'firmware progress'],
  16: [
    'event_logging',
    'correctable memory error logging disabled',
    'event type logging disabled',
    'log cleared',
    'all event logging disabled',
    'log full',
    'log almost full',
    'correctable machine check logging disabled',
  ],
  17: ['watchdog_1'],
  18: [
    'system_event',
    'reconfigured',
    'OEM boot event',
    'undetermined hardware failure',
    'auxiliary log entry',
    'PEF action',
    'clock synchronised',
  ],
  19: [
    'critical_interrupt',
    'front panel NMI',
    'bus timeout',
    'I/O channel check NMI',
    'software NMI',
    'PCI PERR',
    'PCI SERR',
    'EISA timeout',
    'bus correctable error',
    'bus uncorrectable error',
    'fatal NMI',
    'bus fatal error',
    'bus degraded',
  ],
  20: ['button', 'power button pressed', 'sleep button pressed', 'reset button pressed', 'FRU latch open', 'FRU service request'],
  21: ['module'],
  22: ['microcontroller'],
  23: ['add_in_card'],
  24: ['chassis'],
  25: ['chip_set', 'soft power control failed', 'thermal trip'],
  26: ['other_fru'],
  27: ['cable', 'connected', 'incorrectly connected'],
  28: ['terminator'],
  29: [
    'boot_initiated',
    'power up',
    'hard reset',
    'warm reset',
    'user requested PXE boot',
    'boot to diagnostic',
    'OS hard reset',
    'OS warm reset',
    'restarted',
  ],
  30: ['boot_error', 'no bootable media', 'no diskette', 'PXE server not found', 'invalid boot sector', 'boot selection timeout'],
  31: [
    'os_boot',
    'A: boot completed',
    'C: boot completed',
    'PXE boot completed',
    'diagnostic boot completed',
    'CD-ROM boot completed',
    'ROM boot completed',
    'boot completed',
    'installation started',
    'installation completed',
    'installation aborted',
    'installation failed',
  ],
  32: [
    'os_stop',
    'stop during load',
    'run-time stop',
    'graceful stop',
    'graceful shutdown',
    'soft shutdown by PEF',
    'agent not responding',
  ],
  33: [
    'slot',
    'fault',
    'identify',
    'device installed',
    'ready for installation',
    'ready for removal',
    'power off',
    'removal request',
    'interlock',
    'disabled',
    'spare',
  ],
  34: ['acpi_state', 'S0/G0 working', 'S1', 'S2', 'S3', 'S4', 'S5/G2 soft off', 'S4/S5 soft off', 'G3 mechanical off'],
  35: ['watchdog_2', 'timer expired', 'hard reset', 'power down', 'power cycle'],
  36: ['platform_alert'],
  37: ['entity_presence', 'present', 'absent', 'disabled'],
  38: ['monitor_asic'],
  39: ['lan', 'heartbeat lost', 'heartbeat'],
  40: [
    'management_health',
    'sensor access degraded',
    'controller access degraded',
    'controller offline',
    'controller unavailable',
    'sensor failure',
    'FRU failure',
  ],
  41: ['battery', 'low', 'failed', 'present'],
  42: ['session_audit', 'session activated', 'session deactivated', 'invalid user or password', 'invalid password disable'],
  43: ['version_change', 'change detected'],
  44: ['fru_state', 'not installed', 'inactive', 'activation requested', 'activating', 'active', 'deactivation requested'],
}

/** Table 42-2: the states of the generic event types 02 to 0c. */
const GENERIC_TYPES: Readonly<Record<number, readonly string[]>> = {
  2: ['idle', 'active', 'busy'],
  3: ['deasserted', 'asserted'],
  4: ['no failure predicted', 'failure predicted'],
  5: ['limit not exceeded', 'limit exceeded'],
  6: ['performance met', 'performance lags'],
  7: [
    'ok',
    'non-critical, from ok',
    'critical, from less severe',
    'non-recoverable, from less severe',
    'non-critical, from more severe',
    'critical, from non-recoverable',
    'non-recoverable',
    'monitor',
    'informational',
  ],
  8: ['absent', 'present'],
  9: ['disabled', 'enabled'],
  10: ['running', 'in test', 'power off', 'on line', 'off line', 'off duty', 'degraded', 'power save', 'install error'],
  11: [
    'fully redundant',
    'redundancy lost',
    'redundancy degraded',
    'not redundant, was redundant',
    'not redundant, enough resources',
    'not redundant, too few resources',
    'degraded from redundant',
    'degraded from non-redundant',
  ],
  12: ['D0', 'D1', 'D2', 'D3'],
}

/** Table 42-2, event type 01: two offsets, low and high going, a threshold. */
const THRESHOLD_EVENTS = [
  'lower non-critical going low',
  'lower non-critical going high',
  'lower critical going low',
  'lower critical going high',
  'lower non-recoverable going low',
  'lower non-recoverable going high',
  'upper non-critical going low',
  'upper non-critical going high',
  'upper critical going low',
  'upper critical going high',
  'upper non-recoverable going low',
  'upper non-recoverable going high',
]

/** Table 43-15: base and modifier units, by number. */
const UNITS: readonly (string | null)[] = (
  '- °C °F K V A W J C VA nit lm lx cd kPa psi N cfm rpm Hz μs ms s min h d week mil in ft in³ ft³ mm cm m cm³ m³ l fl.oz rad sr ' +
  'rev cycle g oz lb ft.lb oz.in G Gb H mH F μF Ω S mol Bq ppm - dB dBA dBC Gy Sv K bit kbit Mbit Gbit B kB MB GB word dword qword ' +
  'line hit miss retry reset overrun underrun collision packet message character error correctable uncorrectable fatal g'
)
  .split(' ')
  .map(unit => (unit === '-' ? null : unit))

export const THRESHOLD_EVENT_TYPE = 0x01
const SENSOR_SPECIFIC = 0x6f

export function sensorType(number: number): string {
  return SENSOR_TYPES[number]?.[0] ?? (number >= 0xc0 ? 'oem' : `type_${number.toString(16).padStart(2, '0')}`)
}

/** @param eventType event/reading type code: 01 threshold, 02–0c generic, 6f by the sensor's type */
export function eventText(type: number, eventType: number, offset: number): string {
  if (eventType === THRESHOLD_EVENT_TYPE) return THRESHOLD_EVENTS[offset] ?? `threshold event ${offset}`
  const known = eventType === SENSOR_SPECIFIC ? SENSOR_TYPES[type]?.[offset + 1] : GENERIC_TYPES[eventType]?.[offset]
  return known ?? `event ${offset} of type ${eventType.toString(16).padStart(2, '0')}`
}

/** What is measured, from the three bytes of units in a record (§43.1, bytes 21–23). */
export function unitText(flags: number, base: number, modifier: number): string | null {
  if (flags & 0x01) return '%'
  const unit = UNITS[base] ?? null
  const rate = ['', '/μs', '/ms', '/s', '/min', '/h', '/d'][(flags >> 3) & 0x07] ?? ''
  const modified = UNITS[modifier]
  const joint = (flags >> 1) & 0x03
  if (unit === null) return null
  if (modified && joint === 1) return `${unit}/${modified}${rate}`
  if (modified && joint === 2) return `${unit}·${modified}${rate}`
  return `${unit}${rate}`
}
