/**
 * How others find the next free address, each as its own code does it, on the same PostgreSQL: the statements and what is computed outside
 * of them. Written after what their sources do, as SQL and code of our own.
 *
 * NetBox: under an advisory lock it loads every address of the prefix, subtracts them from the prefix as sets, and takes the first left.
 * phpIPAM: loads the addresses of the subnet in order, walks to the first gap, inserts; a duplicate is tried again. There is no lock.
 * MAAS: under an advisory lock it loads addresses and reserved ranges, merges them into ranges in use, and takes what lies before the first.
 */
import pg from 'pg'

export type Peer = {readonly name: string; allocate(): Promise<string>; close(): Promise<void>}

const BASE = 10 * 2 ** 24
const LAST = 65_534

export async function preparePeers(url: string, taken: number): Promise<void> {
  const client = new pg.Client({connectionString: url})
  await client.connect()
  await client.query(`DROP TABLE IF EXISTS netbox_addresses, phpipam_addresses, maas_addresses, maas_ranges;
    CREATE TABLE netbox_addresses (id bigserial PRIMARY KEY, address inet NOT NULL, vrf_id int, status text NOT NULL DEFAULT 'active',
      description text NOT NULL DEFAULT '', created timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON netbox_addresses ((host(address)::inet));
    CREATE TABLE phpipam_addresses (id bigserial PRIMARY KEY, subnet_id int NOT NULL, ip_addr bigint NOT NULL, hostname text,
      UNIQUE (ip_addr, subnet_id));
    CREATE TABLE maas_addresses (id bigserial PRIMARY KEY, ip inet UNIQUE, alloc_type int NOT NULL, subnet_id int NOT NULL,
      created timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON maas_addresses (subnet_id);
    CREATE TABLE maas_ranges (id bigserial PRIMARY KEY, subnet_id int NOT NULL, start_ip inet NOT NULL, end_ip inet NOT NULL)`)
  const series = `generate_series(1, ${taken}) n`
  await client.query(`INSERT INTO netbox_addresses (address) SELECT set_masklen('10.0.0.0'::inet + n, 16) FROM ${series}`)
  await client.query(`INSERT INTO phpipam_addresses (subnet_id, ip_addr) SELECT 1, ${BASE} + n FROM ${series}`)
  await client.query(`INSERT INTO maas_addresses (ip, alloc_type, subnet_id) SELECT '10.0.0.0'::inet + n, 1, 1 FROM ${series}`)
  await client.query('ANALYZE')
  await client.end()
}

export function createPeers(url: string, connections: number): Peer[] {
  return [netbox(url, connections), phpipam(url, connections), maas(url, connections)]
}

function netbox(url: string, connections: number): Peer {
  const pool = new pg.Pool({connectionString: url, max: connections})
  return {
    name: 'NetBox',
    close: () => pool.end(),
    allocate: () =>
      inTransaction(pool, async client => {
        await client.query('SELECT pg_advisory_xact_lock(100100)')
        const {rows} = await client.query(
          `SELECT host(address) AS address FROM netbox_addresses WHERE vrf_id IS NULL AND host(address)::inet <<= '10.0.0.0/16'::inet`,
        )
        const used = new Set(rows.map(row => toNumber(row.address)))
        const free = lowest(n => !used.has(n))
        const address = toAddress(free)
        await client.query('INSERT INTO netbox_addresses (address) VALUES ($1)', [`${address}/16`])
        return address
      }),
  }
}

function phpipam(url: string, connections: number): Peer {
  const pool = new pg.Pool({connectionString: url, max: connections})
  return {
    name: 'phpIPAM',
    close: () => pool.end(),
    async allocate() {
      for (;;) {
        const {rows} = await pool.query('SELECT ip_addr FROM phpipam_addresses WHERE subnet_id = 1 ORDER BY ip_addr')
        let next = BASE + 1
        for (const row of rows) {
          if (Number(row.ip_addr) !== next) break
          next++
        }
        try {
          await pool.query('INSERT INTO phpipam_addresses (subnet_id, ip_addr) VALUES (1, $1)', [next])
          return toAddress(next)
        } catch (error) {
          if (!(error instanceof pg.DatabaseError) || error.code !== '23505') throw error
        }
      }
    },
  }
}

function maas(url: string, connections: number): Peer {
  const pool = new pg.Pool({connectionString: url, max: connections})
  return {
    name: 'MAAS',
    close: () => pool.end(),
    allocate: () =>
      inTransaction(pool, async client => {
        await client.query('SELECT pg_advisory_xact_lock(20120, 6)')
        const addresses = await client.query('SELECT host(ip) AS ip FROM maas_addresses WHERE subnet_id = 1 AND ip IS NOT NULL')
        const ranges = await client.query(
          'SELECT host(start_ip) AS first, host(end_ip) AS last FROM maas_ranges WHERE subnet_id = 1',
        )
        const used = [
          ...addresses.rows.map(row => [toNumber(row.ip), toNumber(row.ip)] as const),
          ...ranges.rows.map(row => [toNumber(row.first), toNumber(row.last)] as const),
        ].toSorted((a, b) => a[0] - b[0])
        let next = BASE + 1
        for (const [first, last] of used) {
          if (first > next) break
          next = Math.max(next, last + 1)
        }
        const address = toAddress(next)
        await client.query('INSERT INTO maas_addresses (ip, alloc_type, subnet_id) VALUES ($1, 1, 1)', [address])
        return address
      }),
  }
}

async function inTransaction(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<string>): Promise<string> {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } finally {
    client.release()
  }
}

function lowest(isFree: (n: number) => boolean): number {
  for (let n = BASE + 1; n <= BASE + LAST; n++) if (isFree(n)) return n
  throw new Error('full')
}

function toNumber(address: string): number {
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
  return ((a * 256 + b) * 256 + c) * 256 + d
}

function toAddress(n: number): string {
  return [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255].join('.')
}
