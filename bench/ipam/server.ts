/** A PostgreSQL of the benchmark's own, durable (fsync on), in a folder that goes with it. */
import {randomBytes} from 'node:crypto'
import {chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import pg from 'pg'
import {createLog} from '../../lib/log.ts'
import {findAccount} from '../../services/supervisor/account.ts'
import {installEmbeddedBinaries} from '../../services/supervisor/postgres-binaries.ts'
import {initialiseCluster, socketUrl, startServer} from '../../services/supervisor/postgres-server.ts'

export type BenchServer = {
  /** @returns the address of a fresh, empty database */
  createDatabase(): Promise<string>
  stop(): Promise<void>
}

export async function startBenchServer(): Promise<BenchServer> {
  const account = findAccount('nobody')
  if (!account) throw new Error('this system has no user nobody')
  const log = createLog('bench', 'error')
  const root = mkdtempSync(join(tmpdir(), 'ingot-bench-ipam-'))
  chmodSync(root, 0o755)
  const binaries = installEmbeddedBinaries(join(root))
  const dataDir = join(root, 'data')
  const socketDir = join(root, 'socket')
  await initialiseCluster(binaries, account, dataDir)
  mkdirSync(socketDir, {mode: 0o700})
  chownSync(socketDir, account.uid, account.gid)
  const settings = {max_connections: '100', shared_buffers: '256MB', max_wal_size: '2GB'}
  const server = await startServer({binaries, account, dataDir, socketDir, logFile: join(root, 'postgres.log'), settings, log})
  return {
    async createDatabase() {
      const name = `bench_${randomBytes(4).toString('hex')}`
      const client = new pg.Client({connectionString: socketUrl(socketDir, 'postgres')})
      await client.connect()
      await client.query(`CREATE DATABASE ${name}`)
      await client.end()
      return socketUrl(socketDir, name)
    },
    async stop() {
      await server.stop()
      rmSync(root, {recursive: true, force: true})
    },
  }
}
