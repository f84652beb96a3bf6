/** Finds out who holds a busy port, so that the refusal can name the process (`dnsmasq`, pid 812) instead of `EADDRINUSE`. */
import {readdirSync, readFileSync, readlinkSync} from 'node:fs'
import {basename} from 'node:path'

export type PortHolder = {readonly pid: number; readonly command: string}

const TABLES = {udp: ['/proc/net/udp', '/proc/net/udp6'], tcp: ['/proc/net/tcp', '/proc/net/tcp6']} as const
const TCP_LISTEN = '0A'

/** Processes of this network namespace that hold the local port. Empty when nothing may be read of them. */
export function portHolders(protocol: 'udp' | 'tcp', port: number): PortHolder[] {
  const inodes = new Set(TABLES[protocol].flatMap(table => inodesOf(readText(table), protocol, port)))
  return inodes.size === 0 ? [] : processesWithSockets(inodes)
}

/** `held by dnsmasq (pid 812)`, for an error's detail. */
export function describeHolders(protocol: 'udp' | 'tcp', port: number): string {
  const holders = portHolders(protocol, port)
  if (holders.length === 0) return 'held by a process this one may not see'
  return `held by ${holders.map(holder => `${holder.command} (pid ${holder.pid})`).join(', ')}`
}

/** proc(5): `sl local_address rem_address st … uid timeout inode`; the address is hexadecimal, as is the port after its colon. */
function inodesOf(table: string, protocol: 'udp' | 'tcp', port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const inodes: string[] = []
  for (const line of table.split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/)
    const [, local, , state] = fields
    const inode = fields[9]
    if (!local?.endsWith(suffix) || inode === undefined || inode === '0') continue
    if (protocol === 'udp' || state === TCP_LISTEN) inodes.push(inode)
  }
  return inodes
}

function processesWithSockets(inodes: ReadonlySet<string>): PortHolder[] {
  const found: PortHolder[] = []
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    if (!descriptorsOf(pid).some(target => inodes.has(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? ''))) continue
    found.push({pid: Number(pid), command: commandOf(pid)})
  }
  return found
}

/** `dnsmasq`, or `node ingot.ts` for a script: the first two words without their folders. Never more, an argument may be a secret. */
function commandOf(pid: string): string {
  const [program, script] = readText(`/proc/${pid}/cmdline`)
    .split('\0')
    .filter(word => word !== '')
  if (program === undefined) return readText(`/proc/${pid}/comm`).trim() || 'unknown'
  return script?.startsWith('/') ? `${basename(program)} ${basename(script)}` : basename(program)
}

/** Where a process's descriptors lead; none when it is gone or belongs to somebody else. */
function descriptorsOf(pid: string): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map(fd => readLink(`/proc/${pid}/fd/${fd}`))
  } catch {
    return []
  }
}

function readLink(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
