/** `ingot ip pools, vrfs, aggregates, tenants`: what prefixes are arranged by. */
import type {Command} from 'commander'
import {parseQuota, shortNumber} from './ip-shapes.ts'
import {printJson, printLine, printTable} from './output.ts'
import type {Page} from './shapes.ts'
import {apiVerb, collect} from './verb.ts'

type Pool = {name: string; description: string; prefixes: {cidr: string; vrf: string}[]}
type Vrf = {name: string; description: string; prefixes: number}
type Aggregate = {id: string; cidr: string; vrf: string; registry: string; description: string; in_prefixes: number}
type Quota = {family: number; role: string | null; at_most: number}
type Tenant = {
  name: string
  prefixes: string[]
  pools: string[]
  quotas: Quota[]
  used?: {family: number; role: string | null; used: number}[]
}

export function addPlaceVerbs(ip: Command): void {
  addPools(ip.command('pools').description('prefixes in the order in which they are spent'))
  addVrfs(ip.command('vrfs').description('spaces apart, whose networks may overlap'))
  addAggregates(ip.command('aggregates').description('space that was assigned to you'))
  addTenants(ip.command('tenants').description('who may spend what, and how much'))
}

function addPools(pools: Command): void {
  apiVerb<[], object>(pools.command('list', {isDefault: true}).description('list them'), async ({client, json}) => {
    const page = await client.get<Page<Pool>>('/v1/prefix-pools')
    if (json) return printJson(page)
    const rows = page.items.map(pool => ({...pool, prefixes: pool.prefixes.map(prefix => prefix.cidr).join(', ')}))
    printTable(rows, ['name', 'prefixes', 'description'], 'There are no pools: `ingot ip pools write` makes one.')
  })
  apiVerb<[string, string[]], {description?: string; vrf?: string}>(
    pools
      .command('write')
      .description('write a pool; it takes the place of one with this name')
      .argument('<name>')
      .argument('<prefix...>', 'ids or CIDRs, in the order in which they are to be spent')
      .option('--description <text>')
      .option('--vrf <name>', 'where CIDRs are looked up'),
    async ({client, json}, options, name, prefixes) => {
      const pool = await client.send<Pool>('PUT', `/v1/prefix-pools/${encodeURIComponent(name)}`, {...pick(options), prefixes})
      if (json) return printJson(pool)
      printLine(`Pool ${pool.name}: ${pool.prefixes.map(prefix => prefix.cidr).join(', ')}.`)
    },
  )
  removeVerb(pools, '/v1/prefix-pools/')
}

function addVrfs(vrfs: Command): void {
  apiVerb<[], object>(vrfs.command('list', {isDefault: true}).description('list them'), async ({client, json}) => {
    const page = await client.get<Page<Vrf>>('/v1/vrfs')
    if (json) return printJson(page)
    printTable(page.items, ['name', 'prefixes', 'description'], 'There are no VRFs.')
  })
  apiVerb<[string], {description?: string}>(
    vrfs.command('add').description('add a VRF').argument('<name>').option('--description <text>'),
    async ({client, json}, {description}, name) => {
      const vrf = await client.send<Vrf>('POST', '/v1/vrfs', {name, description})
      if (json) return printJson(vrf)
      printLine(`Added VRF ${vrf.name}.`)
    },
  )
  removeVerb(vrfs, '/v1/vrfs/')
}

function addAggregates(aggregates: Command): void {
  apiVerb<[], object>(aggregates.command('list', {isDefault: true}).description('list them'), async ({client, json}) => {
    const page = await client.get<Page<Aggregate>>('/v1/aggregates')
    if (json) return printJson(page)
    const rows = page.items.map(row => ({...row, in_prefixes: shortNumber(row.in_prefixes)}))
    printTable(rows, ['cidr', 'vrf', 'registry', 'in_prefixes', 'description', 'id'], 'There are no aggregates.')
  })
  apiVerb<[string], {vrf?: string; registry?: string; description?: string}>(
    aggregates
      .command('add')
      .description('add an aggregate')
      .argument('<cidr>')
      .option('--vrf <name>')
      .option('--registry <name>', 'who assigned it: RIPE, ARIN, RFC 1918, …')
      .option('--description <text>'),
    async ({client, json}, {vrf, registry, description}, cidr) => {
      const aggregate = await client.send<Aggregate>('POST', '/v1/aggregates', {cidr, vrf, registry, description})
      if (json) return printJson(aggregate)
      printLine(`Added aggregate ${aggregate.cidr} (${aggregate.id}).`)
    },
  )
  removeVerb(aggregates, '/v1/aggregates/')
}

function addTenants(tenants: Command): void {
  apiVerb<[], object>(tenants.command('list', {isDefault: true}).description('list them'), async ({client, json}) => {
    const page = await client.get<Page<Tenant>>('/v1/tenants')
    if (json) return printJson(page)
    const rows = page.items.map(tenant => ({
      ...tenant,
      granted: [...tenant.prefixes, ...tenant.pools.map(pool => `pool ${pool}`)].join(', '),
      quotas: tenant.quotas.map(quota => `${words(quota)}: ${quota.at_most}`).join(', '),
      holds: (tenant.used ?? []).map(use => `${words(use)}: ${shortNumber(use.used)}`).join(', '),
    }))
    printTable(rows, ['name', 'granted', 'quotas', 'holds'], 'There are no tenants: `ingot ip tenants write` makes one.')
  })
  apiVerb<[string], {grant?: string[]; pool?: string[]; quota?: object[]; description?: string; vrf?: string}>(
    tenants
      .command('write')
      .description('write a tenant: what is given takes the place of what was; the rest stays')
      .argument('<name>')
      .option('--grant <prefix>', 'may spend this prefix, and what lies in it; may be given again', collect)
      .option('--pool <name>', 'may spend this pool; may be given again', collect)
      .option('--quota <quota>', 'such as ipv4=16, or ipv4:public=4 for a role; may be given again', parseQuota)
      .option('--description <text>')
      .option('--vrf <name>', 'where CIDRs are looked up'),
    async ({client, json}, options, name) => {
      const {grant: prefixes, pool: pools, quota: quotas} = options
      const body = {...pick(options), prefixes, pools, quotas}
      const tenant = await client.send<Tenant>('PUT', `/v1/tenants/${encodeURIComponent(name)}`, body)
      if (json) return printJson(tenant)
      printLine(`Tenant ${tenant.name} may spend ${[...tenant.prefixes, ...tenant.pools].join(', ') || 'its own prefixes'}.`)
    },
  )
  removeVerb(tenants, '/v1/tenants/')
}

function removeVerb(command: Command, path: string): void {
  apiVerb<[string], object>(
    command.command('remove').description('remove one').argument('<name>', 'its name or id'),
    async ({client, json}, _options, name) => {
      await client.send('DELETE', `${path}${encodeURIComponent(name)}`)
      if (json) return printJson({removed: name})
      printLine(`Removed ${name}.`)
    },
  )
}

function words({family, role}: {family: number; role: string | null}): string {
  return role === null ? `IPv${family}` : `IPv${family} ${role}`
}

function pick({description, vrf}: {description?: string; vrf?: string}) {
  return {description, vrf}
}
