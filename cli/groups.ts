/** Actions on the machines that a selector names: the plan is shown, and its hash is what confirms it. */
import {Command} from 'commander'
import {machineNames} from './names.ts'
import {cellOf, printJson, printLine, printTable, timeOf} from './output.ts'
import type {Page} from './shapes.ts'
import {apiVerb, type Context, parseNumber} from './verb.ts'

type Plan = {
  readonly action: string
  readonly destructive: boolean
  readonly count: number
  readonly total: number
  readonly share: number
  readonly groups: readonly {readonly by: string; readonly value: string; readonly count: number; readonly of: number}[]
  readonly sample: readonly string[]
  readonly refused: readonly {readonly machine: string; readonly why: string}[]
  readonly hash: string
}
type Group = {
  readonly id: string
  readonly action: string
  readonly selector: string
  readonly state: string
  readonly reason: string | null
  readonly created_at: string
  readonly members?: readonly {
    readonly machine_id: string
    readonly state: string
    readonly job_id: string | null
    readonly why: string | null
  }[]
}

export type GroupOptions = {confirm?: string; canary?: number; batch?: number; stopShare?: number; beyondLimit?: boolean}

/** Machines have names of letters, digits and hyphens; a selector compares. */
export function isSelector(text: string): boolean {
  return /[=<>!]/.test(text)
}

export function withGroupOptions(command: Command): Command {
  return command
    .option('--confirm <hash>', 'of the plan that was shown: do it')
    .option('--canary <n>', 'how many go first and have to end (default: 1)', parseNumber)
    .option('--batch <n>', 'how many at once (default: 10)', parseNumber)
    .option('--stop-share <0..1>', 'the share of failures that is borne (default: 0.2)', parseNumber)
    .option('--beyond-limit', 'more than the hourly limit; for administrators')
}

/** Shows what would happen; does it when the hash of just that is given, or when nothing is destroyed. */
export async function actOnGroup(
  {client, json}: Context,
  action: string,
  selector: string,
  options: GroupOptions,
  params: Record<string, unknown> = {},
): Promise<void> {
  const request = {action, selector, params}
  const plan = await client.send<Plan>('POST', '/v1/groups/plan', request)
  if (options.confirm === undefined && (plan.destructive || plan.count === 0)) {
    if (json) return printJson(plan)
    return showPlan(plan)
  }
  const {group} = await client.send<{group: Group}>('POST', '/v1/groups', {
    ...request,
    plan_hash: options.confirm,
    canary: options.canary,
    batch: options.batch,
    stop_share: options.stopShare,
    beyond_limit: options.beyondLimit,
  })
  if (json) return printJson(group)
  printLine(`Accepted: group ${group.id}, ${plan.count} machines. \`ingot groups show ${group.id}\` shows how it goes.`)
}

export function groupsCommand(): Command {
  const groups = new Command('groups').description('actions on many machines')
  apiVerb<[], {limit: number}>(
    groups.command('list', {isDefault: true}).description('newest first').option('--limit <n>', 'rows', parseNumber, 20),
    async ({client, json}, {limit}) => {
      const page = await client.get<Page<Group>>('/v1/groups', {limit})
      if (json) return printJson(page)
      const rows = page.items.map(group => ({...group, group: group.id, opened: timeOf(group.created_at)}))
      printTable(rows, ['group', 'action', 'selector', 'state', 'opened'], 'There are no group actions.')
    },
  )
  apiVerb<[string], object>(
    groups.command('show').description('its machines, their jobs and what became of them').argument('<group>', 'id'),
    async ({client, json}, _options, id) => {
      const group = await client.get<Group>(`/v1/groups/${encodeURIComponent(id)}`)
      if (json) return printJson(group)
      printLine(`${group.action} of ${cellOf(group.selector)}: ${group.state}${group.reason ? `, since ${group.reason}` : ''}`)
      const names = machineNames(client)
      const rows = await Promise.all(
        (group.members ?? []).map(async member => ({...member, machine: await names(member.machine_id), job: member.job_id})),
      )
      printTable(rows, ['machine', 'state', 'job', 'why'], 'It names no machine.')
    },
  )
  apiVerb<[string], object>(
    groups.command('cancel').description('start nothing more; jobs that are open go on').argument('<group>', 'id'),
    async ({client, json}, _options, id) => {
      const {group} = await client.send<{group: Group}>('POST', `/v1/groups/${encodeURIComponent(id)}/cancel`)
      if (json) return printJson(group)
      printLine(`Group ${group.id} starts nothing more.`)
    },
  )
  return groups
}

function showPlan(plan: Plan): void {
  printLine(`${plan.action}: ${plan.count} of ${plan.total} machines (${Math.round(plan.share * 100)} %)`)
  printTable(
    plan.groups.map(row => ({...row, share: `${row.count} of ${row.of}`})),
    ['by', 'value', 'share'],
    'No machine is like that, or it is possible on none of them now.',
  )
  if (plan.sample.length > 0) printLine(`such as ${plan.sample.map(cellOf).join(', ')}`)
  for (const {machine, why} of plan.refused) printLine(`not ${cellOf(machine)}: ${cellOf(why)}`)
  if (plan.count > 0) printLine(`To do it, give the same command with --confirm ${plan.hash}`)
}
