/** What stands between a host and its PostgreSQL: a Unix socket that passes everything on, until it is cut. Nothing says that it was. */
import {chmodSync, mkdirSync} from 'node:fs'
import {connect, createServer, type Socket} from 'node:net'
import {join} from 'node:path'

export type DatabaseCable = {
  readonly url: string
  /** From now on nothing passes, either way, and no connection is refused or closed: as when a network loses its packets. */
  cut(): void
  /** Connections that were cut break now; new ones pass. */
  mend(): void
  close(): Promise<void>
}

/** @param databaseUrl of a Unix socket @param dir is made */
export async function layDatabaseCable(databaseUrl: string, dir: string): Promise<DatabaseCable> {
  const [place = '', query = ''] = databaseUrl.split('?')
  const real = join(new URLSearchParams(query).get('host') ?? '', '.s.PGSQL.5432')
  mkdirSync(dir, {mode: 0o755})
  const path = join(dir, '.s.PGSQL.5432')
  const sockets = new Set<Socket>()
  let isCut = false
  const server = createServer(near => {
    follow(near)
    if (isCut) return
    const far = connect(real)
    follow(far)
    near.on('data', bytes => isCut || far.write(bytes))
    far.on('data', bytes => isCut || near.write(bytes))
    near.on('close', () => far.destroy())
    far.on('close', () => isCut || near.destroy())
  })
  function follow(socket: Socket): void {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  chmodSync(path, 0o666)
  return {
    url: `${place}?${new URLSearchParams({host: dir})}`,
    cut() {
      isCut = true
    },
    mend() {
      isCut = false
      for (const socket of sockets) socket.destroy()
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>(resolve => server.close(() => resolve()))
    },
  }
}
