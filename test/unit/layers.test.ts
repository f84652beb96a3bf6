/** Keeps the layer table of ARCHITECTURE.md: who may import whom, no cycles, one importer for each protocol package, one owner a table. */
import {readdirSync, readFileSync} from 'node:fs'
import {dirname, join, relative, resolve} from 'node:path'
import {describe, expect, it} from 'vitest'

const ROOT = resolve(import.meta.dirname, '..', '..')
const FOLDERS = ['bin', 'cli', 'lib', 'services', 'pxe', 'lab', 'sim', 'bench', 'fuzz']

type Source = {readonly file: string; readonly text: string; readonly imports: readonly string[]}

const SOURCES: readonly Source[] = FOLDERS.flatMap(folder => listFiles(join(ROOT, folder)))
  .filter(file => file.endsWith('.ts'))
  .map(file => {
    const text = readFileSync(file, 'utf8')
    return {file: relative(ROOT, file), text, imports: importsOf(file, text)}
  })

/** Service folder → the services whose façades it may import. Its own folder and lib are always allowed. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  ipam: [],
  inventory: [],
  evidence: [],
  artefacts: [],
  power: [],
  handoff: [],
  lifecycle: ['ipam', 'inventory', 'evidence', 'artefacts', 'power', 'handoff', 'boot/plan.ts'],
  dhcpd: [],
  tftpd: ['artefacts'],
  diagnosis: ['dhcpd', 'tftpd'],
  boot: ['artefacts', 'evidence', 'inventory', 'lifecycle'],
  api: ['artefacts', 'diagnosis', 'evidence', 'inventory', 'ipam', 'lifecycle', 'power', 'handoff'],
}

const PURE =
  /(^|\/)(packet|options|option-codecs|option-values|network-options|domain-names|client|client-keys|decide|proxy|pxe-vendor|loader-keys|dhcp-scopes|reply|destination|architectures|settle|link|boot-file|transitions|next|selector|next-start|target|plan|states|phases|progress|deadlines|scripts|token|transfer|lan-message|suites)\.ts$/
const IMPURE_IMPORTS =
  /^(node:(fs|net|dgram|http|https|child_process|os|timers|process|dns|tls|worker_threads)|pg|kysely|graphile-worker|express|pino|koffi)/

/** Protocol packages and the one folder that may import each. */
const ONE_IMPORTER: Readonly<Record<string, string>> = {
  koffi: 'services/supervisor',
  express: 'services/api',
  handlebars: 'lib',
  'ipaddr.js': 'lib/addresses.ts',
  pino: 'lib/log.ts',
  'prom-client': 'services/supervisor/metrics.ts',
  commander: '(cli|bin)',
}

const TABLE_OWNERS: Readonly<Record<string, readonly string[]>> = {
  'services/ipam': [
    ...['vrfs', 'aggregates', 'prefixes', 'free_blocks', 'ranges', 'addresses', 'allocations', 'delegations', 'leases', 'blocks'],
    ...['prefix_pools', 'prefix_pool_members', 'tenants', 'tenant_grants', 'tenant_quotas'],
  ],
  'services/inventory': [
    'machines',
    'interfaces',
    'bmcs',
    'facts',
    'profiles',
    'windows',
    'sightings',
    'dhcp_scopes',
    'client_keys',
  ],
  'services/evidence': ['evidence', 'events', 'wire_counters', 'dhcp_servers'],
  'services/lifecycle': [
    'machine_states',
    'jobs',
    'attempts',
    'phases',
    'effects',
    'phase_times',
    'groups',
    'group_members',
    'workers',
  ],
  'services/boot': ['boot_keys'],
  'services/power': ['known_bmcs', 'bmc_quirks'],
  'services/supervisor': ['keyholders'],
  'services/api': ['api_tokens', 'idempotency_keys'],
}

describe('layers', () => {
  it('found the sources it is to check', () => {
    expect(SOURCES.length).toBeGreaterThan(100)
  })

  it('lib imports nothing from above it', () => {
    expect(
      edges(
        source => source.file.startsWith('lib/'),
        target => !target.startsWith('lib/') && isOurs(target),
      ),
    ).toEqual([])
  })

  it('services import only lib, themselves, and the façades their layer allows', () => {
    const wrong = SOURCES.flatMap(source => {
      const service = serviceOf(source.file)
      if (!service || service === 'supervisor') return []
      const allowed = MAY_IMPORT[service] ?? []
      return source.imports
        .filter(isOurs)
        .filter(target => !target.startsWith('lib/') && serviceOf(target) !== service)
        .filter(target => !allowed.some(name => target === `services/${name}/index.ts` || target === `services/${name}`))
        .map(target => `${source.file} → ${target}`)
    })
    expect(wrong).toEqual([])
  })

  it('every service is in the table', () => {
    const services = new Set(SOURCES.flatMap(source => serviceOf(source.file) ?? []))
    expect([...services].filter(name => name !== 'supervisor' && !(name in MAY_IMPORT))).toEqual([])
  })

  it('API verbs of the CLI reach services only over the API', () => {
    const host = ['cli/db.ts', 'cli/serve.ts', 'cli/init.ts', 'cli/images.ts', 'cli/secrets.ts']
    const isVerb = (source: Source) => source.file.startsWith('cli/') && !host.includes(source.file)
    expect(edges(isVerb, target => target.startsWith('services/') || target.startsWith('pxe/'))).toEqual([])
  })

  it('pure files do no I/O, read no clock and write no log', () => {
    const pure = SOURCES.filter(
      ({file}) => file.startsWith('services/diagnosis/') || (file.startsWith('services/') && PURE.test(file)),
    )
    expect(pure.length).toBeGreaterThan(15)
    const wrong = pure.flatMap(source => [
      ...source.imports.filter(target => IMPURE_IMPORTS.test(target)).map(target => `${source.file} imports ${target}`),
      ...(/\b(Date\.now\(|new Date\(\)|performance\.now\(|Math\.random\(|setTimeout\(|console\.)/.test(stripComments(source.text))
        ? [`${source.file} reads a clock, a random number or the console`]
        : []),
    ])
    expect(wrong).toEqual([])
  })

  it('has no import cycles', () => {
    expect(findCycle()).toEqual([])
  })

  it('each protocol package has one importer', () => {
    const wrong = Object.entries(ONE_IMPORTER).flatMap(([name, place]) =>
      SOURCES.filter(source => source.imports.includes(name) && !new RegExp(`^${place}`).test(source.file)).map(
        source => `${source.file} imports ${name}`,
      ),
    )
    expect(wrong).toEqual([])
  })

  it('each table is written by its owner’s folder only', () => {
    const wrong = Object.entries(TABLE_OWNERS).flatMap(([owner, tables]) => {
      const writes = new RegExp(
        `(insertInto|updateTable|deleteFrom)\\('(${tables.join('|')})'|(INSERT INTO|UPDATE|DELETE FROM) (${tables.join('|')})\\b`,
      )
      // The simulator lets hours pass by writing them into the columns that hold them; a benchmark plants what nobody would wait for.
      return SOURCES.filter(
        source =>
          !/^(sim|bench)\//.test(source.file) &&
          !source.file.startsWith(owner) &&
          !source.file.startsWith('lib/migrations/') &&
          writes.test(stripComments(source.text)),
      ).map(source => `${source.file} writes a table of ${owner}`)
    })
    expect(wrong).toEqual([])
  })

  it('exports by name only', () => {
    expect(SOURCES.filter(source => /^export default/m.test(source.text)).map(source => source.file)).toEqual([])
  })
})

function edges(from: (source: Source) => boolean, to: (target: string) => boolean): string[] {
  return SOURCES.filter(from).flatMap(source => source.imports.filter(to).map(target => `${source.file} → ${target}`))
}

function serviceOf(file: string): string | undefined {
  return /^services\/([^/]+)\//.exec(file)?.[1]
}

function isOurs(target: string): boolean {
  return FOLDERS.some(folder => target.startsWith(`${folder}/`))
}

/** Project paths for our own files, package names (or `node:…`) for the rest. Type-only imports count: they are knowledge too. */
function importsOf(file: string, text: string): string[] {
  return [...text.matchAll(/^(?:import|export)\s[^'"]*?from\s+'([^']+)'|^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm)].map(
    match => {
      const target = match[1] ?? match[2] ?? match[3] ?? ''
      return target.startsWith('.') ? relative(ROOT, resolve(dirname(file), target)) : target
    },
  )
}

function findCycle(): string[] {
  const graph = new Map(SOURCES.map(source => [source.file, runtimeImports(source)]))
  const done = new Set<string>()
  const path: string[] = []
  const visit = (file: string): string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
    if (done.has(file)) return []
    path.push(file)
    for (const target of graph.get(file) ?? []) {
      const cycle = visit(target)
      if (cycle.length > 0) return cycle
    }
    path.pop()
    done.add(file)
    return []
  }
  for (const file of graph.keys()) {
    const cycle = visit(file)
    if (cycle.length > 0) return cycle
  }
  return []
}

/** Imports that exist at run time: `import type` is erased. */
function runtimeImports(source: Source): string[] {
  const text = source.text.replace(/^import type [^;]*?from '[^']+'$/gm, '').replace(/^export type \{[^}]*\} from '[^']+'$/gm, '')
  return importsOf(join(ROOT, source.file), text).filter(isOurs)
}

function stripComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '')
}

function listFiles(folder: string): string[] {
  return readdirSync(folder, {withFileTypes: true}).flatMap(entry => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? (entry.name === 'node_modules' ? [] : listFiles(path)) : [path]
  })
}
