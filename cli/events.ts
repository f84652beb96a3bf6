/** `ingot events [--follow]`: what changed, and who changed it. */
import {Command} from 'commander'
import type {Client} from './client.ts'
import {evidenceLine, patiently} from './follow.ts'
import {untilInterrupted} from './interrupt.ts'
import {machineNames, type Names} from './names.ts'
import {cellOf, printJson, printJsonLine, printLine, timeOf} from './output.ts'
import type {Event, Page} from './shapes.ts'
import {apiVerb, parseNumber} from './verb.ts'

const WAIT_S = 20
const PAGE = 500
const LAST = 50
const LAST_FOLLOWED = 10

type Options = {follow?: boolean; machine?: string; after?: string; last?: number}

export function eventsCommand(): Command {
  return apiVerb<[], Options>(
    new Command('events')
      .description('what changed and who changed it, oldest first')
      .option('--follow', 'go on with what happens from now, until Ctrl-C; with --json one event a line')
      .option('--machine <machine>', 'only of this machine')
      .option('--last <n>', `begin with the newest so many (default ${LAST}, ${LAST_FOLLOWED} with --follow)`, parseNumber)
      .option('--after <cursor>', 'everything after this event or cursor; 0 is the beginning'),
    async ({client, json}, options) => {
      const names = machineNames(client)
      const start =
        options.after === undefined ? {last: options.last ?? (options.follow ? LAST_FOLLOWED : LAST)} : {after: options.after}
      if (options.follow) {
        await untilInterrupted(signal => follow(client, options.machine, start, json, names, signal))
        return
      }
      const items: Event[] = []
      let next = ''
      for await (const page of pages(client, options.machine, start)) {
        next = page.next ?? next
        if (json) items.push(...page.items)
        else for (const event of page.items) printLine(eventLine(event, await names(event.machine_id)))
      }
      if (json) printJson({items, next})
      else if (next === '') printLine('Nothing has happened yet.')
    },
  )
}

type Start = {readonly last: number} | {readonly after: string}

async function* pages(client: Client, machine: string | undefined, start: Start): AsyncGenerator<Page<Event>> {
  const limit = 'last' in start ? start.last : PAGE
  for (let from: Start = start; ; ) {
    const page: Page<Event> = await client.get('/v1/events', {...from, machine, limit})
    if (page.items.length > 0) yield page
    // What came while it was read is not what was asked for.
    if (page.items.length < limit || 'last' in start || page.next === null) return
    from = {after: page.next}
  }
}

async function follow(
  client: Client,
  machine: string | undefined,
  start: Start,
  json: boolean,
  names: Names,
  signal: AbortSignal,
): Promise<void> {
  // Nothing at all to begin with is a way of beginning, too.
  let from: Start = 'last' in start && start.last < 1 ? {after: 'now'} : start
  const ask = () => client.get<Page<Event>>('/v1/events', {...from, machine, limit: PAGE, wait_s: WAIT_S}, signal)
  for (let page: Page<Event> | undefined = await ask(); page; page = await patiently(ask, signal)) {
    for (const event of page.items) {
      if (json) printJsonLine(event)
      else printLine(eventLine(event, await names(event.machine_id)))
    }
    if (page.next !== null) from = {after: page.next}
    if (signal.aborted) return
  }
}

export function eventLine(event: Event, machine: string | null): string {
  const about = cellOf(machine ?? event.subject).padEnd(18)
  const head = `${timeOf(event.at)}  ${about} ${event.kind.replaceAll('_', ' ').padEnd(16)}`
  return `${`${head} ${whatHappened(event)}`.trimEnd()}  [${cellOf(event.actor)}]`
}

function whatHappened({kind, subject, machine_id, detail}: Event): string {
  if (kind === 'state_changed') return `${cellOf(detail.from)} → ${cellOf(detail.to)}: ${cellOf(detail.because)}`
  if (kind === 'phase_entered')
    return `${cellOf(detail.phase)}  ${evidenceLine((detail.evidence ?? {}) as Record<string, unknown>)}`
  const {because, ...rest} = detail
  const parts = Object.entries(rest).filter(
    ([key, value]) => value !== null && !['plan_hash', 'fence', 'next_fence'].includes(key),
  )
  const values = parts.map(([key, value]) => `${key}=${cellOf(value)}`).join(' ')
  const text = typeof because === 'string' ? `${cellOf(because)}: ${values}` : values
  return machine_id !== null && subject !== null && text === '' ? cellOf(subject) : text
}
