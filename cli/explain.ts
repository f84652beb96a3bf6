/** `ingot explain <mac|machine>`: what the wire would give it at each stage, and why. */
import {Command} from 'commander'
import {cellOf, printJson, printLine, visible} from './output.ts'
import type {Stage} from './shapes.ts'
import {apiVerb} from './verb.ts'

export function explainCommand(): Command {
  return apiVerb<[string], {arch?: string; stage?: string}>(
    new Command('explain')
      .description('what the wire would give a machine at each boot stage, and why; also for a MAC never seen')
      .argument('<mac|machine>', 'MAC, id or name')
      .option('--arch <name>', 'bios, uefi, uefi-http, arm64, or a number of option 93')
      .option('--stage <name>', 'only rom, http, ipxe, loader, ramdisk, installer or os'),
    async ({client, json}, options, id) => {
      const answer = await client.get<{mac: string; stages: Stage[]}>(`/v1/machines/${encodeURIComponent(id)}/explain`, {
        arch: options.arch,
        stage: options.stage,
      })
      if (json) return printJson(answer)
      printLine(answer.mac)
      for (const [index, stage] of answer.stages.entries()) show(stage, answer.stages[index - 1])
    },
  )
}

function show(stage: Stage, before: Stage | undefined): void {
  printLine('')
  printLine(`${stage.stage}: ${visible(stage.answer)}`)
  for (const reason of stage.reasons) {
    const source = reason.source ? ` [${visible(reason.source)}]` : ''
    printLine(`  because ${visible(reason.because)}${source} (${reason.rule})`)
  }
  if (stage.options && before?.options && optionsText(stage.options) === optionsText(before.options)) {
    printLine('    (with the options of the one before)')
  } else for (const [name, value] of Object.entries(stage.options ?? {})) printLine(`    ${name} = ${cellOf(value)}`)
  for (const line of stage.body?.trimEnd().split('\n') ?? []) printLine(`    | ${line}`)
}

/** All that a client is told, but for whether it is an offer. */
function optionsText({message_type: _type, ...options}: Record<string, unknown>): string {
  return JSON.stringify(options)
}
