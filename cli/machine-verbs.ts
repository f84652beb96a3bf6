/** `ingot test | service | rescue | leave | reserve | unreserve | adopt | maintenance | quarantine`: what else is done to a machine. */
import {readFileSync} from 'node:fs'
import {Command} from 'commander'
import {answer, pathOf, type Wait} from './actions.ts'
import {printJson, printLine, timeOf} from './output.ts'
import type {Job} from './shapes.ts'
import {apiVerb, collect, parseNumber, parseTime, refuse} from './verb.ts'

type TestOptions = Wait & {seconds?: number; memory?: number; minMemory?: number; minCpu?: number; minDisk?: number}

export function testCommand(): Command {
  return apiVerb<[string], TestOptions>(
    new Command('test')
      .description('burn a machine in: memory, processors, and reading its disks')
      .argument('<machine>', 'id or name')
      .option('--seconds <n>', 'for each of the three', parseNumber)
      .option('--memory <percent>', 'of its free memory', parseNumber)
      .option('--min-memory <MB/s>', 'what memory must reach', parseNumber)
      .option('--min-cpu <MB/s>', 'what SHA-256 over all processors must reach', parseNumber)
      .option('--min-disk <MB/s>', 'what reading each disk must reach', parseNumber)
      .option('--wait', 'show its progress until it ends'),
    async (context, options, id) => {
      const {job} = await context.client.send<{job: Job}>('POST', pathOf(id, 'test'), {
        seconds: options.seconds,
        memory_percent: options.memory,
        min_memory_mb_s: options.minMemory,
        min_cpu_mb_s: options.minCpu,
        min_disk_mb_s: options.minDisk,
      })
      await answer(context, options, job)
    },
  )
}

/** `service` and `rescue`: the ramdisk stays, for whoever has one of the keys. */
export function stayCommand(verb: 'service' | 'rescue'): Command {
  return apiVerb<[string], Wait & {sshKey?: string[]}>(
    new Command(verb)
      .description(
        verb === 'service'
          ? 'stop a host and let the ramdisk stay for work on the hardware'
          : 'let the ramdisk stay with a shell, to look and mend',
      )
      .argument('<machine>', 'id or name')
      .option('--ssh-key <file>', 'a public key that may log in as root; may be given again', collect)
      .option('--wait', 'show its progress until it ends'),
    async (context, options, id) => {
      const keys = (options.sshKey ?? []).map(file => readFileSync(file, 'utf8').trim())
      const {job} = await context.client.send<{job: Job}>('POST', pathOf(id, verb), {ssh_keys: keys})
      await answer(context, options, job)
    },
  )
}

export function reserveCommand(): Command {
  return apiVerb<[string], {for: string; until: string}>(
    new Command('reserve')
      .description('keep an available machine for somebody until a time')
      .argument('<machine>', 'id or name')
      .requiredOption('--for <whom>', 'person, team or ticket')
      .requiredOption('--until <time>', 'such as 2026-03-01 or 2026-03-01T12:00', parseTime),
    async (context, options, id) => {
      await context.client.send('POST', pathOf(id, 'reserve'), {for: options.for, until: options.until})
      if (context.json) return printJson({reserved: id, until: options.until})
      printLine(`${id} is reserved for ${options.for} until ${timeOf(options.until)}.`)
    },
  )
}

const AT_ONCE = {
  adopt: ['take an enrolled machine that runs a host already as active', 'is active; Ingot leaves its host alone'],
  unreserve: ['give a reserved machine back before its time', 'is available'],
} as const

export function atOnceCommand(verb: keyof typeof AT_ONCE): Command {
  const [description, done] = AT_ONCE[verb]
  return apiVerb<[string], object>(
    new Command(verb).description(description).argument('<machine>', 'id or name'),
    async (context, _options, id) => {
      await context.client.send('POST', pathOf(id, verb))
      if (context.json) return printJson({[verb]: id})
      printLine(`${id} ${done}.`)
    },
  )
}

export function maintenanceCommand(): Command {
  return apiVerb<[string, string], {reason?: string}>(
    new Command('maintenance')
      .description('keep automation away from a machine, or let it come back')
      .argument('<machine>', 'id or name')
      .argument('<on|off>')
      .option('--reason <text>', 'for the record'),
    async (context, options, id, word) => {
      if (word !== 'on' && word !== 'off') throw refuse(`'${word}' is neither on nor off`, 'Say on or off.')
      await context.client.send('PUT', pathOf(id, 'maintenance'), {on: word === 'on', reason: options.reason})
      if (context.json) return printJson({machine: id, maintenance: word === 'on'})
      printLine(word === 'on' ? `${id} is in maintenance.` : `${id} is back from maintenance.`)
    },
  )
}

export function quarantineCommand(): Command {
  return apiVerb<[string], {reason?: string; lift?: boolean}>(
    new Command('quarantine')
      .description('refuse what would change a machine, until a person lifts it')
      .argument('<machine>', 'id or name')
      .option('--reason <text>', 'why')
      .option('--lift', 'lift whatever quarantine it is in'),
    async (context, {reason, lift}, id) => {
      if ((reason === undefined) === (lift !== true)) throw refuse('it needs a reason, or --lift', 'Give one of the two.')
      await context.client.send('PUT', pathOf(id, 'quarantine'), {reason: reason ?? null})
      if (context.json) return printJson({machine: id, quarantined: reason ?? null})
      printLine(lift ? `${id} is no longer quarantined.` : `${id} is quarantined.`)
    },
  )
}
