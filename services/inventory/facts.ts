/** What inspection facts say about identity, and putting it into a machine's columns and interfaces. */
import type {Kysely} from 'kysely'
import {type Mac, parseMac} from '../../lib/addresses.ts'
import {printable} from '../../lib/bytes.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Database} from '../../lib/schema.ts'
import * as store from './store.ts'

/** The part of facts that Ingot itself acts on. Whatever the ramdisk sent that has another shape is as if it were not there. */
export type InspectedFacts = {
  readonly firmware: 'bios' | 'uefi' | undefined
  readonly uuid: string | undefined
  readonly serial: string | undefined
  readonly interfaces: readonly {readonly mac: Mac; readonly name: string | null; readonly kind: 'host' | 'bmc'}[]
  readonly bmcAddress: string | undefined
  /** undefined: nothing is known of its disks */
  readonly disks: readonly DiskFacts[] | undefined
}

/** `blank` only where the ramdisk said so by null: a signature that it could not read is not a blank disk. */
export type DiskFacts = {readonly name: string; readonly blank: boolean; readonly holds: string}

const TEXT_LIMIT = 128
const LIST_LIMIT = 512

export function readFacts(facts: unknown): InspectedFacts {
  const root = recordOf(facts)
  const dmi = recordOf(root.dmi)
  const bmc = recordOf(root.bmc)
  const bmcMac = macOf(bmc.mac)
  const nics = listOf(root.nics).flatMap(entry => {
    const {mac, name} = recordOf(entry)
    const parsed = macOf(mac)
    return parsed ? [{mac: parsed, name: textOf(name) ?? null, kind: 'host' as const}] : []
  })
  const uuid = textOf(dmi.uuid)?.toLowerCase()
  return {
    firmware: root.firmware === 'bios' || root.firmware === 'uefi' ? root.firmware : undefined,
    uuid: isUuid(uuid) ? uuid : undefined,
    serial: textOf(dmi.serial),
    interfaces: [...nics, ...(bmcMac ? [{mac: bmcMac, name: 'bmc', kind: 'bmc' as const}] : [])],
    bmcAddress: textOf(bmc.address),
    disks: Array.isArray(root.disks) ? listOf(root.disks).map(diskOf) : undefined,
  }
}

/**
 * Applies them: UUID, serial and firmware; every NIC and BMC MAC becomes an interface of this one machine.
 * @param mayTake whether a MAC that another machine has may be taken from it: that one turned out to be this one, or is out of service
 * @returns what contradicts the declaration or another machine; such facts are recorded but not applied
 */
export async function applyFacts(
  tx: Kysely<Database>,
  machineId: string,
  facts: InspectedFacts,
  mayTake: (owner: store.MachineRow) => Promise<boolean>,
): Promise<string[]> {
  const mismatches: string[] = []
  const machine = await store.selectMachine(tx, machineId)
  if (!machine) throw new IngotError('NOT_FOUND', `no machine '${machineId}'`)
  const {uuid, serial, firmware} = facts
  if (machine.dmi_uuid && uuid && machine.dmi_uuid !== uuid) mismatches.push(`DMI UUID is ${uuid}, declared ${machine.dmi_uuid}`)
  if (machine.serial && serial && machine.serial !== serial) mismatches.push(`serial is ${serial}, declared ${machine.serial}`)
  for (const {mac, name, kind} of facts.interfaces) {
    const owner = await store.selectMachineByMac(tx, mac)
    if (!owner) await store.insertInterface(tx, {machine_id: machineId, mac, name, kind})
    else if (owner.id === machineId) await store.updateInterface(tx, mac, {name, kind})
    else if (await mayTake(owner)) await store.updateInterface(tx, mac, {machine_id: machineId, name, kind, is_boot: false})
    else mismatches.push(`${mac} belongs to machine '${owner.name}'`)
  }
  await store.updateMachine(tx, machineId, {
    ...(machine.dmi_uuid || !uuid ? {} : {dmi_uuid: uuid}),
    ...(machine.serial || !serial ? {} : {serial}),
    ...(firmware ? {firmware} : {}),
  })
  return mismatches
}

function diskOf(entry: unknown): DiskFacts {
  const {name, signature} = recordOf(entry)
  return {name: textOf(name) ?? 'a disk', blank: signature === null, holds: textOf(signature) ?? 'something unread'}
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value.slice(0, LIST_LIMIT) : []
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? printable(value, TEXT_LIMIT) : undefined
}

function macOf(value: unknown): Mac | undefined {
  return typeof value === 'string' ? parseMac(value) : undefined
}

/** All-zero and all-one UUIDs identify nothing. */
function isUuid(text: string | undefined): text is string {
  return (
    text !== undefined &&
    /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/.test(text) &&
    !/^[0-]+$/.test(text) &&
    !/^[f-]+$/.test(text)
  )
}
