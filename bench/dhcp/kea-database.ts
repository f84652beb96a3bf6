/** A PostgreSQL of Debian's for Kea's leases: durable as ours is, on the servers' core. */
import {chownSync, mkdirSync} from 'node:fs'
import {join} from 'node:path'
import {runCommand} from '../../lab/commands.ts'
import {waitFor} from '../../lab/walk.ts'
import type {Wires} from './wires.ts'

export const KEA_DATABASE_PACKAGES = ['postgresql-15', 'kea-admin']

const PROGRAMS = '/usr/lib/postgresql/15/bin'
const SCHEMA = '/usr/share/kea/scripts/pgsql/dhcpdb_create.pgsql'
const START_LIMIT_MS = 30_000

export type KeaDatabase = {
  readonly pid: number
  /** Kea's `lease-database`. */
  readonly settings: Readonly<Record<string, string>>
  stop(): Promise<void>
}

export async function startKeaDatabase(wires: Wires, dir: string): Promise<KeaDatabase> {
  const {stdout} = await runCommand(['id', '-u', 'postgres'])
  const uid = Number(stdout)
  mkdirSync(dir, {recursive: true, mode: 0o700})
  chownSync(dir, uid, -1)
  const asPostgres = ['setpriv', `--reuid=${uid}`, '--regid=postgres', '--clear-groups']
  const data = join(dir, 'data')
  await runCommand([...asPostgres, `${PROGRAMS}/initdb`, '-D', data, '-U', 'kea', '-A', 'trust', '-E', 'UTF8', '--locale=C'])
  const settings = ['-k', dir, '-h', '', '-c', 'shared_buffers=128MB', '-c', 'log_min_messages=error']
  const server = wires.startServer([...asPostgres, `${PROGRAMS}/postgres`, '-D', data, ...settings], {
    logFile: join(dir, 'log'),
  })
  const psql = (...args: string[]) => runCommand(['psql', '-qAt', '-h', dir, '-U', 'kea', ...args])
  await waitFor('PostgreSQL for Kea', START_LIMIT_MS, () =>
    psql('-d', 'postgres', '-c', 'SELECT 1').then(
      () => true,
      () => undefined,
    ),
  )
  await psql('-d', 'postgres', '-c', 'CREATE DATABASE kea')
  await psql('-d', 'kea', '-v', 'ON_ERROR_STOP=1', '-f', SCHEMA)
  return {
    pid: server.pid,
    settings: {type: 'postgresql', name: 'kea', user: 'kea', host: dir},
    stop: () => server.stop(),
  }
}
