/** Machines, their interfaces and what inspection saw of them. */
import type {Kysely} from 'kysely'
import type {Mac} from '../../lib/addresses.ts'
import {sqlState} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Database} from '../../lib/schema.ts'
import * as store from './store.ts'

export type NewMachine = {
  name?: string | undefined
  macs: readonly Mac[]
  bootMac?: Mac | undefined
  dmiUuid?: string | undefined
  serial?: string | undefined
  firmware?: 'bios' | 'uefi' | undefined
  origin: 'declared' | 'window'
  labels?: Record<string, string> | undefined
}

export type MachineView = store.MachineRow & {interfaces: readonly store.InterfaceRow[]}

/** A hostname label (RFC 1123 §2.1), lower case. */
export const MACHINE_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/** A machine that nobody named is called after the MAC it was found by. */
export function defaultName(mac: Mac): string {
  return `node-${mac.replaceAll(':', '')}`
}

export async function createMachine(tx: Kysely<Database>, input: NewMachine): Promise<MachineView> {
  const [firstMac] = input.macs
  const bootMac = input.bootMac ?? firstMac
  if (!bootMac) throw new IngotError('INVALID_INPUT', 'a machine needs at least one MAC address')
  const name = input.name ?? defaultName(bootMac)
  if (!MACHINE_NAME.test(name)) {
    throw new IngotError('INVALID_INPUT', `'${name}' is not a host name`, {
      errors: [{field: 'name', code: 'format', message: 'lower-case letters, digits and hyphens, at most 63, not at an end'}],
    })
  }
  if (await store.selectMachineByName(tx, name)) throw nameTaken(name)
  for (const mac of input.macs) {
    const owner = await store.selectMachineByMac(tx, mac)
    if (owner) throw new IngotError('CONFLICT', `${mac} belongs to machine '${owner.name}'`)
  }
  const row = {
    name,
    dmi_uuid: input.dmiUuid ?? null,
    serial: input.serial ?? null,
    firmware: input.firmware ?? null,
    origin: input.origin,
    labels: JSON.stringify(input.labels ?? {}),
  }
  const machine = await unlessTaken(nameTaken(name), () => store.insertMachine(tx, row))
  const interfaces: store.InterfaceRow[] = []
  for (const mac of new Set([bootMac, ...input.macs])) {
    const taken = new IngotError('CONFLICT', `${mac} belongs to another machine`)
    const row = {machine_id: machine.id, mac, name: null, is_boot: mac === bootMac}
    interfaces.push(await unlessTaken(taken, () => store.insertInterface(tx, row)))
  }
  return {...machine, interfaces}
}

function nameTaken(name: string): IngotError {
  return new IngotError('CONFLICT', `a machine named '${name}' exists`)
}

/** Somebody may take a name or a MAC between our look and our insert: then the constraint says so (unique_violation). */
async function unlessTaken<T>(taken: IngotError, insert: () => Promise<T>): Promise<T> {
  try {
    return await insert()
  } catch (error) {
    throw sqlState(error) === '23505' ? taken : error
  }
}

/** By id or by name; NOT_FOUND names what was asked for. */
export async function requireMachine(db: Kysely<Database>, idOrName: string): Promise<MachineView> {
  const byId = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(idOrName)
  const machine = byId ? await store.selectMachine(db, idOrName) : await store.selectMachineByName(db, idOrName)
  if (!machine) throw new IngotError('NOT_FOUND', `no machine '${idOrName}'`)
  return {...machine, interfaces: await store.selectInterfaces(db, [machine.id])}
}
