/** `ingot power boot-device | identify | sel | sensors | fru | bmc`: what a machine's BMC knows, and what it does besides switching. */
import type {Command} from 'commander'
import {cellOf, printJson, printLine, printTable, timeOf} from './output.ts'
import {apiVerb, parseNumber} from './verb.ts'

const DEVICES = ['none', 'pxe', 'disk', 'cdrom', 'bios']

type BootAnswer = {device: string; firmware: string; persistent: boolean; valid?: boolean; not_kept?: readonly string[]}
type Sensor = {
  name: string
  type: string
  value: number | null
  unit: string | null
  status: string
  states: readonly string[]
  thresholds: Readonly<Record<string, number>>
}
type LogEntry = {
  id: number
  at: string | null
  since_start_s: number | null
  sensor: string | null
  sensor_type: string
  text: string
  asserted: boolean | null
}
type Device = {
  device: Readonly<Record<string, unknown>>
  quirks: readonly {quirk: string; times: number; last_seen: string; means: string; handling: string | null; detail: string}[]
}
type Fru = {
  id: number
  name: string
  areas: Readonly<Record<string, Readonly<Record<string, string>>>>
  broken: readonly string[]
}

/** Adds the verbs to `ingot power`. */
export function addBmcVerbs(power: Command): void {
  addBootDevice(power)
  apiVerb<[string], {seconds: number}>(
    power
      .command('identify')
      .description('let its light blink, so that a person finds it')
      .argument('<machine>', 'id or name')
      .option('--seconds <n>', '0 switches it off', parseNumber, 15),
    async ({client, json}, {seconds}, id) => {
      const answer = await client.send<{seconds: number}>('POST', `${pathOf(id)}/identify`, {seconds})
      if (json) return printJson(answer)
      printLine(seconds === 0 ? `The light of ${id} is off.` : `The light of ${id} blinks for ${answer.seconds} s.`)
    },
  )
  addSel(power)
  apiVerb<[string], object>(
    power.command('sensors').description('temperatures, fans, voltages, power supplies').argument('<machine>', 'id or name'),
    async ({client, json}, _options, id) => {
      const {items} = await client.get<{items: readonly Sensor[]}>(`${pathOf(id)}/bmc/sensors`)
      if (json) return printJson(items)
      printTable(items.map(sensorRow), ['name', 'value', 'status', 'states', 'low', 'high'], 'The BMC has no sensors.')
    },
  )
  apiVerb<[string], object>(
    power.command('fru').description('makers, part and serial numbers').argument('<machine>', 'id or name'),
    async ({client, json}, _options, id) => {
      const {items} = await client.get<{items: readonly Fru[]}>(`${pathOf(id)}/bmc/fru`)
      if (json) return printJson(items)
      const rows = items.flatMap(({name, areas}) =>
        Object.entries(areas).flatMap(([area, fields]) =>
          Object.entries(fields).map(([field, text]) => ({device: name, area, field, text})),
        ),
      )
      printTable(rows, ['device', 'area', 'field', 'text'], 'The BMC has no inventory.')
      for (const {name, broken} of items)
        if (broken.length > 0) printLine(`${name}: ${broken.join(', ')} cannot be read (wrong checksum).`)
    },
  )
  apiVerb<[string], object>(
    power.command('bmc').description('who its BMC is, and the quirks learned of its model').argument('<machine>', 'id or name'),
    async ({client, json}, _options, id) => {
      const {device, quirks} = await client.get<Device>(`${pathOf(id)}/bmc`)
      if (json) return printJson({device, quirks})
      for (const [name, value] of Object.entries(device)) printLine(`${name.padEnd(16)} ${cellOf(value)}`)
      for (const {means, handling, times, last_seen, detail} of quirks)
        printLine(
          `quirk            ${means}${handling ? `: ${handling}` : ''} (${times} times, last ${timeOf(last_seen)}: ${detail})`,
        )
    },
  )
}

function addBootDevice(power: Command): void {
  apiVerb<[string, string | undefined], {firmware?: string; persistent?: boolean}>(
    power
      .command('boot-device')
      .description('show or set what it boots from')
      .argument('<machine>', 'id or name')
      .argument('[device]', DEVICES.join(', '))
      .option('--firmware <kind>', 'bios or uefi (default: as the machine is known to be)')
      .option('--persistent', 'for every boot rather than the next'),
    async ({client, json}, {firmware, persistent}, id, device) => {
      const path = `${pathOf(id)}/boot-device`
      const answer = device
        ? await client.send<BootAnswer>('PUT', path, {device, firmware, persistent})
        : await client.get<BootAnswer>(path)
      if (json) return printJson(answer)
      const how = `${answer.firmware}, ${answer.persistent ? 'for every boot' : 'once'}`
      const isSet = answer.device !== 'none' && answer.valid !== false
      printLine(isSet ? `${id} boots from ${answer.device} (${how}).` : `${id} boots as its firmware is set up.`)
      if (answer.not_kept?.length) printLine(`Its BMC did not keep: ${answer.not_kept.join(', ')}.`)
    },
  )
}

function addSel(power: Command): void {
  apiVerb<[string], {limit: number; clear?: boolean}>(
    power
      .command('sel')
      .description('the BMC’s own event log, oldest first')
      .argument('<machine>', 'id or name')
      .option('--limit <n>', 'of the newest', parseNumber, 500)
      .option('--clear', 'empty it'),
    async ({client, json}, {limit, clear}, id) => {
      const path = `${pathOf(id)}/bmc/events`
      if (clear) {
        const answer = await client.send<{cleared: number}>('DELETE', path)
        if (json) return printJson(answer)
        return printLine(`${answer.cleared} entries went.`)
      }
      const log = await client.get<{items: readonly LogEntry[]; total: number; overflow: boolean}>(path, {limit})
      if (json) return printJson(log)
      printTable(log.items.map(logRow), ['id', 'at', 'sensor', 'type', 'event'], 'The log is empty.')
      if (log.total > log.items.length) printLine(`… ${log.total} in all: --limit shows more`)
      if (log.overflow) printLine('It was full: events were lost. --clear empties it.')
    },
  )
}

function sensorRow({name, value, unit, status, states, thresholds}: Sensor) {
  return {
    name,
    value: value === null ? null : `${value}${unit === null ? '' : ` ${unit}`}`,
    status,
    states: states.join(', '),
    low: thresholds.lower_critical ?? thresholds.lower_non_critical,
    high: thresholds.upper_critical ?? thresholds.upper_non_critical,
  }
}

function logRow({id, at, since_start_s, sensor, sensor_type, text, asserted}: LogEntry) {
  return {
    id,
    at: at === null ? (since_start_s === null ? null : `start + ${since_start_s} s`) : timeOf(at),
    sensor,
    type: sensor_type,
    event: asserted === false ? `${text}, over` : text,
  }
}

function pathOf(id: string): string {
  return `/v1/machines/${encodeURIComponent(id)}`
}
