/**
 * Whether a device answers at an address, found without privileges: a datagram to a port where nobody listens makes the kernel ask for the
 * link address (ARP, RFC 826; ND, RFC 4861), which even a device answers that drops everything else; beyond a router a refusal by ICMP
 * shows that somebody is there.
 */
import {execFile} from 'node:child_process'
import {createSocket} from 'node:dgram'
import {promisify} from 'node:util'
import {sleep} from '../../lib/clock.ts'
import {familyOf, type IpAddress} from './integers.ts'

const run = promisify(execFile)

/** traceroute's: nothing listens there. */
const PORT = 33_434
/** The kernel trusts an old entry for 5 s, then asks three times, a second apart (tcp(7), arp(7)). */
const PATIENCE_MS = 10_000
const STEP_MS = 500

/** @returns who answers; null when nobody does, or the address cannot be reached from here */
export async function lookForNeighbour(address: IpAddress): Promise<string | null> {
  const refused = knock(address)
  for (let waitedMs = 0; waitedMs < PATIENCE_MS; waitedMs += STEP_MS) {
    if (await Promise.race([refused, sleep(STEP_MS).then(() => false)])) return 'a port of it refuses, by ICMP'
    const entry = await neighbourOf(address)
    if (entry?.state === 'REACHABLE') return `link address ${entry.mac}`
    if (entry?.state === 'FAILED' || (entry === undefined && waitedMs > 2_000)) return null
  }
  return null
}

/** Sends one datagram. @returns whether it was refused; false when nothing came back */
function knock(address: IpAddress): Promise<boolean> {
  return new Promise(resolve => {
    const socket = createSocket(familyOf(address) === 4 ? 'udp4' : 'udp6')
    const end = (refused: boolean) => {
      clearTimeout(timer)
      socket.close()
      resolve(refused)
    }
    const timer = setTimeout(() => end(false), PATIENCE_MS)
    socket.once('error', error => end((error as NodeJS.ErrnoException).code === 'ECONNREFUSED'))
    socket.connect(PORT, address, () => socket.send(''))
  })
}

async function neighbourOf(address: IpAddress): Promise<{state: string; mac: string} | undefined> {
  const {stdout} = await run('ip', ['-j', 'neigh', 'show', 'to', address]).catch(() => ({stdout: '[]'}))
  const [entry] = JSON.parse(stdout || '[]') as {lladdr?: string; state?: string[]}[]
  return entry && {state: entry.state?.[0] ?? '', mac: entry.lladdr ?? ''}
}
