/** A tree of 100 000 prefixes, and how long it takes to add one, to find what covers an address, the next free /31, and how full one is. */
import {type Kysely, sql} from 'kysely'
import type {Database} from '../../lib/schema.ts'
import type {IpAddress, Ipam} from '../../services/ipam/index.ts'
import type {Row} from '../report.ts'

const SITES = 50
const PER_SITE = 1_000
const IN_ONE = 50_000
export const TREE_SIZE = SITES * PER_SITE + IN_ONE

/**
 * Half of it: fifty /16 containers under 10.0.0.0/8 with a thousand /28 each. The other half in one container, 11.0.0.0/8: fifty thousand
 * /28, every second one left free, the worst there is for whoever looks for room.
 */
export async function plantTree(db: Kysely<Database>, ipam: Ipam): Promise<void> {
  await sql`INSERT INTO prefixes (vrf_id, cidr, dhcp) SELECT v.id, set_masklen('10.0.0.0'::inet + (s * 65536 + n * 32), 28)::cidr, 'off'
    FROM vrfs v, generate_series(0, ${SITES - 1}::int) s, generate_series(0, ${PER_SITE - 1}::int) n WHERE v.name = 'default'`.execute(
    db,
  )
  await sql`INSERT INTO prefixes (vrf_id, cidr, dhcp) SELECT v.id, set_masklen('11.0.0.0'::inet + n * 32, 28)::cidr, 'off'
    FROM vrfs v, generate_series(0, ${IN_ONE - 1}::int) n WHERE v.name = 'default'`.execute(db)
  await sql`ANALYZE prefixes`.execute(db)
  for (let site = 0; site < SITES; site++)
    await ipam.createPrefix(db, {cidr: `10.${site}.0.0/16`, status: 'container', role: 'site'}, 'bench')
  await ipam.createPrefix(db, {cidr: '10.0.0.0/8', status: 'container'}, 'bench')
  await ipam.createPrefix(db, {cidr: '11.0.0.0/8', status: 'container', role: 'big'}, 'bench')
  await sql`ANALYZE`.execute(db)
}

export async function measureTree(db: Kysely<Database>, ipam: Ipam, times: number): Promise<Row[]> {
  const random = createRandom(1)
  const big = await ipam.getPrefix('11.0.0.0/8')
  const sites = await ipam.listPrefixes({role: 'site'})
  if (!big) throw new Error('the tree has no trunk')
  const site = () => sites[random(SITES)] ?? big
  const holder = {kind: 'service', name: 'bench'} as const
  const carve = (id: string) =>
    ipam.carve(db, {from: {prefixIds: [id]}, length: 31, holder, purpose: 'service', reason: ''}, 'bench', new Date())
  let fresh = 0
  const rows = [
    await timeMany('add a prefix', times, () =>
      ipam.createPrefix(
        db,
        {
          cidr: `10.${fresh % SITES}.${200 + Math.floor(fresh++ / SITES / 8)}.${(Math.floor(fresh / SITES) % 8) * 32}/28`,
          dhcp: 'off',
        },
        'bench',
      ),
    ),
    await timeMany('find the covering prefix', times, async () => {
      const address = `11.${random(24)}.${random(256)}.${random(8) * 32 + 1}` as IpAddress
      if (!(await ipam.findPrefixOf(address))) throw new Error(`nothing covers ${address}`)
    }),
    await timeMany('next free /31, in one of fifty containers', times, () => carve(site().id)),
    await timeMany('next free /31, in the container of 50 000', times, () => carve(big.id)),
    await timeMany('utilisation of a container of 1000', times, () => ipam.getPrefix(site().id)),
    await timeMany('utilisation of the container of 50 000', times, () => ipam.getPrefix(big.id)),
  ]
  return rows
}

async function timeMany(what: string, times: number, work: () => Promise<unknown>): Promise<Row> {
  for (let count = 0; count < 20; count++) await work()
  const took: number[] = []
  for (let count = 0; count < times; count++) {
    const startedMs = performance.now()
    await work()
    took.push(performance.now() - startedMs)
  }
  took.sort((a, b) => a - b)
  const at = (share: number) => took[Math.min(took.length - 1, Math.floor(took.length * share))] ?? 0
  return {what, times, p50_ms: at(0.5), p99_ms: at(0.99), most_ms: at(1)}
}

function createRandom(seed: number): (limit: number) => number {
  let state = seed
  return limit => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}
