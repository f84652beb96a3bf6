/** IPAM: VRFs, prefixes, ranges, addresses, allocations, leases. One row an address, at most one live allocation a row. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE EXTENSION IF NOT EXISTS btree_gist`.execute(db)
  await sql`CREATE TABLE vrfs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE
  )`.execute(db)
  await sql`INSERT INTO vrfs (name) VALUES ('default')`.execute(db)
  await sql`CREATE TABLE prefixes (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    vrf_id uuid NOT NULL REFERENCES vrfs,
    cidr cidr NOT NULL,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('container', 'active', 'reserved', 'deprecated')),
    kind text NOT NULL DEFAULT 'host' CHECK (kind IN ('host', 'bmc')),
    role text,
    site text,
    tenant text,
    gateway inet,
    dns inet[] NOT NULL DEFAULT '{}',
    boot_url text,
    lease_s integer NOT NULL DEFAULT 3600 CHECK (lease_s BETWEEN 60 AND 31536000),
    dhcp text NOT NULL DEFAULT 'authoritative' CHECK (dhcp IN ('authoritative', 'off')),
    router_advertisement boolean NOT NULL DEFAULT false,
    relays inet[] NOT NULL DEFAULT '{}',
    cool_down_s integer NOT NULL DEFAULT 300 CHECK (cool_down_s >= 120),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (vrf_id, cidr),
    UNIQUE (id, vrf_id),
    CONSTRAINT gateway_in_prefix CHECK (gateway IS NULL OR gateway << cidr)
  )`.execute(db)
  // Active prefixes of one VRF never overlap: an address belongs to exactly one of them. Containers may hold others.
  await sql`ALTER TABLE prefixes ADD CONSTRAINT prefixes_do_not_overlap
    EXCLUDE USING gist (vrf_id WITH =, cidr inet_ops WITH &&) WHERE (status <> 'container')`.execute(db)
  // next_address is where to look for addresses never handed out: it only grows, and is NULL once the range was walked through.
  await sql`CREATE TABLE ranges (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    prefix_id uuid NOT NULL REFERENCES prefixes ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('static', 'dynamic')),
    first_address inet NOT NULL,
    last_address inet NOT NULL,
    next_address inet,
    CONSTRAINT next_in_range CHECK (next_address BETWEEN first_address AND last_address),
    CONSTRAINT range_is_ordered CHECK (first_address <= last_address AND family(first_address) = family(last_address)),
    CONSTRAINT range_has_no_masks CHECK (masklen(first_address) = masklen(host(first_address)::inet)
      AND masklen(last_address) = masklen(host(last_address)::inet))
  )`.execute(db)
  await sql`CREATE TYPE inetrange AS RANGE (subtype = inet)`.execute(db)
  await sql`ALTER TABLE ranges ADD CONSTRAINT ranges_do_not_overlap
    EXCLUDE USING gist (prefix_id WITH =, inetrange(first_address, last_address, '[]') WITH &&)`.execute(db)
  await sql`CREATE TABLE addresses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vrf_id uuid NOT NULL,
    prefix_id uuid NOT NULL,
    address inet NOT NULL,
    freed_at timestamptz,
    cool_until timestamptz,
    UNIQUE (address, vrf_id),
    CONSTRAINT address_has_no_mask CHECK (masklen(address) = masklen(host(address)::inet)),
    CONSTRAINT freed_address_cools CHECK ((freed_at IS NULL) = (cool_until IS NULL)),
    FOREIGN KEY (prefix_id, vrf_id) REFERENCES prefixes (id, vrf_id)
  )`.execute(db)
  await sql`CREATE INDEX addresses_by_freedom ON addresses (prefix_id, freed_at) WHERE freed_at IS NOT NULL`.execute(db)
  await sql`CREATE TABLE allocations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    address_id bigint NOT NULL REFERENCES addresses,
    holder_kind text NOT NULL CHECK (holder_kind IN ('machine', 'service', 'person', 'range')),
    machine_id uuid,
    holder text NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('boot', 'host', 'bmc', 'service', 'dynamic')),
    reason text NOT NULL DEFAULT '',
    client_key text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    freed_at timestamptz,
    freed_by text,
    CONSTRAINT machine_holder_is_named CHECK ((holder_kind = 'machine') = (machine_id IS NOT NULL)),
    CONSTRAINT freed_by_somebody CHECK ((freed_at IS NULL) = (freed_by IS NULL)),
    CONSTRAINT freed_after_created CHECK (freed_at >= created_at)
  )`.execute(db)
  await sql`CREATE UNIQUE INDEX one_holder_per_address ON allocations (address_id) WHERE freed_at IS NULL`.execute(db)
  await sql`CREATE UNIQUE INDEX one_boot_address_per_machine ON allocations (machine_id, purpose)
    WHERE freed_at IS NULL AND purpose = 'boot'`.execute(db)
  await sql`CREATE INDEX allocations_by_address ON allocations (address_id, created_at)`.execute(db)
  await sql`CREATE INDEX allocations_by_client_key ON allocations (client_key)
    WHERE freed_at IS NULL AND client_key IS NOT NULL`.execute(db)
  await sql`CREATE INDEX allocations_by_machine ON allocations (machine_id) WHERE freed_at IS NULL`.execute(db)
  // No index on expires_at, and room on each page: a renewal then stays a heap-only update, and the sweep reads the table.
  await sql`CREATE TABLE leases (
    address_id bigint PRIMARY KEY REFERENCES addresses,
    mac macaddr NOT NULL,
    client_id bytea,
    machine_id uuid,
    state text NOT NULL CHECK (state IN ('offered', 'bound', 'released', 'declined', 'expired')),
    starts_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
  ) WITH (fillfactor = 70)`.execute(db)
  await sql`CREATE INDEX leases_by_mac ON leases (mac)`.execute(db)
}
