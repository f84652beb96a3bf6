/**
 * The ramdisk's side of the conversation: hello, facts, claim, config, events, log, first boot. Each answer leaves only after what it
 * acknowledges is committed; each request may come twice. MAC and IP are consistency checks; the token says who speaks.
 */
import {randomBytes} from 'node:crypto'
import type {Kysely} from 'kysely'
import type {Clock} from '../../lib/clock.ts'
import type {Database} from '../../lib/schema.ts'
import {writeTar} from '../../lib/tar.ts'
import type {Artefacts} from '../artefacts/index.ts'
import type {Evidence} from '../evidence/index.ts'
import {advanceTask, type Claims, intakeTask, type JobPlan, LEAVING, WINDOW_FACTS, WINDOW_HELLO} from '../lifecycle/index.ts'
import {type Caller, createCallers, type Newcomer, stageOf} from './callers.ts'
import {CLAIM, EVENT, FACTS, FIRST_BOOT, HELLO, logLines} from './messages.ts'
import {FIRST_BOOT_TOKEN} from './plan.ts'
import {attemptToken, sessionToken} from './token.ts'

/** `lines` are `key value`; `refused` is a 409 with its cause. */
export type RamdiskAnswer =
  | {readonly lines: readonly string[]}
  | {readonly file: Uint8Array}
  | {readonly nothing: true}
  | {readonly refused: string}

export type RamdiskServices = {
  readonly db: Kysely<Database>
  readonly evidence: Evidence
  readonly claims: Claims
  readonly artefacts: Pick<Artefacts, 'lookup'>
  readonly clock: Clock
  readonly key: () => Promise<Buffer>
}

export type Ramdisk = ReturnType<typeof createRamdisk>

/** Logs kept of one attempt: a ramdisk sends one, a repeated request another. */
const LOGS_AT_MOST = 4

/** What a ramdisk may say that never claimed. */
const UNCLAIMED: readonly string[] = ['failed', 'progress', 'tested', 'ready', 'left']
/** Job kinds to which an event belongs; the others go with any that claimed. */
const STAGES_OF_EVENT: Readonly<Record<string, readonly string[] | undefined>> = {
  tested: ['test'],
  ready: ['service', 'rescue'],
  left: ['service', 'rescue'],
}

type About = {readonly machineId: string; readonly jobId: string; readonly fence: number}

export function createRamdisk(services: RamdiskServices) {
  const {db, evidence, claims, clock} = services
  const callers = createCallers(services)
  return {
    async hello(caller: Caller, body: unknown): Promise<RamdiskAnswer> {
      const input = HELLO.parse(body)
      const time = `time ${Math.floor(clock.now().getTime() / 1000)}`
      const detail = {firmware: input.firmware, uptime_s: input.uptime_s, address: caller.from}
      if (caller.token.kind === 'window') {
        const newcomer = await callers.newcomer(caller)
        if (!newcomer) return {refused: 'WINDOW_CLOSED'}
        if (input.mac !== newcomer.mac) return {refused: 'WRONG_MACHINE'}
        await observeNewcomer(newcomer, WINDOW_HELLO, detail)
        return {lines: [time, 'stage inspect']}
      }
      const speaker = (await callers.claimed(caller)) ?? (await callers.booted(caller))
      if (!speaker) return {refused: 'ATTEMPT_OVER'}
      if (caller.token.kind === 'attempt' && !speaker.macs.includes(input.mac)) {
        await observeOnce(speaker, 'wrong_machine', {...detail, mac: input.mac}, false)
        return {refused: 'WRONG_MACHINE'}
      }
      await observeOnce(speaker, 'ramdisk_up', detail)
      return {lines: [time, `stage ${speaker.phase === LEAVING ? 'leave' : stageOf(speaker.kind)}`]}
    },

    async facts(caller: Caller, body: unknown): Promise<RamdiskAnswer> {
      const facts = FACTS.parse(body)
      if (caller.token.kind === 'window') {
        const newcomer = await callers.newcomer(caller)
        if (!newcomer) return {refused: 'WINDOW_CLOSED'}
        await observeNewcomer(newcomer, WINDOW_FACTS, {facts})
        return {lines: [`then ${newcomer.hasBmcCredentials && hasBmc(facts) ? 'poweroff' : 'reboot'}`]}
      }
      const speaker = await callers.booted(caller)
      if (speaker?.kind !== 'inspect') return {refused: 'ATTEMPT_OVER'}
      await observeOnce(speaker, 'facts', facts)
      return {lines: [`then ${speaker.plan.end}`]}
    },

    async claim(caller: Caller, body: unknown): Promise<RamdiskAnswer> {
      const input = CLAIM.parse(body ?? {})
      if (caller.token.kind !== 'attempt' || (caller.token.stage !== 'install' && caller.token.stage !== 'clean')) {
        return {refused: 'NOT_A_DESTRUCTIVE_STAGE'}
      }
      const {fence} = caller.token
      const secret = input.session ?? randomBytes(32).toString('hex')
      const claimed = await claims.claim(fence, secret, caller.from)
      if ('refused' in claimed) return {refused: claimed.refused}
      const plan = claimed.granted.plan as unknown as JobPlan
      const session = `session ${sessionToken(fence, secret)}`
      if (plan.install) {
        const image = `image /artefacts/${plan.install.image_lines_digest}`
        const wipe = `wipe ${plan.wipe ?? 'preserve'}`
        return {lines: [session, 'action install', image, `disk ${plan.install.disk}`, wipe, 'config /ramdisk/config']}
      }
      return {lines: [session, 'action clean', `wipe ${plan.wipe ?? 'full'}`, 'disk all']}
    },

    /** What a stage that writes nothing is to do: the limits of a burn-in; who may log in, and with what. */
    async order(caller: Caller): Promise<RamdiskAnswer> {
      const speaker = await callers.booted(caller)
      if (!speaker) return {refused: 'ATTEMPT_OVER'}
      const {test, ssh_keys} = speaker.plan
      const tools = services.artefacts.lookup('ramdisk/tools')
      return {
        lines: [
          `end ${speaker.plan.end}`,
          ...Object.entries(test ?? {}).map(([name, value]) => `${name} ${value}`),
          ...(ssh_keys ?? []).map(key => `key ${key}`),
          ...(tools && (ssh_keys ?? []).length > 0 ? [`tools /artefacts/${tools.sha256}`] : []),
        ],
      }
    },

    /** The files of the install, with the first-boot token put in: only for the session that claimed. */
    async config(caller: Caller): Promise<RamdiskAnswer> {
      const speaker = await callers.claimed(caller)
      if (!speaker?.plan.install) return {refused: 'ATTEMPT_OVER'}
      const token = attemptToken(await services.key(), speaker.fence, 'first_boot')
      const files = speaker.plan.install.files.map(file => ({...file, body: file.body.replaceAll(FIRST_BOOT_TOKEN, token)}))
      return {file: writeTar(files)}
    },

    async event(caller: Caller, body: unknown): Promise<RamdiskAnswer> {
      const {kind, ...detail} = EVENT.parse(body)
      const claimed = await callers.claimed(caller)
      const speaker = claimed ?? (await callers.booted(caller))
      if (!speaker) return {refused: 'ATTEMPT_OVER'}
      if (!claimed && !UNCLAIMED.includes(kind)) return {refused: 'NOT_CLAIMED'}
      // A burn-in's results are those of a burn-in: no other stage may end its phases by them.
      if (STAGES_OF_EVENT[kind] && !STAGES_OF_EVENT[kind].includes(speaker.kind)) return {refused: 'NOT_OF_THIS_STAGE'}
      if (kind === 'progress') await observe(db, speaker, kind, detail, false)
      else await observeOnce(speaker, kind, detail)
      if (kind === 'wiped' || kind === 'tested') return {lines: [`then ${speaker.plan.end}`]}
      return kind === 'local_boot_set' ? {lines: ['then reboot']} : {nothing: true}
    },

    /** The tail of the ramdisk's log. Its `failed` before it has mostly ended the attempt already, so that is no reason to refuse it. */
    async log(caller: Caller, text: Uint8Array): Promise<RamdiskAnswer> {
      const about = await callers.once(caller)
      if (!about) return {refused: 'ATTEMPT_OVER'}
      const kept = await evidence.kindsOf(db, about.fence)
      if ((kept.get('ramdisk_log') ?? 0) < LOGS_AT_MOST) await observe(db, about, 'ramdisk_log', {lines: logLines(text)}, false)
      return {nothing: true}
    },

    /** The installed system's phone-home: facts and first boot in one transaction, once an attempt, whenever it comes. */
    async firstBoot(caller: Caller, body: unknown): Promise<RamdiskAnswer> {
      if (caller.token.kind !== 'attempt' || caller.token.stage !== 'first_boot') return {refused: 'NOT_A_FIRST_BOOT'}
      const input = FIRST_BOOT.parse(body)
      const about = await callers.once(caller)
      if (!about) return {refused: 'ATTEMPT_OVER'}
      await claims.alone(about.fence, async tx => {
        if ((await evidence.kindsOf(tx, about.fence)).has('first_boot')) return
        await observe(tx, about, 'facts', input, false)
        await observe(tx, about, 'first_boot', {address: caller.from, user_data: input.user_data ?? []}, true)
      })
      return {nothing: true}
    },
  }

  /** Writes what may be said again and again, but counts once for an attempt. */
  async function observeOnce(about: About, kind: string, detail: Record<string, unknown>, wakes = true): Promise<void> {
    await claims.alone(about.fence, async tx => {
      if (!(await evidence.kindsOf(tx, about.fence)).has(kind)) await observe(tx, about, kind, detail, wakes)
    })
  }

  async function observe(
    tx: Kysely<Database>,
    {machineId, jobId, fence}: About,
    kind: string,
    detail: Record<string, unknown>,
    wakes: boolean,
  ): Promise<void> {
    await evidence.record(tx, {
      at: clock.now(),
      kind,
      source: kind === 'first_boot' ? 'first_boot' : 'ramdisk',
      machineId,
      jobId,
      fence,
      detail,
      ...(wakes ? {task: advanceTask(jobId)} : {}),
    })
  }

  async function observeNewcomer({mac, windowId}: Newcomer, kind: string, detail: Record<string, unknown>): Promise<void> {
    await db.transaction().execute(tx =>
      evidence.record(tx, {
        at: clock.now(),
        kind,
        source: 'ramdisk',
        mac,
        detail: {...detail, window_id: windowId},
        task: intakeTask(mac),
      }),
    )
  }
}

function hasBmc(facts: Record<string, unknown>): boolean {
  const bmc = facts.bmc as {address?: unknown} | null | undefined
  return typeof bmc?.address === 'string' && bmc.address !== '' && bmc.address !== '0.0.0.0'
}
