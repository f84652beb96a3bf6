/** IPAM's pools (ordered lists of prefixes) and tenants: what each may spend, and how much of it. A token may speak for one tenant. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE prefix_pools (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
  )`.execute(db)
  await sql`CREATE TABLE prefix_pool_members (
    pool_id uuid NOT NULL REFERENCES prefix_pools ON DELETE CASCADE,
    prefix_id uuid NOT NULL REFERENCES prefixes ON DELETE CASCADE,
    place integer NOT NULL,
    PRIMARY KEY (pool_id, prefix_id),
    UNIQUE (pool_id, place)
  )`.execute(db)
  await sql`CREATE INDEX pool_members_by_prefix ON prefix_pool_members (prefix_id)`.execute(db)
  await sql`CREATE TABLE tenants (
    name text PRIMARY KEY,
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
  )`.execute(db)
  await sql`CREATE TABLE tenant_grants (
    tenant text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    prefix_id uuid REFERENCES prefixes ON DELETE CASCADE,
    pool_id uuid REFERENCES prefix_pools ON DELETE CASCADE,
    CONSTRAINT grant_of_one_thing CHECK ((prefix_id IS NULL) <> (pool_id IS NULL)),
    UNIQUE NULLS NOT DISTINCT (tenant, prefix_id, pool_id)
  )`.execute(db)
  // An IPv4 address counts 1 and a delegated IPv4 prefix its addresses; of IPv6 each address and each delegated prefix counts 1.
  await sql`CREATE TABLE tenant_quotas (
    tenant text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    family integer NOT NULL CHECK (family IN (4, 6)),
    role text,
    at_most bigint NOT NULL CHECK (at_most >= 0),
    UNIQUE NULLS NOT DISTINCT (tenant, family, role)
  )`.execute(db)
  await sql`ALTER TABLE api_tokens ADD tenant text`.execute(db)
}
