/** `ingot jobs …`: list, show, follow, cancel, hold, resume. */
import {Command} from 'commander'
import {causeLines, followJob, phaseLine} from './follow.ts'
import {machineNames} from './names.ts'
import {cellOf, printJson, printLine, printTable, timeOf} from './output.ts'
import type {Job, Page} from './shapes.ts'
import {apiVerb, parseNumber} from './verb.ts'

export function jobsCommand(): Command {
  const jobs = new Command('jobs').description('the tracked requests behind every action')
  apiVerb<[], {machine?: string; open?: boolean; limit: number; before?: string}>(
    jobs
      .command('list', {isDefault: true})
      .description('newest first')
      .option('--machine <machine>', 'only of this machine')
      .option('--open', 'only open ones')
      .option('--limit <n>', 'rows', parseNumber, 20)
      .option('--before <cursor>', 'go on from here'),
    async ({client, json}, {machine, open, limit, before}) => {
      const page = await client.get<Page<Job>>('/v1/jobs', {machine, open, limit, before})
      if (json) return printJson(page)
      const names = machineNames(client)
      const rows = await Promise.all(page.items.map(job => listRow(job, names)))
      printTable(rows, ['job', 'machine', 'kind', 'state', 'phase', 'attempt', 'cause', 'opened'], 'There are no jobs.')
      if (page.next) printLine(`… more: --before ${page.next}`)
    },
  )
  apiVerb<[string], object>(
    jobs.command('show').description('its attempts, phases and what proved them').argument('<job>', 'id'),
    async ({client, json}, _options, id) => {
      const job = await client.get<Job>(`/v1/jobs/${encodeURIComponent(id)}`)
      if (json) return printJson(job)
      showJob(job, await machineNames(client)(job.machine_id))
    },
  )
  apiVerb<[string], object>(
    jobs.command('follow').description('show its phases until it ends').argument('<job>', 'id'),
    (context, _options, id) => followJob(context, id),
  )
  apiVerb<[string], object>(
    jobs.command('cancel').description('ask it to end').argument('<job>', 'id'),
    async ({client, json}, _options, id) => {
      const {job} = await client.send<{job: Job}>('POST', `/v1/jobs/${encodeURIComponent(id)}/cancel`)
      if (json) return printJson(job)
      printLine(`Job ${job.id} will end; \`ingot jobs follow ${job.id}\` says when.`)
    },
  )
  apiVerb<[string], {at?: string; minutes?: number}>(
    jobs
      .command('hold')
      .description('hold it before its next step, or before that of a phase')
      .argument('<job>', 'id')
      .option('--at <phase>', 'a phase for which Ingot itself does something, such as power_cycled or handed_off')
      .option('--minutes <n>', 'how long at most; then it fails (default: 1440)', parseNumber),
    async ({client, json}, {at, minutes}, id) => {
      const {job} = await client.send<{job: Job}>('POST', `/v1/jobs/${encodeURIComponent(id)}/hold`, {at, minutes})
      if (json) return printJson(job)
      printLine(`Job ${job.id} will be held before ${cellOf(job.hold_at)}; \`ingot jobs resume ${job.id}\` lets it go on.`)
    },
  )
  apiVerb<[string], object>(
    jobs.command('resume').description('let a held job go on').argument('<job>', 'id'),
    async ({client, json}, _options, id) => {
      const {job} = await client.send<{job: Job}>('POST', `/v1/jobs/${encodeURIComponent(id)}/resume`)
      if (json) return printJson(job)
      printLine(`Job ${job.id} goes on; \`ingot jobs follow ${job.id}\` shows it.`)
    },
  )
  return jobs
}

async function listRow(job: Job, names: ReturnType<typeof machineNames>) {
  return {
    ...job,
    job: job.id,
    machine: await names(job.machine_id),
    attempt: `${job.attempt}/${job.max_attempts}`,
    cause: job.state === 'succeeded' ? null : job.cause?.code,
    opened: timeOf(job.created_at),
  }
}

function showJob(job: Job, machine: string | null): void {
  const start = Date.parse(job.created_at)
  const phase = job.finished_at ? '' : `, phase ${cellOf(job.phase)}`
  printLine(`${job.kind} of ${cellOf(machine)}: ${job.state}${phase}, attempt ${job.attempt} of ${job.max_attempts}`)
  printLine(`opened ${timeOf(job.created_at)} by ${cellOf(job.requested_by)}`)
  if (job.eta) printLine(`usually done ${timeOf(job.eta)}, as machines of its model are`)
  for (const attempt of job.attempts ?? []) {
    printLine(`attempt ${attempt.number}${attempt.outcome ? `: ${attempt.outcome}` : ''}`)
    for (const row of attempt.phases) printLine(phaseLine(row, start))
  }
  if (job.cause && job.state !== 'succeeded') printLine(causeLines(job.cause))
}
