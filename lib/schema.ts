/** The tables as Kysely sees them. One interface a table, grouped by the service that owns (alone writes) it. */
import type {ColumnType, Generated} from 'kysely'

type Timestamp = ColumnType<Date, Date, Date>
type NullableTimestamp = ColumnType<Date | null, Date | null | undefined, Date | null>
type CreatedAt = ColumnType<Date, Date | undefined, never>
/** jsonb: read as a value, written as its JSON text. */
type Json<T> = ColumnType<T, string, string>
type DefaultJson<T> = ColumnType<T, string | undefined, string>

/** ipam */
export interface VrfsTable {
  id: Generated<string>
  name: string
  description: Generated<string>
  created_at: CreatedAt
}
export interface AggregatesTable {
  id: Generated<string>
  vrf_id: string
  cidr: string
  registry: Generated<string>
  description: Generated<string>
  created_at: CreatedAt
}
export interface PrefixesTable {
  id: Generated<string>
  vrf_id: string
  cidr: string
  status: Generated<'container' | 'active' | 'reserved' | 'deprecated'>
  kind: Generated<'host' | 'bmc'>
  role: string | null
  site: string | null
  tenant: string | null
  gateway: string | null
  dns: Generated<string[]>
  boot_url: string | null
  /** 4294967295 has no end */
  lease_s: Generated<number>
  dhcp: Generated<'authoritative' | 'proxy' | 'off'>
  bootp: Generated<'ignored' | 'static'>
  router_advertisement: Generated<boolean>
  relays: Generated<string[]>
  cool_down_s: Generated<number>
  created_at: CreatedAt
  description: Generated<string>
  labels: DefaultJson<Record<string, string>>
  anycast: Generated<boolean>
}
export interface FreeBlocksTable {
  container_id: string
  cidr: string
  freed_at: NullableTimestamp
  cool_until: NullableTimestamp
}
export interface RangesTable {
  id: Generated<string>
  prefix_id: string
  kind: 'static' | 'dynamic'
  first_address: string
  last_address: string
  next_address: string | null
}
export interface AddressesTable {
  id: Generated<number>
  vrf_id: string
  prefix_id: string | null
  address: string
  freed_at: NullableTimestamp
  cool_until: NullableTimestamp
  anycast: Generated<boolean>
  probed_at: NullableTimestamp
  conflict: string | null
}
export interface AllocationsTable {
  id: Generated<string>
  address_id: number
  holder_kind: 'machine' | 'service' | 'person' | 'range'
  machine_id: string | null
  holder: string
  purpose: 'boot' | 'host' | 'bmc' | 'service' | 'dynamic'
  reason: Generated<string>
  client_key: string | null
  created_at: CreatedAt
  created_by: string
  freed_at: NullableTimestamp
  freed_by: string | null
  tenant: string | null
  interface: string | null
  expires_at: NullableTimestamp
  freed_reason: string | null
  anycast: Generated<boolean>
}
export interface DelegationsTable {
  id: Generated<string>
  vrf_id: string
  prefix_id: string | null
  cidr: string
  holder_kind: 'machine' | 'service' | 'person'
  machine_id: string | null
  holder: string
  tenant: string | null
  role: string | null
  purpose: 'host' | 'service'
  reason: Generated<string>
  created_at: Timestamp
  created_by: string
  freed_at: NullableTimestamp
  freed_by: string | null
  freed_reason: string | null
}
export interface PrefixPoolsTable {
  id: Generated<string>
  name: string
  description: Generated<string>
  created_at: CreatedAt
}
export interface PrefixPoolMembersTable {
  pool_id: string
  prefix_id: string
  place: number
}
export interface TenantsTable {
  name: string
  description: Generated<string>
  created_at: CreatedAt
}
export interface TenantGrantsTable {
  tenant: string
  prefix_id: string | null
  pool_id: string | null
}
export interface TenantQuotasTable {
  tenant: string
  family: 4 | 6
  role: string | null
  at_most: number
}
export interface LeasesTable {
  address_id: number
  mac: string
  client_id: Buffer | null
  machine_id: string | null
  state: 'offered' | 'bound' | 'released' | 'declined' | 'expired'
  starts_at: Timestamp
  expires_at: Timestamp
  updated_at: Timestamp
  /** Who alone bound it since it began; the nil UUID once a second process did. */
  bound_by: string | null
}
export interface BlocksTable {
  id: Generated<string>
  range_id: string
  first_address: string
  last_address: string
  owner: string | null
  epoch: Generated<number>
  expires_at: Timestamp
}

/** inventory */
export interface MachinesTable {
  id: Generated<string>
  name: string
  dmi_uuid: string | null
  serial: string | null
  firmware: 'bios' | 'uefi' | null
  origin: 'declared' | 'window'
  labels: DefaultJson<Record<string, string>>
  created_at: CreatedAt
  version: Generated<number>
}
export interface InterfacesTable {
  id: Generated<string>
  machine_id: string
  mac: string
  kind: Generated<'host' | 'bmc'>
  name: string | null
  is_boot: Generated<boolean>
}
export interface BmcsTable {
  machine_id: string
  driver: 'ipmi' | 'manual'
  address: string | null
  port: Generated<number>
  username: string | null
  password_sealed: Buffer | null
  proven_at: NullableTimestamp
  updated_at: ColumnType<Date, Date | undefined, Date>
}
export interface FactsTable {
  id: Generated<number>
  machine_id: string
  version: number
  source: 'inspection' | 'first_boot' | 'test'
  recorded_at: Timestamp
  job_id: string | null
  facts: Json<Record<string, unknown>>
}
/** A network of the machine's own, carved at provision: out of what, and how long its prefix. */
export type ProfileLink = {
  readonly from: {
    readonly prefix?: string
    readonly pool?: string
    readonly role?: string
    readonly site?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly vrf?: string
  }
  readonly length: number
}
export interface ProfilesTable {
  id: Generated<string>
  name: string
  template: string
  image: string
  disk: Generated<string>
  parameters: DefaultJson<Record<string, unknown>>
  handoff: DefaultJson<{kind: string} & Record<string, unknown>>
  links: DefaultJson<readonly ProfileLink[]>
  created_at: CreatedAt
}
export interface WindowsTable {
  id: Generated<string>
  prefix_id: string
  until: Timestamp
  closed_at: NullableTimestamp
  clean: Generated<boolean>
  machine_limit: Generated<number>
  bmc_username: string | null
  bmc_password_sealed: Buffer | null
  created_by: string
  created_at: CreatedAt
}
export interface SightingsTable {
  mac: string
  prefix_id: string
  circuit: Generated<string>
  arch: string | null
  vendor_class: string | null
  dmi_uuid: string | null
  first_seen: Timestamp
  last_seen: Timestamp
  packets: Generated<number>
}

/** Options and loaders of the site (no id), a prefix, a profile or a machine. */
export interface DhcpScopesTable {
  id: Generated<number>
  prefix_id: string | null
  profile_id: string | null
  machine_id: string | null
  options: DefaultJson<StoredDhcpOptions>
  loaders: DefaultJson<Record<string, string>>
}
/** By the option's name, or `option-<code>:<type>`. */
export type StoredDhcpOptions = Record<string, {value: unknown; always: boolean}>
export interface ClientKeysTable {
  id: Generated<string>
  machine_id: string
  kind: 'client_id' | 'circuit_id'
  value: string
  relay: string | null
  created_at: CreatedAt
}

/** evidence */
export interface EvidenceTable {
  id: Generated<number>
  at: Timestamp
  machine_id: string | null
  job_id: string | null
  fence: number | null
  kind: string
  mac: string | null
  source: string
  detail: DefaultJson<Record<string, unknown>>
}
export interface EventsTable {
  id: Generated<number>
  at: Timestamp
  txid: ColumnType<string, never, never>
  actor: string
  kind: string
  machine_id: string | null
  job_id: string | null
  subject: string | null
  detail: DefaultJson<Record<string, unknown>>
}

export interface WireCountersTable {
  source: string
  name: string
  label: string
  value: number
  at: Timestamp
}
export interface DhcpServersTable {
  address: string
  source: string
  seen_at: Timestamp
}

/** lifecycle */
export interface MachineStatesTable {
  machine_id: string
  state: string
  state_since: Timestamp
  failed_from: string | null
  maintenance: Generated<boolean>
  quarantined: string | null
  dirty: Generated<boolean>
  fault: string | null
  power_desired: 'on' | 'off' | null
  power_observed: 'on' | 'off' | 'unknown' | null
  power_at: NullableTimestamp
  power_asked_at: NullableTimestamp
  power_drift_since: NullableTimestamp
  window_id: string | null
  provisioned: ColumnType<Record<string, unknown> | null, string | null | undefined, string | null>
  reserved_for: string | null
  reserved_until: NullableTimestamp
  version: Generated<number>
}
export interface JobsTable {
  id: Generated<string>
  machine_id: string
  kind: 'inspect' | 'test' | 'clean' | 'provision' | 'deprovision' | 'service' | 'rescue' | 'power'
  state: 'queued' | 'working' | 'waiting' | 'held' | 'succeeded' | 'failed' | 'cancelled'
  requested_by: string
  created_at: Timestamp
  finished_at: NullableTimestamp
  attempt: Generated<number>
  max_attempts: Generated<number>
  fence: number
  phase: string | null
  deadline: Timestamp
  wake_at: Timestamp
  plan: Json<Record<string, unknown>>
  plan_hash: string
  cancel_requested: Generated<boolean>
  /** the phase it is to be held at, and for how long at most; what its deadline had left when it was */
  hold_at: string | null
  hold_s: number | null
  held_at: NullableTimestamp
  remaining_s: number | null
  cause: ColumnType<JobCause | null, string | null | undefined, string | null>
}
/** Why a job failed: a code, what happened in words, what to do about it, and ids of the evidence that shows it. */
export type JobCause = {code: string; detail: string; mend: string; evidence?: readonly number[]}
export interface AttemptsTable {
  fence: number
  job_id: string
  number: number
  started_at: Timestamp
  powered_at: NullableTimestamp
  served_at: NullableTimestamp
  claimed_at: NullableTimestamp
  session_hash: Buffer | null
  ended_at: NullableTimestamp
  outcome: string | null
}
export interface PhasesTable {
  fence: number
  phase: string
  at: Timestamp
  evidence: Json<Record<string, unknown>>
}
export interface EffectsTable {
  fence: number
  phase: string
  started_at: Timestamp
  finished_at: NullableTimestamp
  tries: Generated<number>
  outcome: ColumnType<Record<string, unknown> | null, string | null | undefined, string | null>
}
export interface GroupsTable {
  id: Generated<string>
  action: string
  selector: string
  params: DefaultJson<Record<string, unknown>>
  destructive: boolean
  plan_hash: string
  state: 'working' | 'stopping' | 'succeeded' | 'stopped' | 'cancelled'
  reason: string | null
  canary: number
  batch: number
  stop_share: number
  cancel_requested: Generated<boolean>
  requested_by: string
  created_at: Timestamp
  finished_at: NullableTimestamp
}
export interface GroupMembersTable {
  group_id: string
  ordinal: number
  machine_id: string
  state: Generated<'pending' | 'started' | 'succeeded' | 'failed' | 'skipped'>
  job_id: string | null
  why: string | null
  started_at: NullableTimestamp
}
export interface PhaseTimesTable {
  id: Generated<number>
  model: string
  phase: string
  seconds: number
  at: Timestamp
}
export interface WorkersTable {
  id: string
  host: string
  pid: number
  /** ids under which this process's workers lock rows of the queue */
  queue_ids: Generated<string[]>
  started_at: Timestamp
  beat_at: Timestamp
}
export interface BootKeysTable {
  id: Generated<number>
  key: Buffer
}

/** power */
export interface KnownBmcsTable {
  /** Address and port. */
  bmc: string
  suite: number | null
  suite_at: NullableTimestamp
  device: ColumnType<Record<string, unknown> | null, string | null | undefined, string | null>
  seen_at: Timestamp
}
export interface BmcQuirksTable {
  /** Manufacturer, product and firmware: `674/256 2.09`. */
  model: string
  quirk: string
  times: number
  first_seen: Timestamp
  last_seen: Timestamp
  detail: string
}

/** supervisor */
export interface KeyholdersTable {
  id: string
  host: string
  pid: number
  key_ids: string[]
  primary_id: string
  beat_at: Timestamp
}

/** api */
export interface ApiTokensTable {
  id: Generated<string>
  name: string
  token_hash: Buffer
  permission: 'view' | 'operate' | 'administer'
  created_at: CreatedAt
  expires_at: NullableTimestamp
  revoked_at: NullableTimestamp
  /** whom it speaks for; null for the operators of the site */
  tenant: string | null
}
export interface IdempotencyKeysTable {
  token_id: string
  key: string
  request_hash: Buffer
  status: number | null
  response: ColumnType<unknown, string | null | undefined, string | null>
  created_at: CreatedAt
}

/** Views for boot; nobody writes them. */
export interface BootMachinesView {
  mac: string
  machine_id: string
  name: string
  state: string
  quarantined: string | null
  job_id: string | null
  job_kind: JobsTable['kind'] | null
  fence: number | null
  cancel_requested: boolean | null
  plan: Record<string, unknown> | null
  attempt: number | null
  powered_at: Date | null
  served_at: Date | null
  claimed_at: Date | null
  phase: string | null
}
export interface BootWindowsView {
  id: string
  prefix_id: string
  until: Date
  closed_at: Date | null
  has_bmc_credentials: boolean
  cidr: string
  boot_url: string | null
}

export interface Database {
  vrfs: VrfsTable
  prefixes: PrefixesTable
  ranges: RangesTable
  addresses: AddressesTable
  allocations: AllocationsTable
  leases: LeasesTable
  blocks: BlocksTable
  aggregates: AggregatesTable
  free_blocks: FreeBlocksTable
  delegations: DelegationsTable
  prefix_pools: PrefixPoolsTable
  prefix_pool_members: PrefixPoolMembersTable
  tenants: TenantsTable
  tenant_grants: TenantGrantsTable
  tenant_quotas: TenantQuotasTable
  machines: MachinesTable
  interfaces: InterfacesTable
  bmcs: BmcsTable
  facts: FactsTable
  profiles: ProfilesTable
  windows: WindowsTable
  sightings: SightingsTable
  dhcp_scopes: DhcpScopesTable
  client_keys: ClientKeysTable
  evidence: EvidenceTable
  events: EventsTable
  wire_counters: WireCountersTable
  dhcp_servers: DhcpServersTable
  machine_states: MachineStatesTable
  jobs: JobsTable
  attempts: AttemptsTable
  phases: PhasesTable
  effects: EffectsTable
  groups: GroupsTable
  group_members: GroupMembersTable
  phase_times: PhaseTimesTable
  workers: WorkersTable
  boot_keys: BootKeysTable
  keyholders: KeyholdersTable
  known_bmcs: KnownBmcsTable
  bmc_quirks: BmcQuirksTable
  boot_machines: BootMachinesView
  boot_windows: BootWindowsView
  api_tokens: ApiTokensTable
  idempotency_keys: IdempotencyKeysTable
}
