/** State directories with a database that was used and closed, cheaply: one is made, the others are clones of it. */
import {execFileSync} from 'node:child_process'
import {chmodSync, mkdirSync, mkdtempSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {silentLog} from '../../lib/log.ts'
import {startEmbeddedPostgres} from '../../services/supervisor/embedded-postgres.ts'
import {testAccount} from './database.ts'

export type StateDirs = {
  /** A new folder that anybody may enter: a clone, or empty. */
  make(kind?: 'clone' | 'empty'): string
  cloneInto(folder: string): void
  /** Removes all of them. */
  remove(): void
}

export async function createStateDirs(): Promise<StateDirs> {
  const made: string[] = []
  const make = () => {
    const folder = mkdtempSync(join(tmpdir(), 'ingot-state-'))
    chmodSync(folder, 0o755)
    made.push(folder)
    return folder
  }
  const base = make()
  await (await startEmbeddedPostgres({stateDir: base, user: testAccount().name, log: silentLog})).stop()
  const cloneInto = (folder: string) => {
    mkdirSync(folder, {recursive: true})
    // The programs are linked rather than copied: 58 MB each otherwise.
    execFileSync('cp', ['-al', join(base, 'postgres-18'), folder])
    execFileSync('cp', ['-a', join(base, 'data'), folder])
  }
  return {
    make(kind = 'clone') {
      const folder = make()
      if (kind === 'clone') cloneInto(folder)
      return folder
    },
    cloneInto,
    remove() {
      for (const folder of made.splice(0)) rmSync(folder, {recursive: true, force: true})
    },
  }
}
