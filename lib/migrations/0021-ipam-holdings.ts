/** IPAM's holdings: holds that end by themselves, tenants who spend, anycast, whole prefixes held, and history that outlives its prefix. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  // An address outlives its prefix: its row and its history stay, and go to the next prefix around it.
  await sql`ALTER TABLE addresses ALTER prefix_id DROP NOT NULL, ADD anycast boolean NOT NULL DEFAULT false,
    ADD probed_at timestamptz, ADD conflict text`.execute(db)
  await sql`ALTER TABLE prefixes ADD UNIQUE (id, vrf_id, anycast)`.execute(db)
  await sql`ALTER TABLE addresses DROP CONSTRAINT addresses_prefix_id_vrf_id_fkey`.execute(db)
  // Only an anycast prefix has anycast addresses, and only those have several holders.
  await sql`ALTER TABLE addresses ADD CONSTRAINT address_in_a_prefix FOREIGN KEY (prefix_id, vrf_id, anycast)
    REFERENCES prefixes (id, vrf_id, anycast) ON DELETE SET NULL (prefix_id)`.execute(db)
  await sql`CREATE INDEX addresses_without_prefix ON addresses USING gist (vrf_id, address inet_ops) WHERE prefix_id IS NULL`.execute(
    db,
  )
  await sql`CREATE INDEX addresses_of_prefix ON addresses (prefix_id)`.execute(db)
  await sql`CREATE INDEX addresses_to_probe ON addresses (cool_until) WHERE cool_until IS NOT NULL`.execute(db)
  await sql`ALTER TABLE addresses ADD UNIQUE (id, anycast)`.execute(db)
  await sql`ALTER TABLE allocations ADD tenant text, ADD interface text, ADD expires_at timestamptz, ADD freed_reason text,
    ADD anycast boolean NOT NULL DEFAULT false`.execute(db)
  await sql`ALTER TABLE allocations DROP CONSTRAINT allocations_address_id_fkey`.execute(db)
  await sql`ALTER TABLE allocations ADD CONSTRAINT allocation_of_an_address FOREIGN KEY (address_id, anycast)
    REFERENCES addresses (id, anycast) ON UPDATE CASCADE`.execute(db)
  await sql`DROP INDEX one_holder_per_address`.execute(db)
  await sql`CREATE UNIQUE INDEX one_holder_per_address ON allocations (address_id) WHERE freed_at IS NULL AND NOT anycast`.execute(
    db,
  )
  await sql`CREATE UNIQUE INDEX one_share_per_holder ON allocations (address_id, holder_kind, holder)
    WHERE freed_at IS NULL AND anycast`.execute(db)
  await sql`CREATE INDEX allocations_that_end ON allocations (expires_at) WHERE freed_at IS NULL AND expires_at IS NOT NULL`.execute(
    db,
  )
  await sql`CREATE INDEX allocations_of_tenant ON allocations (tenant) WHERE freed_at IS NULL AND tenant IS NOT NULL`.execute(db)
  await sql`DROP INDEX allocations_by_machine`.execute(db)
  await sql`CREATE INDEX allocations_by_machine ON allocations (machine_id) WHERE machine_id IS NOT NULL`.execute(db)
  await sql`CREATE FUNCTION check_addresses() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE wrong record;
    BEGIN
      SELECT host(f.address) AS address, p.cidr INTO wrong FROM fresh f JOIN prefixes p ON p.id = f.prefix_id
        WHERE NOT f.address <<= p.cidr LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23514', CONSTRAINT = 'address_in_prefix',
          MESSAGE = format('address %s does not lie in prefix %s', wrong.address, wrong.cidr);
      END IF;
      RETURN NULL;
    END $$`.execute(db)
  await sql`CREATE TRIGGER check_new_addresses AFTER INSERT ON addresses REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION check_addresses()`.execute(db)
  await sql`CREATE FUNCTION check_address() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE network cidr;
    BEGIN
      SELECT cidr INTO network FROM prefixes WHERE id = NEW.prefix_id;
      IF NOT NEW.address <<= network THEN
        RAISE EXCEPTION USING ERRCODE = '23514', CONSTRAINT = 'address_in_prefix',
          MESSAGE = format('address %s does not lie in prefix %s', host(NEW.address), network);
      END IF;
      RETURN NULL;
    END $$`.execute(db)
  await sql`CREATE TRIGGER check_moved_address AFTER UPDATE OF prefix_id, address ON addresses FOR EACH ROW
    WHEN (NEW.prefix_id IS NOT NULL AND (OLD.prefix_id IS DISTINCT FROM NEW.prefix_id OR OLD.address IS DISTINCT FROM NEW.address))
    EXECUTE FUNCTION check_address()`.execute(db)
  await sql`CREATE FUNCTION keep_held_prefix() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE held record;
    BEGIN
      SELECT host(a.address) AS address, al.holder_kind, al.holder INTO held
        FROM addresses a JOIN allocations al ON al.address_id = a.id AND al.freed_at IS NULL WHERE a.prefix_id = OLD.id LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23514', CONSTRAINT = 'held_prefix_stays',
          MESSAGE = format('%s of prefix %s is held by %s %s', held.address, OLD.cidr, held.holder_kind, held.holder);
      END IF;
      RETURN OLD;
    END $$`.execute(db)
  await sql`CREATE TRIGGER keep_held_prefix BEFORE DELETE ON prefixes FOR EACH ROW EXECUTE FUNCTION keep_held_prefix()`.execute(
    db,
  )
  // A whole prefix held: what was carved out of a container for a machine, a service or a person. Its row outlives the prefix.
  await sql`CREATE TABLE delegations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    vrf_id uuid NOT NULL REFERENCES vrfs,
    prefix_id uuid REFERENCES prefixes ON DELETE SET NULL,
    cidr cidr NOT NULL,
    holder_kind text NOT NULL CHECK (holder_kind IN ('machine', 'service', 'person')),
    machine_id uuid,
    holder text NOT NULL,
    tenant text,
    role text,
    purpose text NOT NULL CHECK (purpose IN ('host', 'service')),
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    freed_at timestamptz,
    freed_by text,
    freed_reason text,
    CONSTRAINT machine_holder_is_named CHECK ((holder_kind = 'machine') = (machine_id IS NOT NULL)),
    CONSTRAINT freed_by_somebody CHECK ((freed_at IS NULL) = (freed_by IS NULL)),
    CONSTRAINT freed_after_created CHECK (freed_at >= created_at),
    CONSTRAINT held_delegation_has_its_prefix CHECK (freed_at IS NOT NULL OR prefix_id IS NOT NULL),
    CONSTRAINT one_holder_per_delegation EXCLUDE USING gist (vrf_id WITH =, cidr inet_ops WITH &&) WHERE (freed_at IS NULL)
  )`.execute(db)
  await sql`CREATE INDEX delegations_of_machine ON delegations (machine_id) WHERE machine_id IS NOT NULL`.execute(db)
  await sql`CREATE INDEX delegations_of_prefix ON delegations (prefix_id)`.execute(db)
  await sql`CREATE INDEX delegations_of_tenant ON delegations (tenant) WHERE freed_at IS NULL AND tenant IS NOT NULL`.execute(db)
}
