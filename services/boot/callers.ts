/**
 * Who speaks: a token's attempt and stage, as far as they still count. A token of one stage opens nothing of another, and one of an
 * attempt that is over opens nothing at all, except that what it tells may still be recorded.
 */
import type {Kysely} from 'kysely'
import {type Mac, parseMac} from '../../lib/addresses.ts'
import type {Database} from '../../lib/schema.ts'
import type {Claims, JobPlan} from '../lifecycle/index.ts'
import * as store from './store.ts'
import {STAGE_OF} from './target.ts'
import type {BootStage, BootToken} from './token.ts'

export type Caller = {readonly token: BootToken; readonly from: string}

/** A machine and the job it acts for. */
export type Speaker = {
  readonly machineId: string
  readonly jobId: string
  readonly fence: number
  readonly kind: string
  readonly plan: JobPlan
  readonly phase: string | null
  /** of its host interfaces; empty for a claimed session */
  readonly macs: readonly Mac[]
}

/** The newcomer of an open window, or of one that has closed since but whose inspection of it goes on: a token's life follows the state. */
export type Newcomer = {readonly mac: Mac; readonly windowId: string; readonly hasBmcCredentials: boolean}

export type Callers = ReturnType<typeof createCallers>

export function createCallers({db, claims}: {db: Kysely<Database>; claims: Claims}) {
  return {
    /** The session that claimed the current attempt. */
    async claimed({token}: Caller): Promise<Speaker | undefined> {
      if (token.kind !== 'session') return undefined
      const job = await claims.jobOfSession(token.fence, token.secret)
      if (!job) return undefined
      const plan = job.plan as unknown as JobPlan
      return {machineId: job.machine_id, jobId: job.id, fence: job.fence, kind: job.kind, plan, phase: job.phase, macs: []}
    },

    /** The holder of a token of the current attempt, for the stage that its job leads to. */
    async booted({token}: Caller): Promise<Speaker | undefined> {
      if (token.kind !== 'attempt') return undefined
      const rows = await store.selectBootMachinesOfFence(db, token.fence)
      const [row] = rows
      if (!row?.job_id || row.fence === null || !row.job_kind || !row.plan || row.attempt === null) return undefined
      if (token.stage !== stageOf(row.job_kind)) return undefined
      return {
        machineId: row.machine_id,
        jobId: row.job_id,
        fence: row.fence,
        kind: row.job_kind,
        plan: row.plan as unknown as JobPlan,
        phase: row.phase,
        macs: rows.flatMap(({mac}) => parseMac(mac) ?? []),
      }
    },

    async newcomer({token}: Caller): Promise<Newcomer | undefined> {
      if (token.kind !== 'window') return undefined
      const mac = parseMac(token.mac)
      if (!mac) return undefined
      const window = await store.selectWindowById(db, token.windowId)
      const stays = window?.open || (await store.selectBootMachine(db, mac))?.job_kind === 'inspect'
      return window && stays ? {mac, windowId: window.id, hasBmcCredentials: window.has_bmc_credentials} : undefined
    },

    /** Whose attempt a token is or was; a session's secret must be its own. */
    async once({token}: Caller): Promise<{machineId: string; jobId: string; fence: number} | undefined> {
      if (token.kind === 'window') return undefined
      const owner = await claims.ownerOf(token.fence, token.kind === 'session' ? token.secret : undefined)
      return owner && {...owner, fence: token.fence}
    },
  }
}

export function stageOf(kind: string): BootStage {
  return (STAGE_OF as Record<string, BootStage | undefined>)[kind] ?? 'clean'
}
