/** Boot: what a machine gets over HTTP at each stage, the claim, and the callbacks of ramdisk and installed system. */
import type {Server} from 'node:http'
import type {Kysely} from 'kysely'
import type {Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import type {Log} from '../../lib/log.ts'
import type {Database} from '../../lib/schema.ts'
import type {Artefacts} from '../artefacts/index.ts'
import type {Evidence} from '../evidence/index.ts'
import type {Claims} from '../lifecycle/index.ts'
import {explainBoot, explainRequest, type RequestAnswer, type StageAnswer} from './explain.ts'
import {createRamdisk} from './ramdisk.ts'
import {createBootServer} from './server.ts'
import * as store from './store.ts'

export type {RequestAnswer, StageAnswer} from './explain.ts'

/** Kernel consoles of the ramdisk: the last one is where init writes. */
export const DEFAULT_CONSOLES = ['tty0', 'ttyS0,115200']

export type Boot = {
  readonly server: Server
  explain(mac: Mac, how: {bootUrl: string; from: string | undefined}): Promise<StageAnswer[]>
  /** What one request would get, without serving it. */
  explainRequest(method: string, target: string, from: string | undefined): Promise<RequestAnswer>
}

export function createBoot(parts: {
  db: Kysely<Database>
  evidence: Evidence
  claims: Claims
  artefacts: Artefacts
  clock: Clock
  log: Log
  consoles?: readonly string[]
}): Boot {
  const consoles = parts.consoles ?? DEFAULT_CONSOLES
  let cachedKey: Promise<Buffer> | undefined
  const key = () => {
    cachedKey ??= store.selectOrMakeKey(parts.db).catch(error => {
      cachedKey = undefined
      throw error
    })
    return cachedKey
  }
  const ramdisk = createRamdisk({...parts, key})
  return {
    server: createBootServer({...parts, consoles, key, ramdisk}),
    explain: (mac, how) => explainBoot({...parts, consoles}, mac, how),
    explainRequest: (method, target, from) => explainRequest(parts, method, target, from),
  }
}
