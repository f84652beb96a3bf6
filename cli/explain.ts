/** `ingot explain <mac|machine>`: what the wire would give it at each stage, and why. `--pcap`: the same of a capture. */
import {readFileSync, statSync} from 'node:fs'
import {Command} from 'commander'
import {parseMac} from '../lib/addresses.ts'
import type {Client} from './client.ts'
import {showCapture} from './explain-capture.ts'
import {optionText, reasonText} from './explain-text.ts'
import {printJson, printLine, visible} from './output.ts'
import type {CaptureReport, Explained, ExplainedStep} from './shapes.ts'
import {apiVerb, refuse} from './verb.ts'

type Options = {
  arch?: string
  stage?: string
  relay?: string
  circuitId?: string
  userClass?: string
  vendorClass?: string
  prefix?: string
  pcap?: string
}

/** The API takes no more: refused here before it is read and sent. */
const CAPTURE_BYTES_AT_MOST = 8 * 1024 * 1024

export function explainCommand(): Command {
  return apiVerb<[string | undefined], Options>(
    new Command('explain')
      .description('what the wire would give a machine at each boot stage, and why; also for a MAC never seen')
      .argument('[mac|machine]', 'MAC, id or name')
      .option('--arch <name>', 'bios, uefi, uefi-http, arm64, or a number of option 93')
      .option('--stage <name>', 'only rom, http, ipxe, loader, ramdisk, installer or os')
      .option('--relay <address>', 'as if it spoke through this relay (giaddr)')
      .option('--circuit-id <text>', 'as if the relay named this port: text, or bytes as 0x…')
      .option('--user-class <text>', 'as if it sent this in option 77')
      .option('--vendor-class <text>', 'as if it sent this in option 60')
      .option('--prefix <prefix>', 'as if it were on the link of this prefix')
      .option('--pcap <file>', 'what a capture shows instead: packet by packet, what Ingot would have answered, what went wrong'),
    async ({client, json}, options, id) => {
      if (options.pcap !== undefined) {
        if (id !== undefined) throw refuse('a capture speaks of its own machines', 'Leave out the machine, or --pcap.')
        const report = await explainFile(client, options.pcap, options.prefix)
        return json ? printJson(report) : showCapture(report, options.pcap)
      }
      if (id === undefined) throw refuse('neither a machine nor a capture is named', 'Name a MAC, an id or a name; or --pcap.')
      const how = {
        arch: options.arch,
        stage: options.stage,
        relay: options.relay,
        circuit_id: options.circuitId,
        user_class: options.userClass,
        vendor_class: options.vendorClass,
        prefix: options.prefix,
      }
      const mac = parseMac(id)
      const answer = await (mac
        ? client.get<Explained>('/v1/explain', {mac, ...how})
        : client.get<Explained>(`/v1/machines/${encodeURIComponent(id)}/explain`, how))
      if (json) return printJson(answer)
      show(answer)
    },
  )
}

async function explainFile(client: Client, file: string, prefix: string | undefined): Promise<CaptureReport> {
  const {size} = statSync(file)
  if (size > CAPTURE_BYTES_AT_MOST) {
    const mend =
      'Take less: `tcpdump -r big.pcap -w small.pcap "port 67 or port 68 or port 69 or arp"`, or one machine with `ether host`.'
    throw refuse(`${file} has ${size} bytes, and at most ${CAPTURE_BYTES_AT_MOST} are taken`, mend)
  }
  const content = {type: 'application/vnd.tcpdump.pcap', bytes: readFileSync(file)}
  return client.upload<CaptureReport>('/v1/explain/capture', content, {prefix})
}

function show({mac, machine, architecture, prefix, relay, stages}: Explained): void {
  const who = machine === null ? `${mac}, which nobody declared` : `${visible(machine)} (${mac})`
  const where = prefix === null ? 'on no link that is served' : `on ${prefix}`
  printLine(`${who}: ${architecture}, ${where}${relay === null ? '' : `, through relay ${relay}`}`)
  if (stages.length === 0) printLine('\nIt never comes to that stage.')
  for (const [index, {stage, steps}] of stages.entries()) {
    printLine(`\n${stage}`)
    const leases = steps.filter(overDhcp)
    const alike = stages.slice(0, index).find(earlier => isAlike(earlier.steps.filter(overDhcp), leases))
    if (alike) printLine(`  DISCOVER, REQUEST → as ${alike.stage}`)
    const shown = alike ? steps.filter(step => !overDhcp(step)) : steps
    for (const [at, step] of shown.entries()) showStep(step, shown[at - 1])
  }
}

function overDhcp({asks}: ExplainedStep): boolean {
  return asks === 'DISCOVER' || asks === 'REQUEST'
}

function isAlike(one: readonly ExplainedStep[], other: readonly ExplainedStep[]): boolean {
  return other.length > 0 && JSON.stringify(one) === JSON.stringify(other)
}

/** An acknowledgement mostly says again what the offer said: only what is new is shown. */
function showStep(step: ExplainedStep, before: ExplainedStep | undefined): void {
  printLine(`  ${step.asks === undefined ? '' : `${visible(step.asks)} → `}${visible(step.answer)}`)
  if (step.file) printLine(`    file  ${visible(step.file)}`)
  if (step.sent) printLine(`    sent  ${visible(step.sent)}`)
  const known = new Set((before?.reasons ?? []).map(reasonText))
  for (const reason of step.reasons) if (!known.has(reasonText(reason))) printLine(`    why   ${reasonText(reason)}`)
  const options = Object.entries(step.options ?? {})
  if (options.length > 0 && JSON.stringify(step.options) === JSON.stringify(before?.options)) {
    printLine('    with the same options')
  } else {
    const width = Math.max(...options.map(([name]) => name.length))
    for (const [name, value] of options) printLine(`    ${name.padEnd(width)}  ${optionText(value)}`)
  }
  for (const line of step.body?.trimEnd().split('\n') ?? []) printLine(`    | ${line}`)
}
