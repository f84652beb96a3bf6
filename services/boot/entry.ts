/** Answers an iPXE that named itself: look once, decide purely, and only then, for a destructive stage, stamp it as served. */
import type {Kysely} from 'kysely'
import {type Mac, parseMac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import type {Decision} from '../../lib/decision.ts'
import type {Log} from '../../lib/log.ts'
import type {Database} from '../../lib/schema.ts'
import type {Artefacts} from '../artefacts/index.ts'
import type {Evidence} from '../evidence/index.ts'
import {advanceTask, type Claims, type JobPlan, LEAVING} from '../lifecycle/index.ts'
import {isUnanswered, within} from './patience.ts'
import {renderLocalScript, renderRamdiskScript} from './scripts.ts'
import * as store from './store.ts'
import {type BootFacts, decideTarget, type Target} from './target.ts'
import {attemptToken, windowToken} from './token.ts'

export type EntryServices = {
  readonly db: Kysely<Database>
  readonly evidence: Evidence
  readonly claims: Claims
  readonly artefacts: Artefacts
  readonly key: () => Promise<Buffer>
  readonly clock: Clock
  readonly log: Log
  readonly consoles: readonly string[]
}

/** What stands for a token wherever a script is shown and not served. */
export const TOKEN_SHOWN = '<boot token>'

/** The facts the decision is made from, read in one go. Never throws for a database that is away: that is a fact too. */
export async function readBootFacts(
  db: Kysely<Database>,
  mac: Mac,
  from: string | undefined,
): Promise<BootFacts & {plan: JobPlan | null}> {
  const away = {mac, databaseAway: true, machine: null, job: null, window: null, plan: null}
  try {
    const row = await store.selectBootMachine(db, mac)
    const window = from && (!row || row.state === 'discovered') ? await store.selectOpenWindowFor(db, from) : undefined
    const hasJob = row?.job_id && row.job_kind && row.fence !== null && row.attempt !== null
    return {
      mac,
      databaseAway: false,
      machine: row ? {id: row.machine_id, name: row.name, state: row.state} : null,
      job:
        hasJob && row.job_id && row.job_kind && row.fence !== null
          ? {
              id: row.job_id,
              kind: row.job_kind,
              fence: row.fence,
              cancelRequested: row.cancel_requested === true,
              powered: row.powered_at !== null,
              served: row.served_at !== null,
              claimed: row.claimed_at !== null,
              leaving: row.phase === LEAVING,
            }
          : null,
      window: window ? {id: window.id} : null,
      plan: row?.plan ? (row.plan as unknown as JobPlan) : null,
    }
  } catch (error) {
    if (isUnanswered(error)) return away
    throw error
  }
}

/** Firmware that waits longer than this for a script may give up for good. */
const ANSWER_MS = 6_000

/** The script for a machine. @returns undefined when it gets nothing */
export async function answerEntry(services: EntryServices, mac: Mac, from: string, bootUrl: string): Promise<string | undefined> {
  const answered = await within(ANSWER_MS, answerInTime(services, mac, from, bootUrl), services.log)
  if (answered !== 'late') return answered.value
  services.log.warn({mac}, 'the database was too slow for a boot target: it gets its local disk')
  return renderLocalScript('the database does not answer in time')
}

async function answerInTime(services: EntryServices, mac: Mac, from: string, bootUrl: string): Promise<string | undefined> {
  const {db, log} = services
  const facts = await readBootFacts(db, mac, from)
  const decision = decideTarget(facts)
  const {answer} = decision
  log.info(
    {mac, target: answer.kind, stage: 'stage' in answer ? answer.stage : undefined, because: lastReason(decision)},
    'boot target',
  )
  if (answer.kind === 'none') return undefined
  if (answer.kind === 'local') {
    if (facts.job?.served && !facts.job.cancelRequested && facts.job.powered) await stampServed(services, facts.job.fence, from)
    return renderLocalScript(lastReason(decision))
  }
  // The key first: once an installer is stamped as served, nothing may come between it and the machine any more.
  const token = await tokenFor(services, answer, mac)
  if (token === undefined) return renderLocalScript('the database went away')
  if (answer.stage === 'clean' || answer.stage === 'install') {
    const served = await stampServed(services, answer.via.fence, from)
    if (!served || 'refused' in served) return renderLocalScript(served ? `refused: ${served.refused}` : 'the database went away')
  } else if (facts.job && facts.machine) await observeFetch(services, facts.machine.id, facts.job, mac, from)
  return renderTarget(services, answer, {mac, bootUrl, token})
}

/** The script of a ramdisk target; throws when its artefacts were never built. */
export function renderTarget(
  services: Pick<EntryServices, 'artefacts' | 'consoles'>,
  target: Extract<Target, {kind: 'ramdisk'}>,
  how: {mac: Mac; bootUrl: string; token: string},
): string {
  const kernel = services.artefacts.lookup('ramdisk/vmlinuz')
  const initrd = services.artefacts.lookup('ramdisk/initrd')
  if (!kernel || !initrd) return renderLocalScript('the ramdisk was never built: run ingot images build')
  return renderRamdiskScript({
    ...how,
    kernelSha256: kernel.sha256,
    initrdSha256: initrd.sha256,
    stage: target.stage,
    consoles: services.consoles,
  })
}

export function lastReason(decision: Decision<Target>): string {
  return decision.reasons[decision.reasons.length - 1]?.because ?? 'no reason'
}

/** A committed read made at this moment; the database going away now means local boot like any other time. */
async function stampServed(services: EntryServices, fence: number, from: string) {
  try {
    return await services.claims.serve(fence, from)
  } catch (error) {
    if (!isUnanswered(error)) throw error
    services.log.warn({err: error}, 'the database went away while an installer was to be served')
    return undefined
  }
}

/** Best effort: such a stage writes nothing, and what was not noted here the ramdisk tells itself. */
async function observeFetch(
  services: EntryServices,
  machineId: string,
  job: NonNullable<BootFacts['job']>,
  mac: Mac,
  from: string,
) {
  const fetched = {
    at: services.clock.now(),
    kind: 'script_fetched',
    source: 'boot',
    machineId,
    jobId: job.id,
    fence: job.fence,
    mac,
    detail: {from},
    task: advanceTask(job.id),
  }
  await services.evidence.recordAll([fetched]).catch(error => services.log.warn({err: error}, 'a fetch could not be noted'))
}

async function tokenFor(
  services: EntryServices,
  target: Extract<Target, {kind: 'ramdisk'}>,
  mac: Mac,
): Promise<string | undefined> {
  const key = await services.key().catch(error => {
    if (isUnanswered(error)) return undefined
    throw error
  })
  if (!key) return undefined
  return 'window' in target.via ? windowToken(key, target.via.window, mac) : attemptToken(key, target.via.fence, target.stage)
}

/** The MAC of a URL path, `52-54-00-…` as iPXE's `hexhyp` writes it. */
export function macOfPath(text: string): Mac | undefined {
  return parseMac(text)
}
