import {readdirSync, readFileSync} from 'node:fs'
import {join} from 'node:path'
import {describe, expect, it} from 'vitest'
import {CAUSES, canHelp, cause, causeSaid} from '../../services/lifecycle/causes.ts'
import {PHASES, type Phase, PLANS} from '../../services/lifecycle/phases.ts'
import {type EvidenceSeen, type JobSeen, nextMove, STEP_TRIES} from '../../services/lifecycle/progress.ts'
import type {JobKind} from '../../services/lifecycle/transitions.ts'

const ROOT = join(import.meta.dirname, '../..')
const NOW = new Date('2026-03-01T12:00:00Z')
const LATE = new Date(NOW.getTime() - 1)
const LATER = new Date(NOW.getTime() + 3_600_000)

const seen = (id: number, kind: string, detail: Record<string, unknown> = {}): EvidenceSeen => ({id, at: NOW, kind, detail})

function causeOf(kind: JobKind, over: Partial<JobSeen>) {
  const calm = {deadline: LATER, cancelRequested: false, held: false, holdAt: null, now: NOW}
  const move = nextMove({plan: PLANS[kind], proven: [], evidence: [], effects: [], ...calm, ...over})
  if (move.do !== 'fail') throw new Error(`it did not fail, but: ${move.do}`)
  return move
}

/** All before a phase proven, so that it is the one to come. */
const allBefore = (kind: JobKind, phase: Phase) => PLANS[kind].slice(0, PLANS[kind].indexOf(phase))

/** Whatever the ramdisk can report, read from its sources. */
function ramdiskCodes(): string[] {
  const text = ['pxe/ramdisk/src', 'pxe/ramdisk/lib']
    .flatMap(folder => readdirSync(join(ROOT, folder)).map(file => join(ROOT, folder, file)))
    .map(file => readFileSync(file, 'utf8'))
    .join('\n')
  const said = /\bfail(?:_job)?\("([A-Z][A-Z_]+)"|\bfailed ([A-Z][A-Z_]+) ['"]|require_result \w+ ([A-Z][A-Z_]+)|"(TEST_[A-Z]+)"/g
  const codes = [...text.matchAll(said)].map(match => match[1] ?? match[2] ?? match[3] ?? match[4] ?? '')
  // The shell logs that one and goes on: the firmware's own order decides then.
  return [...new Set(codes)].filter(code => code !== 'LOCAL_BOOT_FAILED')
}

describe('causes', () => {
  it('are what each phase of each plan ends with when nothing comes, with a mend', () => {
    for (const kind of Object.keys(PLANS) as JobKind[]) {
      for (const phase of PLANS[kind]) {
        const move = causeOf(kind, {proven: allBefore(kind, phase), deadline: LATE})
        expect(move.cause, `${kind} ${phase}`).toEqual(cause(PHASES[phase].overdue))
        expect(move.retry).toBe(PHASES[phase].again !== false && CAUSES[PHASES[phase].overdue].again)
      }
    }
  })

  it('of the ramdisk are all in the table, and come with its detail and the evidence', () => {
    const codes = ramdiskCodes()
    expect(codes.length).toBeGreaterThan(12)
    for (const code of codes) {
      const {cause: told, retry} = causeOf('provision', {evidence: [seen(7, 'failed', {cause: code, detail: 'sda at byte 9'})]})
      expect(Object.keys(CAUSES), code).toContain(told.code)
      expect(told).toMatchObject({detail: 'sda at byte 9', evidence: [7]})
      expect(retry, code).toBe(canHelp(told.code))
    }
  })

  it('tell a machine that booted its disk from one that is silent', () => {
    const renewed = seen(3, 'dhcp_renewed', {vendorClass: 'udhcp 1.35'})
    const over = {proven: allBefore('provision', 'dhcp_seen'), deadline: LATE}
    expect(causeOf('provision', {...over, evidence: [renewed]}).cause).toMatchObject({
      code: 'BOOT_ORDER_DISK',
      detail: expect.stringContaining('udhcp 1.35'),
      evidence: [3],
    })
    expect(causeOf('provision', {...over, evidence: []}).cause.code).toBe('NO_DHCP')
  })

  it('name the other DHCP server that a machine listened to, and try no second time', () => {
    for (const phase of ['dhcp_seen', 'loader_fetched', 'ramdisk_up'] as const) {
      const evidence = [seen(4, 'other_server_seen', {server: '10.0.0.66'})]
      expect(causeOf('clean', {proven: allBefore('clean', phase), deadline: LATE, evidence})).toMatchObject({
        cause: {code: 'DHCP_OTHER_SERVER', detail: expect.stringContaining('10.0.0.66'), evidence: [4]},
        retry: false,
      })
    }
  })

  it('call a BMC that takes orders without effect a liar, and try again what may have been a moment’s', () => {
    const failing = (code: string) => ({
      proven: allBefore('provision', 'power_cycled'),
      effects: [{phase: 'power_cycled', finished: true, tries: STEP_TRIES, outcome: {ok: false, code, detail: 'it stays off'}}],
    })
    const lies = causeOf('provision', failing('POWER_UNCONFIRMED'))
    expect(lies).toMatchObject({cause: {code: 'BMC_LIES', detail: 'it stays off'}, retry: true})
    expect(causeOf('provision', failing('POWER_AUTH'))).toMatchObject({cause: {code: 'POWER_AUTH'}, retry: false})
    expect(causeOf('provision', failing('STEP_TIMEOUT'))).toMatchObject({cause: {code: 'STEP_TIMEOUT'}, retry: true})
  })

  it('name loops, second claims and failed handoffs, and who holds or cancels', () => {
    expect(causeOf('provision', {evidence: [seen(1, 'loader_loop')]})).toMatchObject({cause: {code: 'LOADER_LOOP'}, retry: true})
    expect(causeOf('provision', {evidence: [seen(2, 'second_claim', {from: '10.9.9.9'})]})).toMatchObject({
      cause: {code: 'SECOND_CLAIM', detail: expect.stringContaining('10.9.9.9'), evidence: [2]},
      retry: false,
    })
    expect(causeOf('provision', {evidence: [seen(3, 'handoff_failed', {code: 'HANDOFF_AUTH', mend: 'Mend it.'})]})).toMatchObject(
      {
        cause: {code: 'HANDOFF_AUTH', mend: 'Mend it.'},
        retry: false,
      },
    )
    expect(causeOf('clean', {held: true, deadline: LATE}).cause.code).toBe('HOLD_EXPIRED')
    expect(causeOf('clean', {cancelRequested: true}).cause.code).toBe('CANCELLED')
  })

  it('that nobody knows keep their own words', () => {
    expect(causeSaid({code: 'FROM_THE_FUTURE', detail: 'd', mend: 'm'}, 'RAMDISK_FAILED')).toEqual({
      code: 'FROM_THE_FUTURE',
      detail: 'd',
      mend: 'm',
    })
    expect(causeSaid({code: 'constructor'}, 'RAMDISK_FAILED').mend).toBe(CAUSES.RAMDISK_FAILED.mend)
  })

  it('are all raised by something: a phase, the ramdisk, a diagnosis, or a place in the code that names them', () => {
    const code = readdirSync(join(ROOT, 'services'), {recursive: true, encoding: 'utf8'})
      .filter(file => file.endsWith('.ts') && !file.endsWith('lifecycle/causes.ts'))
      .map(file => readFileSync(join(ROOT, 'services', file), 'utf8'))
      .join('\n')
    const raised = new Set(ramdiskCodes())
    const idle = Object.keys(CAUSES).filter(name => !raised.has(name) && !code.includes(`'${name}'`) && name !== 'BMC_LIES')
    expect(idle).toEqual([])
  })
})
