/**
 * Opens the sockets that need privileges or options Node does not offer, as plain file descriptors that children adopt
 * (`dgram.bind({fd})`, `server.listen({fd})`). Every descriptor is close-on-exec: a child gets exactly those it is handed as stdio.
 *
 * SO_REUSEADDR is *not* set on UDP sockets: with it two servers share a port in silence and each loses half of the packets. Without
 * it the kernel refuses the second (two sockets bound to different devices do not clash, socket(7)), and the refusal can name who
 * was first. SO_BINDTODEVICE therefore comes before bind.
 */
import {chmodSync, closeSync, unlinkSync} from 'node:fs'
import {isIP, isIPv6} from 'node:net'
import {IngotError, messageOf} from '../../lib/errors.ts'
import {call, interfaceIndex, SystemCallError} from './libc.ts'
import {describeHolders} from './port-holder.ts'

export type UdpPlace = {readonly interface?: string; readonly address?: string}

const AF_UNIX = 1
const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
const IPPROTO_ICMPV6 = 58
const DHCP_SERVER_PORT = 67
const PROXY_DHCP_PORT = 4011
const BACKLOG = 1024
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024

/** Linux's socket options as [level, name] (asm-generic/socket.h, linux/in6.h). */
const OPTION = {
  SO_REUSEADDR: [1, 2],
  SO_BROADCAST: [1, 6],
  SO_RCVBUF: [1, 8],
  SO_BINDTODEVICE: [1, 25],
  SO_RCVBUFFORCE: [1, 33],
  IPV6_UNICAST_HOPS: [41, 16],
  IPV6_MULTICAST_IF: [41, 17],
  IPV6_MULTICAST_HOPS: [41, 18],
  IPV6_MULTICAST_LOOP: [41, 19],
  IPV6_V6ONLY: [41, 26],
} as const

/**
 * The DHCP server's socket of one interface: it sees that interface's packets only, and may broadcast without any route.
 * @throws IngotError PREFLIGHT_FAILED naming the interface, or the holder of the port
 */
export function openDhcpSocket(interfaceName: string): number {
  return openUdpSocket({interface: interfaceName}, DHCP_SERVER_PORT)
}

/** Where PXE clients ask further when another server gave them their address (PXE 2.1 §2.2). @throws as `openDhcpSocket` */
export function openProxyDhcpSocket(interfaceName: string): number {
  return openUdpSocket({interface: interfaceName}, PROXY_DHCP_PORT)
}

/** A UDP socket on one interface, one address, or both; with neither, on every address. */
export function openUdpSocket(place: UdpPlace, port: number): number {
  const address = place.address ?? '0.0.0.0'
  const fd = newSocket(familyOf(address), SOCK_DGRAM)
  return closeOnError(fd, () => {
    setInteger(fd, 'SO_BROADCAST', 1)
    if (place.interface !== undefined) bindToDevice(fd, place.interface)
    widenReceiveBuffer(fd)
    bindSocket(fd, 'udp', address, port, place.interface)
    return fd
  })
}

/** A listening TCP socket, kept open by the supervisor so that no connection is refused while its child restarts. */
export function openTcpListener(host: string, port: number): number {
  const fd = newSocket(familyOf(host), SOCK_STREAM)
  return closeOnError(fd, () => {
    setInteger(fd, 'SO_REUSEADDR', 1)
    if (isIPv6(host)) setInteger(fd, 'IPV6_V6ONLY', host === '::' ? 0 : 1)
    bindSocket(fd, 'tcp', host, port)
    call('listen', fd, BACKLOG)
    return fd
  })
}

/** A listening Unix socket. A path left by a dead process is replaced: the caller holds the state directory's lock. */
export function openUnixListener(path: string, mode: number): number {
  const bytes = Buffer.from(`${path}\0`)
  if (bytes.length > 108) throw new IngotError('PREFLIGHT_FAILED', `the socket path ${path} is longer than 107 bytes`)
  const fd = newSocket(AF_UNIX, SOCK_STREAM)
  return closeOnError(fd, () => {
    removeIfThere(path)
    const address = Buffer.concat([Buffer.alloc(2), bytes])
    address.writeUInt16LE(AF_UNIX, 0)
    call('bind', fd, address, address.length)
    chmodSync(path, mode)
    call('listen', fd, BACKLOG)
    return fd
  })
}

/**
 * A raw ICMPv6 socket connected to all nodes of one link: whoever holds it sends a router advertisement with a plain `write`. Hop
 * limit 255, or receivers drop it (RFC 4861 §6.1.2). The kernel fills in the checksum (RFC 3542 §3.1).
 * @returns undefined when the interface has no usable link-local address (IPv6 off, or duplicate detection still running)
 */
export function openRouterAdvertisementSocket(interfaceName: string): number | undefined {
  const index = requireInterface(interfaceName)
  let fd: number | undefined
  try {
    fd = call('socket', AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6)
    bindToDevice(fd, interfaceName)
    setInteger(fd, 'IPV6_MULTICAST_IF', index)
    setInteger(fd, 'IPV6_MULTICAST_HOPS', 255)
    setInteger(fd, 'IPV6_UNICAST_HOPS', 255)
    setInteger(fd, 'IPV6_MULTICAST_LOOP', 0)
    const allNodes = socketAddress('ff02::1', 0, index)
    call('connect', fd, allNodes, allNodes.length)
    return fd
  } catch (error) {
    if (fd !== undefined) closeSync(fd)
    if (error instanceof SystemCallError && ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'ENETUNREACH', 'ENETDOWN'].includes(error.code)) {
      return undefined
    }
    throw preflight(`no router advertisement socket on ${interfaceName}: ${messageOf(error)}`, error)
  }
}

/**
 * Whatever the one who started us left open without close-on-exec would reach every child and PostgreSQL; from here on it does not
 * (close_range(2) with CLOSE_RANGE_CLOEXEC). A kernel before 5.11 cannot, and then nothing is lost but this.
 */
export function keepInheritedFromChildren(): void {
  try {
    call('close_range', 3, 0xffffffff, 4)
  } catch (error) {
    if (!(error instanceof SystemCallError) || !['ENOSYS', 'EINVAL'].includes(error.code)) throw error
  }
}

function newSocket(family: number, type: number): number {
  try {
    return call('socket', family, type | SOCK_CLOEXEC, 0)
  } catch (error) {
    throw preflight(`no socket could be made: ${messageOf(error)}`, error)
  }
}

function closeOnError(fd: number, work: () => number): number {
  try {
    return work()
  } catch (error) {
    closeSync(fd)
    throw error instanceof IngotError ? error : preflight(messageOf(error), error)
  }
}

function bindToDevice(fd: number, interfaceName: string): void {
  requireInterface(interfaceName)
  const name = Buffer.from(`${interfaceName}\0`)
  try {
    call('setsockopt', fd, ...OPTION.SO_BINDTODEVICE, name, name.length)
  } catch (error) {
    throw preflight(
      `a socket could not be bound to ${interfaceName}: ${messageOf(error)}; it takes the capability NET_RAW`,
      error,
    )
  }
}

function requireInterface(interfaceName: string): number {
  const index = interfaceIndex(interfaceName)
  if (index === undefined) throw preflight(`there is no network interface ${interfaceName}`)
  return index
}

/** With NET_ADMIN past `net.core.rmem_max`, without it up to that; the preflight says what is lost. */
function widenReceiveBuffer(fd: number): void {
  try {
    setInteger(fd, 'SO_RCVBUFFORCE', RECEIVE_BUFFER_BYTES)
  } catch {
    setInteger(fd, 'SO_RCVBUF', RECEIVE_BUFFER_BYTES)
  }
}

function bindSocket(fd: number, protocol: 'udp' | 'tcp', host: string, port: number, interfaceName?: string): void {
  const address = socketAddress(host, port)
  try {
    call('bind', fd, address, address.length)
  } catch (error) {
    const where = `${protocol} ${host}:${port}${interfaceName === undefined ? '' : ` on ${interfaceName}`}`
    if (!(error instanceof SystemCallError)) throw error
    if (error.code === 'EADDRINUSE') throw preflight(`${where} is ${describeHolders(protocol, port)}`, error)
    if (error.code === 'EACCES') throw preflight(`${where} takes the capability NET_BIND_SERVICE`, error)
    if (error.code === 'EADDRNOTAVAIL') throw preflight(`${where}: this host does not have that address`, error)
    throw preflight(`${where}: ${error.code}`, error)
  }
}

function setInteger(fd: number, option: keyof typeof OPTION, value: number): void {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  call('setsockopt', fd, ...OPTION[option], bytes, bytes.length)
}

function familyOf(host: string): number {
  const version = isIP(host)
  if (version === 0) throw new IngotError('PREFLIGHT_FAILED', `${host} is not an IP address to listen on`)
  return version === 6 ? AF_INET6 : AF_INET
}

/** struct sockaddr_in or sockaddr_in6: family in host order (little-endian on both supported architectures), port in network order. */
function socketAddress(host: string, port: number, scope = 0): Buffer {
  if (familyOf(host) === AF_INET) {
    const address = Buffer.alloc(16)
    address.writeUInt16LE(AF_INET, 0)
    address.writeUInt16BE(port, 2)
    address.set(host.split('.').map(Number), 4)
    return address
  }
  const address = Buffer.alloc(28)
  address.writeUInt16LE(AF_INET6, 0)
  address.writeUInt16BE(port, 2)
  address.set(ipv6Bytes(host), 8)
  address.writeUInt32LE(scope, 24)
  return address
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

function preflight(detail: string, cause?: unknown): IngotError {
  return new IngotError('PREFLIGHT_FAILED', detail, cause === undefined ? {} : {cause})
}

/** The 16 bytes of an IPv6 address that `isIP` accepted, an embedded dotted quad included. */
function ipv6Bytes(text: string): Uint8Array {
  const quad = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text)
  const plain = quad
    ? `${quad[1]}${((Number(quad[2]) << 8) | Number(quad[3])).toString(16)}:${((Number(quad[4]) << 8) | Number(quad[5])).toString(16)}`
    : text
  const [head = '', tail] = plain.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = tail === undefined ? left : [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right]
  const bytes = Buffer.alloc(16)
  for (const [index, group] of groups.entries()) bytes.writeUInt16BE(Number.parseInt(group, 16), index * 2)
  return bytes
}
