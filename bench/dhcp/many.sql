-- 60 000 machines with reservations in 10.78.0.0/16 and 60 000 dynamic leases in 10.77.0.0/16, as if they had come one by one. Their MACs
-- are those of perfdhcp: each octet of the client's number is added to that of the base, without carry.
BEGIN;

CREATE TEMPORARY TABLE many ON COMMIT DROP AS
SELECT n, ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS machine_id, 'bench' || n AS name,
  ('00:0c:01:' || tail)::macaddr AS reserved_mac, ('00:0d:01:' || tail)::macaddr AS leased_mac,
  '10.78.1.0'::inet + n AS reserved_address, '10.77.16.0'::inet + n AS leased_address
FROM (SELECT n, concat_ws(':', lpad(to_hex((2 + (n >> 16)) % 256), 2, '0'), lpad(to_hex((3 + (n >> 8)) % 256), 2, '0'),
  lpad(to_hex((4 + n) % 256), 2, '0')) AS tail FROM generate_series(0, 59999) AS n) AS numbers;

INSERT INTO machines (id, name, origin) SELECT machine_id, name, 'declared' FROM many;
INSERT INTO machine_states (machine_id, state, state_since) SELECT machine_id, 'enrolled', now() FROM many;
INSERT INTO interfaces (machine_id, mac, is_boot) SELECT machine_id, reserved_mac, true FROM many;

INSERT INTO addresses (vrf_id, prefix_id, address)
SELECT p.vrf_id, p.id, reserved_address FROM many JOIN prefixes p ON p.cidr = '10.78.0.0/16' ON CONFLICT DO NOTHING;
INSERT INTO addresses (vrf_id, prefix_id, address)
SELECT p.vrf_id, p.id, leased_address FROM many JOIN prefixes p ON p.cidr = '10.77.0.0/16' ON CONFLICT DO NOTHING;
-- Whoever was measured before gives its address back.
UPDATE allocations SET freed_at = now(), freed_by = 'bench' WHERE freed_at IS NULL AND holder_kind = 'range';
UPDATE addresses SET freed_at = NULL, cool_until = NULL
WHERE freed_at IS NOT NULL AND address BETWEEN '10.77.16.0' AND '10.77.255.254';

INSERT INTO allocations (address_id, holder_kind, machine_id, holder, purpose, client_key, created_by)
SELECT a.id, 'machine', machine_id, name, 'boot', reserved_mac::text, 'bench' FROM many JOIN addresses a ON a.address = reserved_address;
INSERT INTO allocations (address_id, holder_kind, holder, purpose, created_by)
SELECT a.id, 'range', leased_mac::text, 'dynamic', 'dhcpd' FROM many JOIN addresses a ON a.address = leased_address;
DELETE FROM leases;
INSERT INTO leases (address_id, mac, state, starts_at, expires_at, updated_at)
SELECT a.id, leased_mac, 'bound', now(), now() + interval '1 hour', now() FROM many JOIN addresses a ON a.address = leased_address;

COMMIT;
ANALYZE;
