/** Which child serves what. A child exists when at least one of its services is asked for; a further split is one more row. */
import type {Boundary} from '../../lib/boundary.ts'
import type {Clock} from '../../lib/clock.ts'
import {SERVICES, type Service} from '../../lib/config.ts'
import type {Keyring} from '../../lib/keyring.ts'
import type {Secret} from '../../lib/secret.ts'
import type {OpenSocket} from './open-sockets.ts'

export const ROLES = {
  /** Faces the boot network: no BMC credentials, no key that opens them. */
  wire: {services: ['dhcpd', 'tftpd', 'boot'], module: new URL('./wire.ts', import.meta.url).href, sealingKey: false, owns: []},
  /** Faces operators and BMCs. */
  control: {
    services: ['api', 'worker'],
    module: new URL('./control.ts', import.meta.url).href,
    sealingKey: true,
    owns: ['handoff'],
  },
} as const satisfies Record<string, RoleRow>

export type RoleRow = {
  readonly services: readonly Service[]
  readonly module: string
  readonly sealingKey: boolean
  /** Directories of the state directory that this role, unprivileged, writes into. */
  readonly owns?: readonly string[]
}

/** The ring at this moment: a rotation changes it under the running process. */
export type SealingKeys = {current(): Keyring; onChange(listener: () => void): void}

/** What a role's module is given, once its process runs. */
export type RoleStart = {
  readonly role: string
  readonly services: readonly Service[]
  readonly stateDir: string
  readonly databaseUrl: Secret
  readonly sockets: readonly OpenSocket[]
  /** Only where the role's row says so. */
  readonly sealingKeys: SealingKeys | undefined
  readonly retentionDays: number
  readonly workers: number
  /** Shorter DHCP requests are not answered. */
  readonly leastRequestOctets: number
  /** What tests put in the place of the world's own: another clock, a death at a commit or an order. */
  readonly seams?: Seams
}

export type Seams = {readonly clock?: Clock; readonly boundary?: Boundary}

/**
 * A role's module exports `prepare`. It runs while files of the checkout can still be read, as root and before the first packet: load
 * templates, import lazily loaded code, start worker threads. `start` runs unprivileged and resolves when everything is served.
 */
export type RoleModule = {prepare(start: RoleStart): Promise<PreparedRole>}
export type PreparedRole = {start(): Promise<RunningRole>}
/** `stop` finishes what was begun; the process ends afterwards, or after ten seconds without it. */
export type RunningRole = {stop(): Promise<void>}

/** Of the services asked for, those that belong to a role. */
export function servicesOf(row: RoleRow, asked: readonly Service[]): Service[] {
  return SERVICES.filter(service => row.services.includes(service) && asked.includes(service))
}
