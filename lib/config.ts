/**
 * What one host serves: `<state>/ingot.json`, with `DATABASE_URL` and `INGOT_STATE` from the environment above it. Everything about
 * machines, prefixes and people lives in the database, not here.
 */
import {closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync} from 'node:fs'
import {isIP} from 'node:net'
import {join, resolve} from 'node:path'
import {z} from 'zod'
import {type FieldError, IngotError, messageOf} from './errors.ts'
import {Secret} from './secret.ts'

export const SERVICES = ['dhcpd', 'tftpd', 'boot', 'api', 'worker'] as const
export type Service = (typeof SERVICES)[number]

export type Endpoint = {readonly host: string; readonly port: number}

export type Config = {
  /** Absolute. */
  readonly stateDir: string
  /** Undefined: the embedded PostgreSQL. */
  readonly databaseUrl: Secret | undefined
  /** Whom the network services and the embedded PostgreSQL run as when Ingot is started by root. */
  readonly user: string
  /** Where DHCP and TFTP are served. */
  readonly interfaces: readonly {readonly name: string}[]
  readonly boot: {readonly listen: Endpoint}
  /** 240 takes what every client sends; 300 is RFC 1542 §2.1 to the letter. */
  readonly dhcp: {readonly leastRequestOctets: number}
  /** Without an address TFTP is served on each interface. */
  readonly tftp: {readonly listen: Endpoint | undefined}
  readonly api: {readonly listen: Endpoint; readonly socket: string}
  readonly services: readonly Service[]
  /** How long evidence and events are kept. */
  readonly retentionDays: number
  /** How many tasks one worker process does at once; most wait for a BMC. */
  readonly workers: number
  /** The 32-byte key that seals BMC credentials. */
  readonly sealingKeyFile: string
}

const DEFAULT_STATE = '/var/lib/ingot'
const FILE_NAME = 'ingot.json'

const endpoint = z.string().transform((text, context) => {
  const parsed = parseEndpoint(text)
  if (parsed) return parsed
  context.addIssue({code: 'custom', message: `"${text}" is not address:port, such as 0.0.0.0:8480 or [::1]:8481`})
  return z.NEVER
})

/** Linux's limit (IFNAMSIZ) and the two characters its names may not have. */
const interfaceName = z.string().regex(/^[^\s/]{1,15}$/, 'a network interface has 1 to 15 characters, no space and no slash')

export const ConfigFile = z.strictObject({
  database_url: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'must begin with postgresql://')
    .optional(),
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,31}$/, 'must be the name of a system user')
    .default('ingot'),
  interfaces: z.array(z.strictObject({name: interfaceName})).default([]),
  boot: z.strictObject({listen: endpoint.prefault('0.0.0.0:8480')}).prefault({}),
  dhcp: z.strictObject({least_request_octets: z.int().min(240).max(300).default(240)}).prefault({}),
  tftp: z.strictObject({listen: endpoint.optional()}).prefault({}),
  api: z.strictObject({listen: endpoint.prefault('127.0.0.1:8481')}).prefault({}),
  services: z.array(z.enum(SERVICES)).min(1, 'name at least one service').optional(),
  retention_days: z.int().min(1).max(3650).default(90),
  workers: z.int().min(1).max(64).default(32),
  sealing_key_file: z.string().startsWith('/', 'must be an absolute path').optional(),
})

/** What may be written into the file. */
export type ConfigFileInput = z.input<typeof ConfigFile>

/**
 * Reads the configuration; a state directory without a file gives the defaults, which serve no interface.
 * @throws IngotError INVALID_INPUT with one entry a wrong field
 */
export function loadConfig(options: {readonly state?: string; readonly env?: NodeJS.ProcessEnv} = {}): Config {
  const env = options.env ?? process.env
  const stateDir = resolve(options.state ?? (env.INGOT_STATE || DEFAULT_STATE))
  const path = join(stateDir, FILE_NAME)
  const file = parseFile(path, readJson(path))
  const databaseUrl = env.DATABASE_URL || file.database_url
  const credentials = env.CREDENTIALS_DIRECTORY
  return {
    stateDir,
    databaseUrl: databaseUrl === undefined ? undefined : new Secret(databaseUrl),
    user: file.user,
    interfaces: file.interfaces,
    boot: file.boot,
    dhcp: {leastRequestOctets: file.dhcp.least_request_octets},
    tftp: {listen: file.tftp.listen},
    api: {listen: file.api.listen, socket: join(stateDir, 'api.sock')},
    services: file.services ?? SERVICES,
    retentionDays: file.retention_days,
    workers: file.workers,
    // systemd hands credentials over in a directory of its own (systemd.exec(5), LoadCredential=).
    sealingKeyFile:
      file.sealing_key_file ?? (credentials ? join(credentials, 'ingot-sealing-key') : join(stateDir, 'keys', 'sealing.key')),
  }
}

/** Checks and writes the file, atomically; 0600, for it may hold the database's password. */
export function saveConfigFile(stateDir: string, input: ConfigFileInput): string {
  const path = join(stateDir, FILE_NAME)
  parseFile(path, input)
  mkdirSync(stateDir, {recursive: true, mode: 0o755})
  const fresh = `${path}.new`
  const fd = openSync(fresh, 'w', 0o600)
  try {
    writeSync(fd, `${JSON.stringify(input, null, 2)}\n`)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(fresh, path)
  return path
}

/** `"dhcpd,boot"` → a list in the order of `SERVICES`. */
export function parseServices(text: string): Service[] {
  const names = text.split(',').map(name => name.trim())
  const unknown = names.filter(name => !SERVICES.some(service => service === name))
  if (unknown.length > 0) {
    const message = `unknown service ${unknown.map(name => JSON.stringify(name)).join(', ')}; there are ${SERVICES.join(', ')}`
    throw new IngotError('INVALID_INPUT', message, {errors: [{field: 'services', code: 'unknown', message}]})
  }
  return SERVICES.filter(service => names.includes(service))
}

/** `1.2.3.4:80` or `[::1]:80`; names are refused, they may lead elsewhere tomorrow. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3])
  return isIP(host) !== 0 && port >= 1 && port <= 65535 ? {host, port} : undefined
}

function readJson(path: string): unknown {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new IngotError('INVALID_INPUT', `${path} cannot be read: ${messageOf(error)}`, {cause: error})
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    // The parser's own message quotes the file, which may hold a password; only the place is taken from it.
    const place = /line \d+ column \d+/.exec(messageOf(error))?.[0]
    throw new IngotError('INVALID_INPUT', `${path} is not JSON${place ? `: look at ${place}` : ''}`, {mend: 'Correct the file.'})
  }
}

function parseFile(path: string, value: unknown): z.output<typeof ConfigFile> {
  const result = ConfigFile.safeParse(value)
  if (result.success) return result.data
  const errors = result.error.issues.map(fieldError)
  const detail = `${path}: ${errors.map(error => (error.field === '' ? error.message : `${error.field}: ${error.message}`)).join('; ')}`
  throw new IngotError('INVALID_INPUT', detail, {errors, mend: 'Correct the named fields in the file.'})
}

function fieldError(issue: z.core.$ZodIssue): FieldError {
  const field = issue.path.map(String).join('.')
  if (issue.code !== 'unrecognized_keys') return {field, code: issue.code, message: issue.message}
  const known = knownKeys(issue.path)
  const message = `unknown ${issue.keys.map(key => JSON.stringify(key)).join(', ')}${known === '' ? '' : `; known are ${known}`}`
  return {field, code: issue.code, message}
}

function knownKeys(path: readonly PropertyKey[]): string {
  return path.length === 0 ? Object.keys(ConfigFile.shape).join(', ') : ''
}
