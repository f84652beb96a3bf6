/** Inventory: machines, their interfaces and BMCs, facts as versions, profiles, enrolment windows, sightings. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE machines (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    dmi_uuid uuid,
    serial text,
    firmware text CHECK (firmware IN ('bios', 'uefi')),
    origin text NOT NULL CHECK (origin IN ('declared', 'window')),
    labels jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1
  )`.execute(db)
  await sql`CREATE TABLE interfaces (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    mac macaddr NOT NULL UNIQUE,
    kind text NOT NULL DEFAULT 'host' CHECK (kind IN ('host', 'bmc')),
    name text,
    is_boot boolean NOT NULL DEFAULT false
  )`.execute(db)
  await sql`CREATE UNIQUE INDEX one_boot_interface ON interfaces (machine_id) WHERE is_boot`.execute(db)
  await sql`CREATE TABLE bmcs (
    machine_id uuid PRIMARY KEY REFERENCES machines ON DELETE CASCADE,
    driver text NOT NULL CHECK (driver IN ('ipmi', 'manual')),
    address inet,
    port integer NOT NULL DEFAULT 623,
    username text,
    password_sealed bytea,
    proven_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
  )`.execute(db)
  await sql`CREATE TABLE facts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    machine_id uuid NOT NULL REFERENCES machines ON DELETE CASCADE,
    version integer NOT NULL,
    source text NOT NULL CHECK (source IN ('inspection', 'first_boot')),
    recorded_at timestamptz NOT NULL,
    job_id uuid,
    facts jsonb NOT NULL,
    UNIQUE (machine_id, source, version)
  )`.execute(db)
  await sql`CREATE TABLE profiles (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE,
    template text NOT NULL,
    image text NOT NULL,
    disk text NOT NULL DEFAULT 'smallest',
    parameters jsonb NOT NULL DEFAULT '{}',
    handoff jsonb NOT NULL DEFAULT '{"kind": "none"}',
    created_at timestamptz NOT NULL DEFAULT now()
  )`.execute(db)
  await sql`CREATE TABLE windows (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    prefix_id uuid NOT NULL,
    until timestamptz NOT NULL,
    closed_at timestamptz,
    clean boolean NOT NULL DEFAULT false,
    machine_limit integer NOT NULL DEFAULT 256 CHECK (machine_limit > 0),
    bmc_username text,
    bmc_password_sealed bytea,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
  )`.execute(db)
  await sql`CREATE TABLE sightings (
    mac macaddr NOT NULL,
    prefix_id uuid NOT NULL,
    circuit text NOT NULL DEFAULT '',
    arch text,
    vendor_class text,
    dmi_uuid text,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    packets bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (prefix_id, circuit, mac)
  )`.execute(db)
  await sql`CREATE INDEX sightings_by_age ON sightings (last_seen)`.execute(db)
}
