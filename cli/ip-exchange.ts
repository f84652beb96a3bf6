/** `ingot ip export, import`: all of it out and in, as JSON or CSV; in also from NetBox. */
import {readFileSync} from 'node:fs'
import {type Command, Option} from 'commander'
import {ApiProblem, type Client} from './client.ts'
import {type Documents, readDocuments, toCsv} from './ip-documents.ts'
import {type Allocation, allPages, type Prefix} from './ip-shapes.ts'
import {printJson, printLine} from './output.ts'
import type {Page} from './shapes.ts'
import {apiVerb} from './verb.ts'

export function addExchangeVerbs(ip: Command): void {
  apiVerb<[], {csv?: 'prefixes' | 'addresses'}>(
    ip
      .command('export')
      .description('print all of it: as JSON, or one kind as CSV')
      .addOption(new Option('--csv <kind>', 'as CSV').choices(['prefixes', 'addresses'])),
    async ({client}, {csv}) => {
      const documents = await readAll(client)
      if (csv) return printLine(toCsv(documents, csv))
      const {notes: _, ...shown} = documents
      printJson(shown)
    },
  )
  apiVerb<[string], {dryRun?: boolean}>(
    ip
      .command('import')
      .description('bring in an export, CSV, or what NetBox’s API answers; what is there already stays')
      .argument('<file>', 'JSON or CSV; - reads standard input')
      .option('--dry-run', 'only say what would be done'),
    async ({client, json}, {dryRun}, file) => {
      const documents = readDocuments(readFileSync(file === '-' ? 0 : file, 'utf8'))
      const outcome = dryRun ? planOf(documents) : await bringIn(client, documents)
      if (json) return printJson(outcome)
      for (const note of outcome.notes) printLine(`note: ${note}`)
      for (const failure of outcome.failed) printLine(`failed: ${failure}`)
      printLine(
        `${dryRun ? 'Would add' : 'Added'} ${outcome.added.length}; there already: ${outcome.there.length}; failed: ${outcome.failed.length}.`,
      )
      if (outcome.failed.length > 0) process.exitCode = 1
    },
  )
}

type Outcome = {added: string[]; there: string[]; failed: string[]; notes: string[]}

async function readAll(client: Client): Promise<Documents> {
  const prefixes = await allPages<Prefix>(client, '/v1/prefixes')
  const addresses: Documents['addresses'] = []
  for (const prefix of prefixes.filter(prefix => prefix.status !== 'container')) {
    const held = await allPages<Allocation>(client, `/v1/prefixes/${prefix.id}/allocations`)
    // What settings hold comes with the prefix, and DHCP's own comes and goes.
    for (const row of held.filter(row => row.holder.kind !== 'range' && !isSetting(row)))
      addresses.push({
        address: row.address,
        vrf: prefix.vrf,
        holder_kind: row.holder.kind,
        holder: row.holder.name,
        reason: row.reason,
        tenant: row.tenant,
      })
  }
  const vrfs = (await client.get<Page<{name: string; description: string}>>('/v1/vrfs')).items
  const aggregates = (await client.get<Page<Documents['aggregates'][number]>>('/v1/aggregates')).items
  return {
    vrfs: vrfs.map(({name, description}) => ({name, description})),
    aggregates: aggregates.map(({cidr, vrf, registry, description}) => ({cidr, vrf, registry, description})),
    prefixes: prefixes.map(({cidr, vrf, status, role, site, tenant, gateway, description}) => ({
      ...{cidr, vrf, status, role, site, tenant, gateway, description},
    })),
    addresses,
    notes: [],
  }
}

function isSetting({holder}: Allocation): boolean {
  return holder.kind === 'service' && ['gateway', 'dns', 'boot', 'relay'].includes(holder.name)
}

function planOf(documents: Documents): Outcome {
  const added = [
    ...documents.vrfs.map(vrf => `VRF ${vrf.name}`),
    ...documents.aggregates.map(row => `aggregate ${row.cidr}`),
    ...documents.prefixes.map(row => `prefix ${row.cidr}`),
    ...documents.addresses.map(row => `address ${row.address}`),
  ]
  return {added, there: [], failed: [], notes: documents.notes}
}

/** Containers before what lies in them. One that fails keeps nobody else out. */
async function bringIn(client: Client, documents: Documents): Promise<Outcome> {
  const outcome: Outcome = {added: [], there: [], failed: [], notes: [...documents.notes]}
  const send = async (what: string, path: string, body: unknown) => {
    try {
      await client.send('POST', path, body)
      outcome.added.push(what)
    } catch (error) {
      if (!(error instanceof ApiProblem)) throw error
      const {code, detail} = error.problem
      if (isThere(code, detail, what)) outcome.there.push(what)
      else outcome.failed.push(`${what}: ${detail}`)
    }
  }
  const names = new Set((await client.get<Page<{name: string}>>('/v1/vrfs')).items.map(vrf => vrf.name))
  for (const vrf of documents.vrfs) {
    if (names.has(vrf.name)) outcome.there.push(`VRF ${vrf.name}`)
    else await send(`VRF ${vrf.name}`, '/v1/vrfs', vrf)
  }
  for (const row of documents.aggregates) await send(`aggregate ${row.cidr}`, '/v1/aggregates', row)
  for (const row of documents.prefixes.toSorted((a, b) => lengthOf(a.cidr) - lengthOf(b.cidr))) {
    const {gateway, ...rest} = row
    await send(`prefix ${row.cidr}`, '/v1/prefixes', {
      ...rest,
      ...(gateway === null || row.status === 'container' ? {} : {gateway}),
    })
  }
  for (const row of documents.addresses) {
    // A machine of another site is none here: its name is kept as a service.
    const holder = {kind: row.holder_kind === 'person' ? 'person' : 'service', name: row.holder}
    const body = {for: holder, address: row.address, vrf: row.vrf, reason: row.reason}
    await send(`address ${row.address}`, '/v1/allocations', body)
  }
  return outcome
}

/** What an import brings a second time. */
function isThere(code: string | undefined, detail: string, what: string): boolean {
  const name = what.split(' ')[1] ?? ''
  if (code === 'ADDRESS_TAKEN') return true
  return (
    code === 'CONFLICT' &&
    (detail.startsWith(`${name} overlaps prefix ${name} `) || detail.startsWith(`${name} overlaps an aggregate`))
  )
}

function lengthOf(cidr: string): number {
  return Number(cidr.slice(cidr.lastIndexOf('/') + 1))
}
