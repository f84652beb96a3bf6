/**
 * Writes into documents, between their markers, what tables in the code say: docs/lifecycle.md has states, diagram, transitions and
 * phases, docs/captures.md the causes of captures, docs/causes.md those of jobs, docs/metrics.md counters and alerts. Text outside the
 * markers is people's. `sh bin/node.sh scripts/docs.ts` after a change to those tables; test/unit/docs.test.ts asks for it.
 */
import {readFileSync, writeFileSync} from 'node:fs'
import {join, resolve} from 'node:path'
import {ALERTS, IGNORED} from '../services/dhcpd/index.ts'
import {CAUSES as CAPTURE_CAUSES} from '../services/diagnosis/index.ts'
import {HANDOFF_CAUSES} from '../services/handoff/causes.ts'
import {CAUSES, type CauseCode} from '../services/lifecycle/causes.ts'
import {MAX_ATTEMPTS, PHASES, type Phase, PLANS} from '../services/lifecycle/phases.ts'
import {ALL_STATES, STATES, type State} from '../services/lifecycle/states.ts'
import {type JobKind, TRANSITIONS, type Transition} from '../services/lifecycle/transitions.ts'
import {WIRE_METRICS} from '../services/supervisor/wire-metrics.ts'

export const ROOT = resolve(import.meta.dirname, '..')
export const LIFECYCLE_PAGE = 'docs/lifecycle.md'

const ROWS: readonly Transition[] = TRANSITIONS
/** A retry leads back to where a job can fail from. */
const CAN_FAIL: readonly State[] = ROWS.filter(row => row.to === 'failed').flatMap(row => row.from)

/** Every state that a row can lead to. One that leads back where its job came from leads to where that kind of job begins. */
function targetsOf(row: Transition): readonly State[] {
  if (row.to === 'failed_from') return CAN_FAIL
  if (row.to !== 'origin') return [row.to]
  return ROWS.filter(request => request.by === 'request' && row.from.includes(request.to as State)).flatMap(
    request => request.from,
  )
}

export const CAPTURES_PAGE = 'docs/captures.md'
export const CAUSES_PAGE = 'docs/causes.md'
export const METRICS_PAGE = 'docs/metrics.md'

type Sections = Readonly<Record<string, () => string>>

/** What is generated on which page. */
export const GENERATED: Readonly<Record<string, Sections>> = {
  [LIFECYCLE_PAGE]: {
    states: stateTable,
    diagram: stateDiagram,
    transitions: transitionTable,
    plans: planTable,
    phases: phaseTable,
  },
  [CAPTURES_PAGE]: {causes: causeTable},
  [CAUSES_PAGE]: {causes: jobCauseTable},
  [METRICS_PAGE]: {wire: metricTable, ignored: ignoredTable, alerts: alertTable},
}

/**
 * @param text of the page, with a pair of markers for each section
 * @throws Error naming the section whose markers are missing
 */
export function fillPage(page: string, text: string): string {
  return Object.entries(GENERATED[page] ?? {}).reduce((filled, [name, write]) => {
    const marked = new RegExp(`(<!-- generated: ${name} -->\n)[\\s\\S]*?(<!-- end: ${name} -->)`)
    if (!marked.test(filled)) throw new Error(`${page} has no markers for '${name}'`)
    return filled.replace(marked, (_all, begin: string, end: string) => `${begin}${write()}\n${end}`)
  }, text)
}

function stateTable(): string {
  return table(
    ['state', 'lasts', 'meaning'],
    ALL_STATES.map(state => [`\`${state}\``, STATES[state].stable ? 'yes' : 'until its job ends', STATES[state].meaning]),
  )
}

/** Requests by their name, outcomes in brackets; events between the same two states share an arrow. */
function stateDiagram(): string {
  const arrows = new Map<string, string[]>()
  for (const row of ROWS) {
    for (const from of row.from) {
      for (const to of targetsOf(row)) {
        const arrow = `${from} --> ${to}`
        arrows.set(arrow, [...(arrows.get(arrow) ?? []), row.by === 'request' ? row.event : `[${row.event}]`])
      }
    }
  }
  const reached = new Set(ROWS.flatMap(targetsOf))
  const left = new Set(ROWS.flatMap(row => row.from))
  return [
    '```mermaid',
    'stateDiagram-v2',
    ...ALL_STATES.filter(state => !reached.has(state)).map(state => `  [*] --> ${state}`),
    ...[...arrows].map(([arrow, events]) => `  ${arrow}: ${events.join(', ')}`),
    ...ALL_STATES.filter(state => !left.has(state)).map(state => `  ${state} --> [*]`),
    '```',
  ].join('\n')
}

function transitionTable(): string {
  return table(
    ['from', 'event', 'to', 'by', 'opens the job', 'note'],
    ROWS.map(row => [
      row.from.join(', '),
      `\`${row.event}\``,
      row.to === 'failed_from' ? 'where it failed from' : row.to === 'origin' ? 'where it came from' : row.to,
      row.by,
      row.job ?? (row.to === 'failed_from' ? 'the failed one' : ''),
      row.note,
    ]),
  )
}

function planTable(): string {
  return table(
    ['job', 'attempts', 'phases, in order'],
    (Object.keys(PLANS) as JobKind[]).map(kind => [`\`${kind}\``, String(MAX_ATTEMPTS[kind]), PLANS[kind].join(' → ')]),
  )
}

function phaseTable(): string {
  return table(
    ['phase', 'Ingot does', 'proven by', 'within', 'else the cause is'],
    (Object.keys(PHASES) as Phase[]).map(phase => {
      const {step, provenBy, implied, deadline_s, overdue} = PHASES[phase]
      const proof = [
        ...provenBy.map(kind => `evidence \`${kind}\``),
        ...(step ? ['the step’s outcome'] : []),
        ...(implied ? ['a later phase'] : []),
      ]
      return [
        phase,
        step ? `\`${step}\`` : '',
        proof.join(', or '),
        duration(deadline_s),
        `\`${overdue}\`: ${CAUSES[overdue].meaning}`,
      ]
    }),
  )
}

/** Failures first, as a report has them. */
function causeTable(): string {
  const rows = Object.entries(CAPTURE_CAUSES)
  const weights = ['failure', 'slow', 'notice']
  return table(
    ['cause', 'weight', 'means', 'mend'],
    weights.flatMap(weight =>
      rows.filter(([, row]) => row.weight === weight).map(([code, {title, mend}]) => [`\`${code}\``, weight, title, mend]),
    ),
  )
}

function jobCauseTable(): string {
  const rows = (Object.keys(CAUSES) as CauseCode[]).map(code => {
    const {meaning, mend, again} = CAUSES[code]
    return [`\`${code}\``, meaning, mend, again ? 'yes' : 'no']
  })
  const handoffs = Object.entries(HANDOFF_CAUSES).map(([code, {title, mend}]) => [`\`${code}\``, title, mend, 'no'])
  return table(['cause', 'what it means', 'mend', 'again by itself'], [...rows, ...handoffs])
}

function metricTable(): string {
  return table(
    ['metric', 'label', 'counts'],
    Object.entries(WIRE_METRICS).map(([name, {label, help}]) => [
      `\`ingot_${name}_total\``,
      label === null ? '' : `\`${label}\``,
      help,
    ]),
  )
}

function ignoredTable(): string {
  return table(
    ['reason', 'means'],
    Object.entries(IGNORED).map(([reason, means]) => [`\`${reason}\``, means]),
  )
}

function alertTable(): string {
  return table(
    ['event', 'means'],
    Object.entries(ALERTS).map(([kind, means]) => [`\`${kind}\``, means]),
  )
}

function duration(seconds: number): string {
  return seconds % 3600 === 0 ? `${seconds / 3600} h` : `${seconds / 60} min`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n')
}

if (import.meta.main) {
  for (const page of Object.keys(GENERATED)) {
    const path = join(ROOT, page)
    writeFileSync(path, fillPage(page, readFileSync(path, 'utf8')))
  }
}
