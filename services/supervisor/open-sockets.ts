/** Opens every socket the asked services need, once; children adopt them by number and lose nothing when they are restarted. */
import {closeSync} from 'node:fs'
import type {Config, Service} from '../../lib/config.ts'
import type {Log} from '../../lib/log.ts'
import {
  openDhcpSocket,
  openProxyDhcpSocket,
  openRouterAdvertisementSocket,
  openTcpListener,
  openUdpSocket,
  openUnixListener,
} from './sockets.ts'

/** One socket, as the process that holds it sees it: `fd` differs between supervisor and child. */
export type OpenSocket =
  | {readonly kind: 'dhcp'; readonly interface: string; readonly fd: number}
  | {readonly kind: 'proxyDhcp'; readonly interface: string; readonly fd: number}
  | {readonly kind: 'routerAdvertisement'; readonly interface: string; readonly fd: number}
  | {readonly kind: 'tftp'; readonly interface: string | undefined; readonly address: string; readonly fd: number}
  | {readonly kind: 'boot'; readonly fd: number}
  | {readonly kind: 'api'; readonly path: string | undefined; readonly fd: number}

export type SocketSet = {
  /** Those of some services. Router advertisement sockets that could not be had before (link down) are tried again. */
  for(services: readonly Service[]): OpenSocket[]
  close(): void
}

const TFTP_PORT = 69
const API_SOCKET_MODE = 0o600

const OWNER = {
  dhcp: 'dhcpd',
  proxyDhcp: 'dhcpd',
  routerAdvertisement: 'dhcpd',
  tftp: 'tftpd',
  boot: 'boot',
  api: 'api',
} as const satisfies Record<OpenSocket['kind'], Service>

/** @throws IngotError PREFLIGHT_FAILED naming what is in the way; nothing stays open then */
export function openSockets(config: Config, services: readonly Service[], log: Log): SocketSet {
  const opened: OpenSocket[] = []
  const close = () => {
    for (const socket of opened.splice(0)) closeSync(socket.fd)
  }
  try {
    for (const socket of wanted(config, services)) opened.push(socket)
  } catch (error) {
    close()
    throw error
  }
  return {
    for(asked) {
      if (asked.includes('dhcpd')) openMissingAdvertisements(config, opened, log)
      return opened.filter(socket => asked.includes(OWNER[socket.kind]))
    },
    close,
  }
}

function* wanted(config: Config, services: readonly Service[]): Generator<OpenSocket> {
  const names = config.interfaces.map(({name}) => name)
  if (services.includes('dhcpd')) {
    for (const name of names) {
      yield {kind: 'dhcp', interface: name, fd: openDhcpSocket(name)}
      yield {kind: 'proxyDhcp', interface: name, fd: openProxyDhcpSocket(name)}
    }
  }
  if (services.includes('tftpd')) {
    const listen = config.tftp.listen
    if (listen) {
      yield {kind: 'tftp', interface: undefined, address: listen.host, fd: openUdpSocket({address: listen.host}, listen.port)}
    } else {
      for (const name of names) {
        yield {kind: 'tftp', interface: name, address: '0.0.0.0', fd: openUdpSocket({interface: name}, TFTP_PORT)}
      }
    }
  }
  if (services.includes('boot')) yield {kind: 'boot', fd: openTcpListener(config.boot.listen.host, config.boot.listen.port)}
  if (services.includes('api')) {
    yield {kind: 'api', path: undefined, fd: openTcpListener(config.api.listen.host, config.api.listen.port)}
    yield {kind: 'api', path: config.api.socket, fd: openUnixListener(config.api.socket, API_SOCKET_MODE)}
  }
}

function openMissingAdvertisements(config: Config, opened: OpenSocket[], log: Log): void {
  for (const {name} of config.interfaces) {
    if (opened.some(socket => socket.kind === 'routerAdvertisement' && socket.interface === name)) continue
    const fd = openRouterAdvertisementSocket(name)
    if (fd === undefined) log.info({interface: name}, 'no link-local IPv6 address: no router advertisements on this interface')
    else opened.push({kind: 'routerAdvertisement', interface: name, fd})
  }
}
