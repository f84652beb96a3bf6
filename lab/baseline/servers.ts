/** The baseline's servers: dnsmasq for DHCP, TFTP and router advertisements, nginx for the rest; configured as a careful person would. */
import {copyFileSync, mkdirSync, readFileSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import type {LabNetwork} from '../network.ts'

export type BaselineServers = {
  readonly url: string
  /** What nginx serves. */
  readonly root: string
  /** Requests answered so far. */
  requests(): BaselineRequest[]
  stop(): Promise<void>
}

/** `at_ms` is when the answer was complete, by the host's clock. */
export type BaselineRequest = {readonly at_ms: number; readonly request: string; readonly status: number}

/** @param host the machine's MAC and the address it gets */
export async function startBaselineServers(
  network: LabNetwork,
  dir: string,
  host: {mac: string; address: string},
): Promise<BaselineServers> {
  const address = network.bridgeAddress.split('/')[0] ?? ''
  const root = join(dir, 'http')
  for (const directory of ['http/hosts', 'tftp', 'nginx']) mkdirSync(join(dir, directory), {recursive: true})
  for (const loader of ['undionly.kpxe', 'snponly.efi']) copyFileSync(`/usr/lib/ipxe/${loader}`, join(dir, 'tftp', loader))
  writeFileSync(join(root, 'boot.ipxe'), `#!ipxe\nchain --autofree http://${address}/hosts/\${net0/mac:hexhyp}.ipxe\n`)
  writeFileSync(join(dir, 'dnsmasq.conf'), renderDnsmasq(dir, address, host))
  writeFileSync(join(dir, 'nginx.conf'), renderNginx(dir, address))
  const dnsmasq = network.spawn(['dnsmasq', '-k', '-C', join(dir, 'dnsmasq.conf')], {logFile: join(dir, 'dnsmasq.out')})
  const nginx = network.spawn(['nginx', '-c', join(dir, 'nginx.conf'), '-e', join(dir, 'nginx.err')], {
    logFile: join(dir, 'nginx.out'),
  })
  await network.exec(['busybox', 'sh', '-c', `until wget -q -O /dev/null http://${address}/boot.ipxe; do sleep 0.1; done`])
  return {
    url: `http://${address}`,
    root,
    requests: () => parseAccessLog(readFileSync(join(dir, 'access.log'), 'utf8')),
    stop: async () => {
      await Promise.all([dnsmasq.stop(), nginx.stop()])
    },
  }
}

function renderDnsmasq(dir: string, address: string, host: {mac: string; address: string}): string {
  return `port=0
interface=br0
bind-interfaces
user=root
log-dhcp
log-facility=${dir}/dnsmasq.log
dhcp-leasefile=${dir}/dnsmasq.leases
dhcp-authoritative
no-ping
dhcp-range=${address},static,10m
dhcp-host=${host.mac},${host.address}
dhcp-option=option:router,${address}
dhcp-option=option:dns-server,${address}
enable-tftp
tftp-root=${dir}/tftp
dhcp-userclass=set:ipxe,iPXE
dhcp-match=set:bios,option:client-arch,0
dhcp-match=set:efi64,option:client-arch,7
dhcp-boot=tag:ipxe,http://${address}/boot.ipxe
dhcp-boot=tag:!ipxe,tag:bios,undionly.kpxe
dhcp-boot=tag:!ipxe,tag:efi64,snponly.efi
# iPXE waits for neither a proxyDHCP nor a router advertisement that never comes.
dhcp-option=tag:ipxe,encap:175,176,1b
enable-ra
dhcp-range=::,constructor:br0,ra-only
`
}

function renderNginx(dir: string, address: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `  ${name}_temp_path ${dir}/nginx/${name};`)
  return `daemon off;
user root;
worker_processes 1;
pid ${dir}/nginx.pid;
events {}
http {
  log_format plain '$msec $status $request';
  access_log ${dir}/access.log plain;
  sendfile on;
  tcp_nopush on;
  default_type application/octet-stream;
${temporary.join('\n')}
  server {
    listen ${address}:80;
    root ${dir}/http;
    location = /event { return 200 "ok\\n"; }
    location = /first-boot { return 200 "ok\\n"; }
  }
}
`
}

function parseAccessLog(log: string): BaselineRequest[] {
  return [...log.matchAll(/^(\d+\.\d+) (\d+) (.*)$/gm)].map(([, seconds, status, request = '']) => ({
    at_ms: Number(seconds) * 1000,
    status: Number(status),
    request,
  }))
}
