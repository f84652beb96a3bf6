/** Looks at the host before anything is served. What would make serving wrong is an error; what makes it worse is a warning. */
import {readFileSync, statfsSync} from 'node:fs'
import type {Clock} from '../../lib/clock.ts'
import type {Config, Service} from '../../lib/config.ts'
import {readInterfaces} from '../../lib/interfaces.ts'
import {interfaceIndex} from './libc.ts'

export type Finding = {readonly level: 'error' | 'warning'; readonly what: string; readonly mend: string}

const GOOD_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
const LEAST_FREE_BYTES = 1024 * 1024 * 1024
/** Before this day the clock is certainly wrong: this Ingot did not exist. */
const EARLIEST = Date.UTC(2025, 0, 1)

export function preflight(config: Config, services: readonly Service[], clock: Clock): Finding[] {
  return [...interfaceFindings(config, services), ...receiveBuffer(), ...wallClock(clock), ...freeSpace(config.stateDir)]
}

function interfaceFindings(config: Config, services: readonly Service[]): Finding[] {
  if (!services.includes('dhcpd') && !services.includes('tftpd')) return []
  if (config.interfaces.length === 0) {
    const mend = 'Name the interfaces of the boot network: `ingot init --interface eth1 …`.'
    return [{level: 'warning', what: 'no interface is named, so no DHCP and TFTP is served', mend}]
  }
  const present = readInterfaces()
  return config.interfaces.flatMap(({name}): Finding[] => {
    if (interfaceIndex(name) === undefined) {
      const mend = `There are ${present.map(link => link.name).join(', ')}; correct "interfaces" in ingot.json.`
      return [{level: 'error', what: `there is no network interface ${name}`, mend}]
    }
    if (present.some(link => link.name === name && link.addresses.length > 0)) return []
    return [
      {
        level: 'warning',
        what: `${name} has no IPv4 address`,
        mend: `ip link set ${name} up; ip addr add … dev ${name}`,
      },
    ]
  })
}

/** A thousand machines that are switched on at once fit into the socket only when the kernel lets it grow. */
function receiveBuffer(): Finding[] {
  const most = Number(readText('/proc/sys/net/core/rmem_max'))
  if (!(most > 0) || most >= GOOD_RECEIVE_BUFFER_BYTES) return []
  const mend = `sysctl -w net.core.rmem_max=${2 * GOOD_RECEIVE_BUFFER_BYTES}`
  return [{level: 'warning', what: `net.core.rmem_max is ${most}: bursts of DHCP packets may be lost`, mend}]
}

function wallClock(clock: Clock): Finding[] {
  if (clock.now().getTime() >= EARLIEST) return []
  return [{level: 'error', what: `the clock says ${clock.now().toISOString()}`, mend: 'Set it, or start a time service first.'}]
}

function freeSpace(folder: string): Finding[] {
  const {bavail, bsize} = statfsSync(folder)
  if (bavail * bsize >= LEAST_FREE_BYTES) return []
  const what = `${folder} has only ${Math.round((bavail * bsize) / 1024 / 1024)} MiB free`
  return [{level: 'warning', what, mend: 'Free space, or move the state directory; a full disk stops all writes.'}]
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
