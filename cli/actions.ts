/** `ingot provision | reinstall | deprovision | clean | inspect | retry | power`: act on a machine, and wait for the job when asked to. */
import {readFileSync} from 'node:fs'
import {Command} from 'commander'
import {addBmcVerbs} from './bmc.ts'
import {followJob} from './follow.ts'
import {actOnGroup, type GroupOptions, isSelector, withGroupOptions} from './groups.ts'
import {printJson, printLine} from './output.ts'
import type {Job} from './shapes.ts'
import {apiVerb, type Context, collect, collectParameter, readYamlFile} from './verb.ts'

export type Wait = {wait?: boolean}

type ProvisionOptions = Wait & {
  profile?: string
  template?: string
  image?: string
  disk?: string
  hostname?: string
  prefix?: string
  set?: Record<string, unknown>
  sshKey?: string[]
  userData?: string[]
  parametersFile?: string
  playbook?: string
}

const MACHINES = 'id or name, or a selector such as state=available'

const WORDS = {
  deprovision: 'give a machine back: power off, free its addresses, wipe its disks',
  clean: 'wipe every disk of a machine and read it back',
  inspect: 'boot the ramdisk and record what the machine is',
  retry: 'do the failed job again, with its frozen plan',
  leave: 'end its stay in the ramdisk: it boots its disk and is what it was before',
} as const

export function provisionCommand(): Command {
  const command = new Command('provision').description('install a profile on a machine').argument('<machine>', MACHINES)
  return apiVerb<[string], ProvisionOptions & GroupOptions>(
    withGroupOptions(installOptions(command)),
    async (context, options, id) => {
      if (isSelector(id)) return actOnGroup(context, 'provision', id, options, provisionBody(options))
      const {job} = await context.client.send<{job: Job}>('POST', pathOf(id, 'provision'), provisionBody(options))
      await answer(context, options, job)
    },
  )
}

function installOptions(command: Command): Command {
  return command
    .option('--profile <name>', 'what it becomes')
    .option('--template <name>', 'instead of or over the profile, such as debian/12')
    .option('--image <name>')
    .option('--disk <rule>', 'smallest, serial=…, wwn=… or name=…')
    .option('--hostname <name>')
    .option('--prefix <prefix>', 'id or CIDR of the prefix of its host address')
    .option('--set <name=value>', 'a template parameter, its value JSON or text; may be given again', collectParameter)
    .option('--ssh-key <file>', 'a public key for root; may be given again', collect)
    .option('--user-data <file>', 'an executable for the first boot; may be given again', collect)
    .option('--parameters-file <file>', 'template parameters as YAML or JSON')
    .option('--playbook <file>', 'hand over by this ansible playbook')
    .option('--wait', 'show its progress until it ends')
}

function provisionBody(options: ProvisionOptions) {
  const parameters = {
    ...(options.parametersFile ? readYamlFile(options.parametersFile) : {}),
    ...options.set,
    ...(options.sshKey ? {ssh_keys: options.sshKey.map(file => readFileSync(file, 'utf8').trim())} : {}),
    ...(options.userData
      ? {
          user_data: options.userData.map(file => ({
            name: (file.split('/').pop() ?? file).replace(/[^a-z0-9-]/gi, '-'),
            body: readFileSync(file, 'utf8'),
          })),
        }
      : {}),
  }
  return {
    profile: options.profile,
    template: options.template,
    image: options.image,
    disk: options.disk,
    hostname: options.hostname,
    prefix: options.prefix,
    ...(Object.keys(parameters).length > 0 ? {parameters} : {}),
    ...(options.playbook ? {handoff: {kind: 'ansible', playbook_yaml: readFileSync(options.playbook, 'utf8')}} : {}),
  }
}

export function reinstallCommand(): Command {
  return apiVerb<[string], ProvisionOptions & {wipe?: string}>(
    installOptions(
      new Command('reinstall')
        .description('install an active machine again, what it runs unless told otherwise; keeps its addresses')
        .argument('<machine>', 'id or name'),
    ).option('--wipe <how>', 'full, fast, or preserve the disks that the image does not go to (default: preserve)'),
    async (context, options, id) => {
      const body = {...provisionBody(options), wipe: options.wipe}
      const {job} = await context.client.send<{job: Job}>('POST', pathOf(id, 'reinstall'), body)
      await answer(context, options, job)
    },
  )
}

export function actionCommand(verb: keyof typeof WORDS): Command {
  const many = verb === 'deprovision' || verb === 'clean' || verb === 'inspect'
  const command = new Command(verb)
    .description(WORDS[verb])
    .argument('<machine>', many ? MACHINES : 'id or name')
    .option('--wait', 'show its progress until it ends')
  return apiVerb<[string], Wait & GroupOptions>(many ? withGroupOptions(command) : command, async (context, options, id) => {
    if (many && isSelector(id)) return actOnGroup(context, verb, id, options)
    const {job} = await context.client.send<{job: Job}>('POST', pathOf(id, verb))
    await answer(context, options, job)
  })
}

export function powerCommand(): Command {
  const power = new Command('power').description('ask for and switch a machine’s power')
  apiVerb<[string], object>(
    power.command('status').description('ask its BMC now').argument('<machine>', 'id or name'),
    async ({client, json}, _options, id) => {
      const status = await client.get<{state: string; driver: string}>(`/v1/machines/${encodeURIComponent(id)}/power`)
      if (json) return printJson(status)
      printLine(`${id} is ${status.state} (${status.driver})`)
    },
  )
  for (const verb of ['on', 'off', 'cycle'] as const) {
    const command = power
      .command(verb)
      .description(verb === 'cycle' ? 'off, seen off, on' : `switch it ${verb}, and see it so`)
      .argument('<machine>', MACHINES)
      .option('--wait', 'show its progress until it ends')
    withGroupOptions(command)
    if (verb === 'off') command.option('--force', 'cancel the job that is open, at once')
    apiVerb<[string], Wait & GroupOptions & {force?: boolean}>(command, async (context, options, id) => {
      if (isSelector(id)) return actOnGroup(context, `power_${verb}`, id, options)
      const body = {action: verb, force: options.force}
      const {job} = await context.client.send<{job: Job}>('POST', pathOf(id, 'power'), body)
      await answer(context, options, job)
    })
  }
  addBmcVerbs(power)
  return power
}

/** The path of what is done to a machine. */
export function pathOf(machine: string, verb: string): string {
  return `/v1/machines/${encodeURIComponent(machine)}/${verb}`
}

export async function answer(context: Context, options: Wait, job: Job): Promise<void> {
  if (options.wait) return followJob(context, job.id)
  if (context.json) return printJson(job)
  printLine(`Accepted: job ${job.id} (${job.kind}). \`ingot jobs follow ${job.id}\` shows how it goes.`)
}
