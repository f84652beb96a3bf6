/** A database with ipam over it, a clock that the test winds, and the questions about its tables that hold whatever happened. */
import {sql} from 'kysely'
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import type {Db} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {silentLog} from '../../lib/log.ts'
import {createIpam, type Holder, type Ipam} from '../../services/ipam/index.ts'
import {createTestDatabase, type TestDatabase} from './database.ts'

export type IpamWorld = {
  readonly database: TestDatabase
  readonly db: Db
  readonly ipam: Ipam
  /** Seconds after the world's beginning. */
  at(seconds: number): Date
  wind(seconds: number): void
}

const BEGINNING = Date.UTC(2030, 0, 1)

export async function createIpamWorld(maxConnections = 10): Promise<IpamWorld> {
  const database = await createTestDatabase({maxConnections})
  let wound = 0
  const at = (seconds: number) => new Date(BEGINNING + seconds * 1000)
  const clock = {now: () => at(wound), monotonicMs: () => performance.now()}
  return {
    database,
    db: database.db,
    ipam: createIpam({db: database.db, clock, log: silentLog}),
    at,
    wind: seconds => {
      wound = seconds
    },
  }
}

export const person = (name: string): Holder & {kind: 'person'} => ({kind: 'person', name})

export const machineId = (number: number) => `00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`

export const macOf = (number: number) => `52:54:00:00:${hex(number >> 8)}:${hex(number & 255)}` as Mac

export const ip = (text: string) => text as Ipv4

/** The error a promise is rejected with; fails when it is not, or not with an IngotError. */
export async function refusal(promise: Promise<unknown>): Promise<IngotError> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (outcome instanceof IngotError) return outcome
  throw outcome ?? new Error('it was not refused')
}

/**
 * What must never be found in the tables: an address whose mark of freedom contradicts its allocations, two holdings of one address at
 * one instant, a lease without its holding, a holding without its lease, an address free before a lease on it is over.
 */
export async function findBreaches(db: Db): Promise<string[]> {
  const {rows} = await sql<{breach: string}>`
    SELECT 'held but marked free: ' || host(a.address) AS breach FROM addresses a
      JOIN allocations al ON al.address_id = a.id AND al.freed_at IS NULL WHERE a.freed_at IS NOT NULL
    UNION ALL SELECT 'free but not marked: ' || host(a.address) FROM addresses a
      WHERE a.freed_at IS NULL AND NOT EXISTS (SELECT FROM allocations al WHERE al.address_id = a.id AND al.freed_at IS NULL)
    UNION ALL SELECT 'two holders at once: ' || host(a.address) || ' ' || x.holder || ' ' || y.holder
      FROM allocations x JOIN allocations y ON y.address_id = x.address_id AND x.id < y.id JOIN addresses a ON a.id = x.address_id
      WHERE NOT (x.anycast AND y.anycast) AND tstzrange(x.created_at, x.freed_at) && tstzrange(y.created_at, y.freed_at)
    UNION ALL SELECT 'lease without its holding: ' || host(a.address) || ' ' || l.mac FROM leases l JOIN addresses a ON a.id = l.address_id
      WHERE l.state IN ('offered', 'bound') AND NOT EXISTS (
        SELECT FROM allocations al WHERE al.address_id = l.address_id AND al.freed_at IS NULL
          AND (al.machine_id = l.machine_id OR al.client_key = l.mac::text OR (al.holder_kind = 'range' AND al.holder = l.mac::text)))
    UNION ALL SELECT 'dynamic holding without its lease: ' || host(a.address) || ' ' || al.holder
      FROM allocations al JOIN addresses a ON a.id = al.address_id
      WHERE al.freed_at IS NULL AND al.holder_kind = 'range' AND NOT EXISTS (
        SELECT FROM leases l WHERE l.address_id = al.address_id AND l.mac::text = al.holder AND l.state IN ('offered', 'bound'))
    UNION ALL SELECT 'outside its prefix: ' || host(a.address) FROM addresses a JOIN prefixes p ON p.id = a.prefix_id
      WHERE NOT a.address <<= p.cidr
    UNION ALL SELECT 'held without a prefix: ' || host(a.address) FROM addresses a JOIN allocations al ON al.address_id = a.id
      WHERE al.freed_at IS NULL AND a.prefix_id IS NULL
    UNION ALL SELECT 'free and a prefix at once: ' || f.cidr FROM free_blocks f JOIN prefixes c ON c.id = f.container_id
      JOIN prefixes p ON p.vrf_id = c.vrf_id AND p.id <> c.id AND p.cidr && f.cidr AND NOT p.cidr >> f.cidr
    UNION ALL SELECT 'free in the wrong container: ' || f.cidr FROM free_blocks f JOIN prefixes c ON c.id = f.container_id
      WHERE NOT f.cidr <<= c.cidr OR EXISTS (SELECT FROM prefixes d WHERE d.vrf_id = c.vrf_id AND d.cidr << c.cidr AND d.cidr >>= f.cidr)
    UNION ALL SELECT 'neither free nor a prefix, in ' || c.cidr FROM prefixes c WHERE c.status = 'container'
      AND 2::float8 ^ ((CASE family(c.cidr) WHEN 4 THEN 32 ELSE 128 END) - masklen(c.cidr)) <> (
        SELECT coalesce(sum(2::float8 ^ ((CASE family(t.cidr) WHEN 4 THEN 32 ELSE 128 END) - masklen(t.cidr))), 0) FROM (
          SELECT f.cidr FROM free_blocks f WHERE f.container_id = c.id
          UNION ALL SELECT p.cidr FROM prefixes p WHERE p.vrf_id = c.vrf_id AND p.cidr << c.cidr AND NOT EXISTS (SELECT FROM prefixes d
            WHERE d.vrf_id = c.vrf_id AND d.status = 'container' AND d.cidr << c.cidr AND d.cidr >> p.cidr)) t)
    UNION ALL SELECT 'delegated without its prefix: ' || d.cidr FROM delegations d LEFT JOIN prefixes p ON p.id = d.prefix_id
      WHERE d.freed_at IS NULL AND p.cidr IS DISTINCT FROM d.cidr`.execute(db)
  return rows.map(row => row.breach)
}

/** Every holding there ever was, oldest first for each address. */
export async function readHoldings(
  db: Db,
): Promise<{address: string; holder: string; created_at: Date; freed_at: Date | null}[]> {
  const {rows} = await sql<{address: string; holder: string; created_at: Date; freed_at: Date | null}>`
    SELECT host(a.address) AS address, al.holder, al.created_at, al.freed_at FROM allocations al JOIN addresses a ON a.id = al.address_id
    ORDER BY a.address, al.created_at, al.freed_at`.execute(db)
  return rows
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0')
}
