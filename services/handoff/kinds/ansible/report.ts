/** Reads what the callback plugin wrote and judges the run by it. Pure. */
import {z} from 'zod'
import {handoffCause} from '../../causes.ts'
import {oneLine} from '../../output.ts'
import {classifySshFailure} from '../../ssh-master.ts'
import type {KindOutcome} from '../kind.ts'

const count = z.int().min(0)
const eventSchema = z.discriminatedUnion('event', [
  z.object({event: z.literal('task'), task: z.string()}),
  z.object({event: z.enum(['failed', 'unreachable']), host: z.string(), task: z.string(), message: z.string()}),
  z.object({
    event: z.literal('stats'),
    hosts: z.record(
      z.string(),
      z.object({ok: count, changed: count, failures: count, unreachable: count, skipped: count, rescued: count, ignored: count}),
    ),
  }),
])

type PlayEvent = z.infer<typeof eventSchema>
type Ended = Extract<PlayEvent, {message: string}>

export type PlayReport = {
  readonly task: string | undefined
  readonly ended: readonly Ended[]
  readonly hosts: Readonly<Record<string, Record<string, number>>> | undefined
}

/** @param lines the text of events.jsonl; a last line cut short by a kill is left out */
export function readReport(lines: string): PlayReport {
  let task: string | undefined
  let hosts: PlayReport['hosts']
  const ended: Ended[] = []
  for (const line of lines.split('\n')) {
    const event = parseEvent(line)
    if (event === undefined) continue
    if (event.event === 'task') task = event.task
    else if (event.event === 'stats')
      hosts = Object.fromEntries(Object.entries(event.hosts).map(([name, counts]) => [name, rename(counts)]))
    else ended.push(event)
  }
  return {task, ended, hosts}
}

export function summarize(report: PlayReport): Record<string, unknown> {
  return report.hosts === undefined ? {last_task: report.task ?? null} : {hosts: report.hosts}
}

/**
 * The exit code alone would pass a playbook whose `hosts` matched nothing, so "done" also wants the machine among the counted ones.
 *
 * @param code what ansible-playbook ended with
 * @param said the end of its standard error
 */
export function judgeReport(report: PlayReport, machine: string, code: number | string | null, said: string): KindOutcome {
  const summary = summarize(report)
  const fail = (cause: Parameters<typeof handoffCause>[0], detail: string): KindOutcome => ({
    outcome: 'failed',
    cause: handoffCause(cause, detail),
    summary,
  })
  if (report.hosts === undefined) {
    const words = oneLine(said.slice(Math.max(0, said.indexOf('ERROR!'))))
    // 4 without any count: ansible-playbook could not read the playbook (a count with 4 is a host that was not reached).
    return fail(
      code === 4 ? 'HANDOFF_PLAYBOOK' : 'HANDOFF_FAILED',
      words || `ansible-playbook ended with ${code} before any result`,
    )
  }
  const counted = Object.entries(report.hosts)
  if (counted.some(([, counts]) => (counts.unreachable ?? 0) > 0)) {
    const last = report.ended.findLast(end => end.event === 'unreachable')
    const cause = {host_key: 'HANDOFF_HOST_KEY', auth: 'HANDOFF_AUTH', connection: 'HANDOFF_UNREACHABLE'} as const
    return fail(cause[classifySshFailure(last?.message ?? '')], describe(last, 'was lost'))
  }
  if (counted.some(([, counts]) => (counts.failed ?? 0) > 0)) {
    return fail(
      'HANDOFF_FAILED',
      describe(
        report.ended.findLast(end => end.event === 'failed'),
        'failed',
      ),
    )
  }
  if (report.hosts[machine] === undefined) {
    return fail('HANDOFF_PLAYBOOK', `no play addresses ${machine}; use \`hosts: all\`, \`hosts: ingot\` or the machine's name`)
  }
  if (code !== 0) return fail('HANDOFF_FAILED', `ansible-playbook ended with ${code}: ${oneLine(said.slice(-600))}`)
  return {outcome: 'done', summary}
}

function describe(end: Ended | undefined, verb: string): string {
  return end === undefined ? `a host ${verb}` : `${end.host} ${verb} in task "${oneLine(end.task, 120)}": ${oneLine(end.message)}`
}

function rename({failures, ...counts}: Extract<PlayEvent, {event: 'stats'}>['hosts'][string]): Record<string, number> {
  return {...counts, failed: failures}
}

function parseEvent(line: string): PlayEvent | undefined {
  if (line.trim() === '') return undefined
  try {
    return eventSchema.safeParse(JSON.parse(line)).data
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
