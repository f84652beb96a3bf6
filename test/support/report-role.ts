/**
 * A role for tests of the supervisor: it answers every HTTP request with what it was given, echoes what comes to a DHCP socket as a
 * broadcast, and keeps the sealing key in memory as a real one would.
 */
import {createHash} from 'node:crypto'
import {createSocket} from 'node:dgram'
import {existsSync, readdirSync} from 'node:fs'
import {createServer} from 'node:http'
import type {PreparedRole, RoleStart} from '../../services/supervisor/roles.ts'

const CLIENT_PORT = 68
let kept: RoleStart | undefined

export async function prepare(start: RoleStart): Promise<PreparedRole> {
  kept = start
  const preparedAs = process.getuid?.()
  return {
    async start() {
      for (const socket of start.sockets) {
        if (socket.kind === 'boot' || socket.kind === 'api') await serve(socket.fd, preparedAs)
        if (socket.kind === 'dhcp') await echo(socket.fd)
      }
      return {stop: async () => undefined}
    },
  }
}

function serve(fd: number, preparedAs: number | undefined): Promise<void> {
  const server = createServer((request, response) => {
    if (request.url === '/crash') throw new Error('asked to')
    response.end(JSON.stringify(report(preparedAs)))
  })
  return new Promise(resolve => server.listen({fd}, resolve))
}

function report(preparedAs: number | undefined): Record<string, unknown> {
  return {
    role: kept?.role,
    services: kept?.services,
    pid: process.pid,
    preparedAs,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
    groups: process.getgroups?.(),
    environment: Object.keys(process.env),
    sockets: kept?.sockets,
    sealingKey: kept?.sealingKeys && createHash('sha256').update(kept.sealingKeys.current().primary.key).digest('hex'),
    readsKeys: canRead(`${kept?.stateDir}/keys`),
    readsState: existsSync(`${kept?.stateDir}`),
  }
}

function canRead(folder: string): boolean {
  try {
    readdirSync(folder)
    return true
  } catch {
    return false
  }
}

async function echo(fd: number): Promise<void> {
  const socket = createSocket('udp4')
  socket.on('message', message => socket.send(`${message} to uid ${process.getuid?.()}`, CLIENT_PORT, '255.255.255.255'))
  await new Promise<void>(resolve => socket.bind({fd}, resolve))
}
