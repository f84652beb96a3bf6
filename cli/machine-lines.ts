/** One machine in words: what `ingot machines show` prints. Facts are what a machine says of itself, so nothing is taken for granted. */
import {cellOf, timeOf} from './output.ts'
import type {Machine} from './shapes.ts'

export function machineLines(machine: Machine): string[] {
  const {maintenance, quarantined, dirty, fault} = machine.flags
  const {failed_from, open_job: job} = machine
  const lines: [name: string, value: unknown][] = [
    ['name', machine.name],
    ['id', machine.id],
    [
      'state',
      `${machine.state}${failed_from ? ` from ${failed_from}` : ''}${machine.state_since ? `, since ${timeOf(machine.state_since)}` : ''}`,
    ],
    ...(machine.reservation
      ? [['reserved', `for ${machine.reservation.for} until ${timeOf(machine.reservation.until)}`] as [string, unknown]]
      : []),
    ...(quarantined ? [['quarantined', quarantined] as [string, unknown]] : []),
    ...(fault ? [['fault', fault] as [string, unknown]] : []),
    ...(maintenance ? [['maintenance', 'yes'] as [string, unknown]] : []),
    ['open job', job && `${job.kind}, phase ${job.phase}, ${job.id}`],
    ['runs', runs(machine.provisioned)],
    ['addresses', machine.addresses?.map(held => `${held.address} (${held.purpose})`).join(', ')],
    ['power', powerWords(machine.power)],
    ['BMC', machine.bmc ? [machine.bmc.driver, machine.bmc.address].filter(Boolean).join(' ') : null],
    [
      'interfaces',
      machine.interfaces.map(nic => [nic.mac, nic.name, nic.is_boot && 'boot'].filter(Boolean).join(' ')).join(', '),
    ],
    ['firmware', machine.firmware],
    ['serial', machine.serial],
    ['hardware', hardware(machine.facts?.inspection)],
    ['disks', `${disks(machine.facts?.inspection)}${dirty ? 'not proven wiped' : 'proven wiped'}`],
    ['labels', labels(machine.labels)],
  ]
  return lines.map(([name, value]) => `${name.padEnd(12)} ${cellOf(value)}`)
}

function powerWords({observed, desired, drift_since}: Machine['power']): string | null {
  return drift_since ? `${observed}, should be ${desired}, since ${timeOf(drift_since)}` : observed
}

function runs(provisioned: Machine['provisioned']): string | null {
  if (!provisioned) return null
  const {template, image, hostname, profile, at} = provisioned
  const from = typeof profile === 'string' ? `, profile ${profile}` : ''
  return `${String(template)}, image ${String(image)}${from}, as ${String(hostname)}, since ${timeOf(at)}`
}

function hardware(facts: unknown): string {
  const {cpu, memory_bytes, dmi} = objectOf(facts)
  const {model, cores} = objectOf(cpu)
  const {manufacturer, product} = objectOf(dmi)
  const box = [manufacturer, product].filter(text => typeof text === 'string' && text !== '').join(' ')
  const processor = typeof cores === 'number' ? `${cores} × ${typeof model === 'string' ? model : 'core'}` : ''
  const memory = typeof memory_bytes === 'number' ? `${Math.round(memory_bytes / 2 ** 30)} GiB` : ''
  return [box, processor, memory].filter(Boolean).join(', ')
}

function disks(facts: unknown): string {
  const {disks: list} = objectOf(facts)
  if (!Array.isArray(list) || list.length === 0) return ''
  const words = list.map(objectOf).map(disk => {
    const size =
      typeof disk.size_bytes === 'number' ? ` ${(disk.size_bytes / 1e9).toFixed(disk.size_bytes < 1e11 ? 1 : 0)} GB` : ''
    return `${String(disk.name)}${size}${typeof disk.serial === 'string' && disk.serial !== '' ? ` ${disk.serial}` : ''}`
  })
  return `${words.join(', ')}; `
}

function labels(all: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(all ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
