/**
 * `ingot init`: prepares this host. Asks for (or takes by options) interface, prefix, gateway, DNS and boot URL, writes the
 * configuration, makes the keys and the database, adds the prefix, and shows the first API token once. Safe to run again.
 */
import {existsSync} from 'node:fs'
import {join} from 'node:path'
import {createInterface} from 'node:readline/promises'
import {Command} from 'commander'
import {type Cidr, cidrContains, type Ipv4, intToIpv4, ipv4ToInt, parseCidr, parseIpv4} from '../lib/addresses.ts'
import {systemClock} from '../lib/clock.ts'
import {type ConfigFileInput, loadConfig, saveConfigFile} from '../lib/config.ts'
import {createDb, withTx} from '../lib/db.ts'
import {IngotError} from '../lib/errors.ts'
import {readInterfaces} from '../lib/interfaces.ts'
import {createLog} from '../lib/log.ts'
import {migrateDatabase} from '../lib/schema-state.ts'
import {createIpam} from '../services/ipam/index.ts'
import {preflight} from '../services/supervisor/preflight.ts'
import {ensureSealingKey} from '../services/supervisor/sealing-key.ts'
import {withStateDatabase} from '../services/supervisor/state-database.ts'
import {printJson, printLine, reportFailure} from './output.ts'

type Options = {
  state?: string
  interface?: string
  prefix?: string
  gateway?: string
  dns?: string[]
  bootUrl?: string
  ra?: boolean
  databaseUrl?: string
  apiListen?: string
  newToken?: boolean
  json?: boolean
  yes?: boolean
}

type Network = {interface: string; prefix: Cidr; gateway: string | null; dns: string[]; bootUrl: string; own: string | undefined}

const BOOT_PORT = 8480

export function initCommand(): Command {
  return new Command('init')
    .description('prepare this host: configuration, keys, database, first prefix, first API token')
    .option('--interface <name>', 'where machines netboot; none is served until it is named')
    .option('--prefix <cidr>', 'their prefix')
    .option('--gateway <address>')
    .option('--dns <address>', 'may be given again', (text: string, before: string[] = []) => [...before, text])
    .option('--boot-url <url>', `where they reach this host (default: its address on the interface, port ${BOOT_PORT})`)
    .option('--ra', 'send the router advertisement that spares iPXE 14 s a boot (lifetime 0, no prefix)')
    .option('--database-url <url>', 'an existing PostgreSQL instead of the embedded one')
    .option('--api-listen <address:port>', 'where the API listens (default 127.0.0.1:8481)')
    .option('--state <directory>', 'state directory (default: INGOT_STATE, else /var/lib/ingot)')
    .option('--new-token', 'only make another administrator’s API token')
    .option('--yes', 'take the defaults instead of asking')
    .option('--json', 'print JSON')
    .action(async (options: Options) => {
      try {
        await init(options)
      } catch (error) {
        // Ctrl-C or Ctrl-D at a question, before anything was written.
        if (error instanceof Error && 'code' in error && error.code === 'ABORT_ERR') {
          process.stderr.write('\nStopped; nothing was changed.\n')
          process.exitCode = 130
        } else reportFailure(error, options.json === true)
      }
    })
}

async function init(options: Options): Promise<void> {
  const log = createLog('ingot init', 'warn')
  const before = loadConfig(options.state === undefined ? {} : {state: options.state})
  const {stateDir} = before
  const network = options.newToken ? undefined : await askNetwork(options)
  if (!options.newToken) {
    saveConfigFile(stateDir, configFile(options, network))
    ensureSealingKey(before.sealingKeyFile)
  }
  const config = loadConfig({state: stateDir})
  // Only here: every other verb would pay for loading the whole HTTP server with it.
  const {createToken} = await import('../services/api/index.ts')
  const token = await withStateDatabase(config, {alone: false, log}, async url => {
    if (!options.newToken) await migrateDatabase({url, log})
    const db = createDb({url, log, applicationName: 'ingot-init'})
    try {
      if (network) await addPrefix(db, network, options.ra === true)
      return await createToken(db, {name: options.newToken ? `admin-${Date.now()}` : 'admin', permission: 'administer'})
    } finally {
      await db.destroy()
    }
  })
  const findings = preflight(config, config.services, systemClock)
  if (options.json) return printJson({state_dir: stateDir, token: token.reveal(), findings})
  for (const finding of findings) printLine(`${finding.level}: ${finding.what}\n  → ${finding.mend}`)
  printLine(`\nThe API token, shown this once:\n\n  ${token.reveal()}\n`)
  printLine('Put it into ~/.config/ingot/token (mode 0600) or INGOT_TOKEN. `ingot init --new-token` makes another.')
  if (!existsSync(join(stateDir, 'artefacts', 'manifest.json'))) printLine('Next: `ingot images build`, then `ingot serve`.')
}

async function askNetwork(options: Options): Promise<Network | undefined> {
  const ask =
    options.yes || options.json || !process.stdin.isTTY
      ? undefined
      : createInterface({input: process.stdin, output: process.stdout})
  const question = async (text: string, given: string | undefined, fallback: string) =>
    given ?? (ask ? (await ask.question(`${text} [${fallback || 'none'}]: `)).trim() || fallback : fallback)
  try {
    const name = await question('Interface of the boot network', options.interface, '')
    if (name === '') return undefined
    const known = readInterfaces()
    const link = known.find(entry => entry.name === name)
    if (!link) throw wrong('interface', `there is no interface ${name}; there are ${known.map(entry => entry.name).join(', ')}`)
    const [own] = link.addresses
    const prefixText = await question('Prefix of the machines', options.prefix, own ? networkOf(own.address, own.length) : '')
    const prefix = parseCidr(prefixText)
    if (!prefix) throw wrong('prefix', `'${prefixText}' is not a network such as 10.0.0.0/24, without host bits`)
    const gateway = await question('Gateway', options.gateway, '')
    if (gateway !== '' && !parseIpv4(gateway)) throw wrong('gateway', `'${gateway}' is not an IPv4 address`)
    const dns = options.dns ?? (await question('DNS server', undefined, gateway)).split(/[ ,]+/).filter(Boolean)
    const bootUrl = await question('Boot URL', options.bootUrl, own ? `http://${own.address}:${BOOT_PORT}` : '')
    return {interface: name, prefix, gateway: gateway || null, dns, bootUrl, own: own?.address}
  } finally {
    ask?.close()
  }
}

function configFile(options: Options, network: Network | undefined): ConfigFileInput {
  return {
    ...(options.databaseUrl ? {database_url: options.databaseUrl} : {}),
    ...(network ? {interfaces: [{name: network.interface}]} : {}),
    ...(network ? {boot: {listen: `0.0.0.0:${URL.parse(network.bootUrl)?.port || BOOT_PORT}`}} : {}),
    ...(options.apiListen ? {api: {listen: options.apiListen}} : {}),
  }
}

async function addPrefix(db: ReturnType<typeof createDb>, network: Network, ra: boolean): Promise<void> {
  const ipam = createIpam({db, clock: systemClock, log: createLog('ingot init', 'warn')})
  if (await ipam.getPrefix(network.prefix)) return
  const own = network.own === undefined ? undefined : parseIpv4(network.own)
  await withTx(db, tx =>
    ipam.createPrefix(
      tx,
      {
        cidr: network.prefix,
        gateway: network.gateway,
        dns: network.dns,
        boot_url: network.bootUrl,
        router_advertisement: ra,
        exclude: own && cidrContains(network.prefix, own) ? [own] : [],
      },
      'init',
    ),
  )
}

/** `10.77.0.1`, 22 → `10.77.0.0/22`. */
function networkOf(address: Ipv4, length: number): string {
  const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0
  return `${intToIpv4((ipv4ToInt(address) & mask) >>> 0)}/${length}`
}

function wrong(field: string, message: string): IngotError {
  return new IngotError('INVALID_INPUT', message, {errors: [{field, code: 'format', message}]})
}
