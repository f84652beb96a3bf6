/**
 * This host's interfaces and their IPv4 addresses, whether they have a carrier or not. `os.networkInterfaces()` leaves out those without
 * one, and a boot network is often dark until its first machine is switched on.
 */
import {execFileSync} from 'node:child_process'
import {networkInterfaces} from 'node:os'
import {type Ipv4, parseIpv4} from './addresses.ts'

export type Interface = {readonly name: string; readonly addresses: readonly {readonly address: Ipv4; readonly length: number}[]}

type IpAddr = {ifname: string; addr_info: {family: string; local: string; prefixlen: number}[]}

/** Asks `ip` of iproute2; where there is none, falls back on what Node knows. */
export function readInterfaces(): Interface[] {
  try {
    const links = JSON.parse(
      execFileSync('ip', ['-j', 'addr'], {encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore']}),
    ) as IpAddr[]
    return links.map(link => ({
      name: link.ifname,
      addresses: link.addr_info.flatMap(({family, local, prefixlen}) => (family === 'inet' ? entry(local, prefixlen) : [])),
    }))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return Object.entries(networkInterfaces()).map(([name, infos = []]) => ({
      name,
      addresses: infos.flatMap(info =>
        info.family === 'IPv4' ? entry(info.address, Number(info.cidr?.split('/')[1] ?? 32)) : [],
      ),
    }))
  }
}

function entry(text: string, length: number) {
  const address = parseIpv4(text)
  return address ? [{address, length}] : []
}
