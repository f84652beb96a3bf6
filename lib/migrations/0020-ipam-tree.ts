/** IPAM's tree: prefixes under containers, what of a container is free, aggregates; and what a prefix, a range and a gateway may not be. */
import {type Kysely, sql} from 'kysely'

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE vrfs ADD description text NOT NULL DEFAULT '', ADD created_at timestamptz NOT NULL DEFAULT now()`.execute(
    db,
  )
  await sql`CREATE TABLE aggregates (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    vrf_id uuid NOT NULL REFERENCES vrfs,
    cidr cidr NOT NULL,
    registry text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT aggregates_do_not_overlap EXCLUDE USING gist (vrf_id WITH =, cidr inet_ops WITH &&)
  )`.execute(db)
  await sql`ALTER TABLE prefixes ADD description text NOT NULL DEFAULT '', ADD labels jsonb NOT NULL DEFAULT '{}',
    ADD anycast boolean NOT NULL DEFAULT false`.execute(db)
  // The parent of a prefix is the longest container around it: found by this, and stored nowhere.
  await sql`CREATE INDEX containers ON prefixes USING gist (vrf_id, cidr inet_ops) WHERE status = 'container'`.execute(db)
  await sql`CREATE INDEX prefixes_by_role ON prefixes (role, cidr)`.execute(db)
  await sql`CREATE INDEX prefixes_by_labels ON prefixes USING gin (labels jsonb_path_ops)`.execute(db)
  // The free part of a container as its largest aligned blocks; together with its children they tile it. One that was given back cools.
  await sql`CREATE TABLE free_blocks (
    container_id uuid NOT NULL REFERENCES prefixes ON DELETE CASCADE,
    cidr cidr NOT NULL,
    freed_at timestamptz,
    cool_until timestamptz,
    PRIMARY KEY (container_id, cidr)
  )`.execute(db)
  await sql`CREATE INDEX free_blocks_by_size ON free_blocks (container_id, masklen(cidr) DESC, freed_at NULLS FIRST, cidr)`.execute(
    db,
  )
  await sql`CREATE INDEX free_blocks_cooling ON free_blocks (cool_until) WHERE cool_until IS NOT NULL`.execute(db)
  await sql`CREATE FUNCTION keep_prefix_network() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION USING ERRCODE = '23514', CONSTRAINT = 'prefix_keeps_its_network',
        MESSAGE = format('prefix %s stays what it is: its network, VRF and being anycast or a container do not change', OLD.cidr);
    END $$`.execute(db)
  await sql`CREATE TRIGGER keep_prefix_network BEFORE UPDATE OF cidr, vrf_id, anycast, status ON prefixes FOR EACH ROW
    WHEN (OLD.cidr IS DISTINCT FROM NEW.cidr OR OLD.vrf_id IS DISTINCT FROM NEW.vrf_id OR OLD.anycast IS DISTINCT FROM NEW.anycast
      OR (OLD.status = 'container') IS DISTINCT FROM (NEW.status = 'container'))
    EXECUTE FUNCTION keep_prefix_network()`.execute(db)
  await sql`CREATE FUNCTION check_tree() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE other record;
    BEGIN
      IF NEW.status = 'container' THEN
        SELECT cidr, status INTO other FROM prefixes p WHERE p.vrf_id = NEW.vrf_id AND p.status <> 'container' AND p.cidr >> NEW.cidr LIMIT 1;
      ELSE
        SELECT cidr, status INTO other FROM prefixes p WHERE p.vrf_id = NEW.vrf_id AND p.status = 'container' AND p.cidr << NEW.cidr LIMIT 1;
      END IF;
      IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23514', CONSTRAINT = 'containers_hold_prefixes', MESSAGE = format(
          'prefix %s (%s) cannot %s prefix %s (%s): only a container holds prefixes', NEW.cidr, NEW.status,
          CASE WHEN NEW.status = 'container' THEN 'lie in' ELSE 'hold' END, other.cidr, other.status);
      END IF;
      RETURN NEW;
    END $$`.execute(db)
  await sql`CREATE TRIGGER check_tree BEFORE INSERT ON prefixes FOR EACH ROW EXECUTE FUNCTION check_tree()`.execute(db)
  await cutGatewaysOut(db)
  await sql`CREATE FUNCTION check_range() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE p record;
    BEGIN
      -- The lock makes a change of the gateway at the same time wait, or us for it.
      SELECT cidr, gateway INTO p FROM prefixes WHERE id = NEW.prefix_id FOR SHARE;
      IF NOT (NEW.first_address <<= p.cidr AND NEW.last_address <<= p.cidr) THEN
        RAISE EXCEPTION USING ERRCODE = '23514', CONSTRAINT = 'range_in_prefix',
          MESSAGE = format('range %s–%s does not lie in its prefix %s', host(NEW.first_address), host(NEW.last_address), p.cidr);
      END IF;
      IF p.gateway BETWEEN NEW.first_address AND NEW.last_address THEN
        RAISE EXCEPTION USING ERRCODE = '23514', CONSTRAINT = 'gateway_outside_ranges', MESSAGE = format(
          'range %s–%s holds %s, the gateway of prefix %s', host(NEW.first_address), host(NEW.last_address), host(p.gateway), p.cidr);
      END IF;
      RETURN NULL;
    END $$`.execute(db)
  await sql`CREATE TRIGGER check_range AFTER INSERT OR UPDATE OF prefix_id, first_address, last_address ON ranges
    FOR EACH ROW EXECUTE FUNCTION check_range()`.execute(db)
  await sql`CREATE FUNCTION check_gateway() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE r record;
    BEGIN
      SELECT first_address, last_address INTO r FROM ranges
        WHERE prefix_id = NEW.id AND NEW.gateway BETWEEN first_address AND last_address;
      IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23514', CONSTRAINT = 'gateway_outside_ranges', MESSAGE = format(
          'gateway %s of prefix %s lies in its range %s–%s', host(NEW.gateway), NEW.cidr, host(r.first_address), host(r.last_address));
      END IF;
      RETURN NULL;
    END $$`.execute(db)
  await sql`CREATE TRIGGER check_gateway AFTER UPDATE OF gateway ON prefixes FOR EACH ROW
    WHEN (NEW.gateway IS NOT NULL AND OLD.gateway IS DISTINCT FROM NEW.gateway) EXECUTE FUNCTION check_gateway()`.execute(db)
}

/** Ranges made before lay around their gateway; from now on they end before it. */
async function cutGatewaysOut(db: Kysely<unknown>): Promise<void> {
  await sql`DO $$
    DECLARE r record;
    BEGIN
      FOR r IN SELECT ranges.*, p.gateway FROM ranges JOIN prefixes p ON p.id = ranges.prefix_id
        AND p.gateway BETWEEN first_address AND last_address
      LOOP
        IF r.gateway = r.first_address AND r.gateway = r.last_address THEN
          DELETE FROM ranges WHERE id = r.id;
        ELSIF r.gateway = r.first_address THEN
          UPDATE ranges SET first_address = gateway + 1, next_address = greatest(next_address, gateway + 1)
            FROM prefixes p WHERE p.id = r.prefix_id AND ranges.id = r.id AND next_address IS NOT NULL;
          UPDATE ranges SET first_address = r.gateway + 1 WHERE id = r.id AND next_address IS NULL;
        ELSE
          UPDATE ranges SET last_address = r.gateway - 1, next_address = CASE WHEN r.next_address < r.gateway THEN r.next_address END
            WHERE id = r.id;
          IF r.gateway < r.last_address THEN
            INSERT INTO ranges (prefix_id, kind, first_address, last_address, next_address) VALUES (r.prefix_id, r.kind, r.gateway + 1,
              r.last_address, CASE WHEN r.next_address IS NOT NULL THEN greatest(r.next_address, r.gateway + 1) END);
          END IF;
        END IF;
      END LOOP;
    END $$`.execute(db)
}
