/** Inventory: machines, interfaces, BMCs, facts, profiles, enrolment windows and sightings. */
import {randomUUID} from 'node:crypto'
import type {Kysely} from 'kysely'
import type {Mac} from '../../lib/addresses.ts'
import {printable} from '../../lib/bytes.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Database, ProfileLink} from '../../lib/schema.ts'
import type {Sealer} from '../../lib/seal.ts'
import type {Secret} from '../../lib/secret.ts'
import {
  type BmcInput,
  countSealed,
  openBmc,
  openWindowPassword,
  type Resealed,
  resealAll,
  sealWindowPassword,
  setBmc,
} from './bmcs.ts'
import {
  addClientKey,
  changeDhcpScope,
  type DhcpScopeOwner,
  type DhcpScopeSettings,
  type NewClientKey,
  readDhcpScope,
} from './dhcp-settings.ts'
import {applyFacts, type InspectedFacts, readFacts} from './facts.ts'
import {createMachine, type MachineView, type NewMachine, requireMachine} from './machines.ts'
import * as store from './store.ts'

export type {BmcAccess, BmcInput, Resealed} from './bmcs.ts'
export type {DhcpScopeOwner, DhcpScopeSettings, NewClientKey} from './dhcp-settings.ts'
export type {DiskFacts, InspectedFacts} from './facts.ts'
export {MACHINE_NAME, type MachineView, type NewMachine} from './machines.ts'
export type {ClientKeyRow, DhcpScopeRow, FactsRow, InterfaceRow, MachineRow, ProfileRow, SightingRow, WindowRow} from './store.ts'

export type NewWindow = {
  prefixId: string
  until: Date
  clean: boolean
  machineLimit?: number | undefined
  bmcUsername?: string | undefined
  bmcPassword?: Secret | undefined
  createdBy: string
}

export type NewProfile = {
  name: string
  template: string
  image: string
  disk?: string | undefined
  parameters?: Record<string, unknown> | undefined
  handoff?: ({kind: string} & Record<string, unknown>) | undefined
  links?: readonly ProfileLink[] | undefined
}

/** One sighting as a door folded it: how many packets since it last reported. */
export type Sighting = {
  mac: Mac
  prefixId: string
  circuit: string
  arch?: string | undefined
  vendorClass?: string | undefined
  dmiUuid?: string | undefined
  lastSeen: Date
  packets: number
}

/** What a machine says of itself is kept only so long. */
const MODEL_LIMIT = 120

/** Sightings kept for one prefix and circuit. */
export const SIGHTINGS_CAP = 4096

export type Inventory = ReturnType<typeof createInventory>

/** @param sealer only in control; without it credentials can be neither stored nor opened */
export function createInventory({db, sealer}: {db: Kysely<Database>; sealer?: Sealer | undefined}) {
  return {
    createMachine: (tx: Kysely<Database>, input: NewMachine): Promise<MachineView> => createMachine(tx, input),
    requireMachine: (idOrName: string, tx: Kysely<Database> = db) => requireMachine(tx, idOrName),
    machineByMac: (mac: Mac, tx: Kysely<Database> = db) => store.selectMachineByMac(tx, mac),

    /** A page by name, with interfaces. `after` is the last name of the page before. */
    async listMachines(page: {
      after?: string | undefined
      limit: number
      ids?: readonly string[] | undefined
    }): Promise<MachineView[]> {
      const machines = await store.selectMachines(db, page)
      const interfaces = await store.selectInterfaces(
        db,
        machines.map(machine => machine.id),
      )
      return machines.map(machine => ({...machine, interfaces: interfaces.filter(row => row.machine_id === machine.id)}))
    },

    interfaces: () => store.selectInterfaces(db),
    /** Name and DMI UUID of every machine. */
    machineIdentities: async () =>
      new Map((await store.selectMachines(db, {limit: 1_000_000})).map(row => [row.id, {name: row.name, uuid: row.dmi_uuid}])),

    dhcpScopes: () => store.selectDhcpScopes(db),
    dhcpScope: (owner: DhcpScopeOwner, tx: Kysely<Database> = db) => readDhcpScope(tx, owner),
    changeDhcpScope: (tx: Kysely<Database>, owner: DhcpScopeOwner, change: (before: DhcpScopeSettings) => DhcpScopeSettings) =>
      changeDhcpScope(tx, owner, change),
    clientKeys: (machineId?: string, tx: Kysely<Database> = db) => store.selectClientKeys(tx, machineId),
    addClientKey: (tx: Kysely<Database>, machineId: string, key: NewClientKey) => addClientKey(tx, machineId, key),
    removeClientKey: (tx: Kysely<Database>, machineId: string, id: string) => store.deleteClientKey(tx, machineId, id),

    setBmc: (tx: Kysely<Database>, machineId: string, input: BmcInput, now: Date) => setBmc(tx, sealer, machineId, input, now),
    openBmc: (machineId: string, tx: Kysely<Database> = db) => openBmc(tx, sealer, machineId),
    /** What may be shown of a BMC: never its password. */
    async describeBmc(machineId: string, tx: Kysely<Database> = db) {
      const row = await store.selectBmc(tx, machineId)
      return row && {driver: row.driver, address: row.address, port: row.port, username: row.username, proven_at: row.proven_at}
    },
    bmcProven: (tx: Kysely<Database>, machineId: string, now: Date) => store.updateBmcProven(tx, machineId, now),

    readFacts,
    /** @returns what contradicts the declaration or another machine */
    applyFacts: (
      tx: Kysely<Database>,
      machineId: string,
      facts: InspectedFacts,
      mayTake: (owner: store.MachineRow) => Promise<boolean>,
    ) => applyFacts(tx, machineId, facts, mayTake),
    /** @returns the version recorded, 1 for the first of its source */
    recordFacts: (
      tx: Kysely<Database>,
      input: {machineId: string; source: store.FactsRow['source']; jobId?: string | undefined; facts: unknown; now: Date},
    ) =>
      store.insertFacts(tx, {
        machine_id: input.machineId,
        source: input.source,
        recorded_at: input.now,
        job_id: input.jobId ?? null,
        facts: JSON.stringify(input.facts),
      }),
    latestFacts: (machineId: string, source: store.FactsRow['source'], tx: Kysely<Database> = db) =>
      store.selectLatestFacts(tx, machineId, source),

    /** Maker and product as one text, or null where inspection read neither. */
    async modelOf(machineId: string, tx: Kysely<Database> = db): Promise<string | null> {
      const read = await store.selectModel(tx, machineId)
      return read ? printable(`${read.maker} ${read.product}`.trim(), MODEL_LIMIT) || null : null
    },

    /** What selectors look at, of every machine. */
    selectableMachines: async (tx: Kysely<Database>, withFacts: boolean) =>
      (await store.selectSelectable(tx, withFacts)).map(({labels, facts, ...rest}) => ({
        ...rest,
        attributes: labels,
        facts: facts ?? {},
      })),

    putProfile: (tx: Kysely<Database>, input: NewProfile) =>
      store.upsertProfile(tx, {
        name: input.name,
        template: input.template,
        image: input.image,
        disk: input.disk ?? 'smallest',
        parameters: JSON.stringify(input.parameters ?? {}),
        handoff: JSON.stringify(input.handoff ?? {kind: 'none'}),
        links: JSON.stringify(input.links ?? []),
      }),
    async requireProfile(name: string, tx: Kysely<Database> = db) {
      const profile = await store.selectProfile(tx, name)
      if (!profile) throw new IngotError('NOT_FOUND', `no profile '${name}'`)
      return profile
    },
    listProfiles: () => store.selectProfiles(db),

    openWindow(tx: Kysely<Database>, input: NewWindow): Promise<store.WindowRow> {
      const id = randomUUID()
      return store.insertWindow(tx, {
        id,
        prefix_id: input.prefixId,
        until: input.until,
        clean: input.clean,
        machine_limit: input.machineLimit ?? 256,
        bmc_username: input.bmcUsername ?? null,
        bmc_password_sealed: input.bmcPassword ? sealWindowPassword(sealer, id, input.bmcPassword) : null,
        created_by: input.createdBy,
      })
    },
    /** Seals everything anew that is not under the key that seals now. */
    reseal(): Promise<Resealed> {
      if (!sealer) throw new Error('this process holds no sealing key')
      return resealAll(db, sealer)
    },
    countSealed: () => countSealed(db),
    windowById: (id: string, tx: Kysely<Database> = db) => store.selectWindow(tx, id),
    lockWindow: (tx: Kysely<Database>, id: string) => store.lockWindow(tx, id),
    windowPassword: (window: store.WindowRow) => openWindowPassword(sealer, window),
    openWindows: (now: Date, tx: Kysely<Database> = db) => store.selectOpenWindows(tx, now),
    listWindows: (limit: number) => store.selectWindows(db, limit),
    closeWindow: (tx: Kysely<Database>, id: string, now: Date) => store.closeWindow(tx, id, now),

    recordSightings: (sightings: readonly Sighting[]) =>
      store.upsertSightings(
        db,
        sightings.map(sighting => ({
          mac: sighting.mac,
          prefix_id: sighting.prefixId,
          circuit: sighting.circuit,
          arch: sighting.arch ?? null,
          vendor_class: sighting.vendorClass ?? null,
          dmi_uuid: sighting.dmiUuid ?? null,
          last_seen: sighting.lastSeen,
          packets: sighting.packets,
        })),
        SIGHTINGS_CAP,
      ),
    listSightings: (page: {after?: string | undefined; limit: number}) => store.selectSightings(db, page),
    forgetSighting: (tx: Kysely<Database>, mac: Mac) => store.deleteSightings(tx, {mac}),
    expireSightings: (before: Date) => store.deleteSightings(db, {before}),
  }
}
