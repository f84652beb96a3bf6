/** `npm run bench -- NAME [--json] …`: runs one benchmark and prints what it found. */

import {bmc} from './bmc.ts'
import {dhcp} from './dhcp.ts'
import {ipam} from './ipam.ts'
import {provision} from './provision.ts'
import {type Benchmark, reportJson, reportText} from './report.ts'
import {scale} from './scale.ts'

/** Every benchmark. One file in this folder adds one; list it here. */
const BENCHMARKS: readonly Benchmark[] = [dhcp, bmc, ipam, provision, scale]

const [name = '', ...args] = process.argv.slice(2)
const benchmark = BENCHMARKS.find(known => known.name === name)

if (!benchmark) sayWhatThereIs()
else if (args.includes('--help')) process.stdout.write(`${benchmark.usage}\n`)
else await runOne(benchmark)
process.exit()

async function runOne(chosen: Benchmark): Promise<void> {
  try {
    const report = await chosen.run(args.filter(arg => arg !== '--json'))
    process.stdout.write(`\n${reportText(report)}`)
    if (args.includes('--json')) process.stdout.write(`${reportJson(report)}\n`)
  } catch (error) {
    process.stderr.write(`\nThe benchmark failed: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  }
}

function sayWhatThereIs(): void {
  const asked = name !== '' && name !== '--help'
  const lines = BENCHMARKS.map(known => `  ${known.name.padEnd(12)} ${known.about}`)
  const text = `npm run bench -- NAME [--json] [--help]\n${lines.join('\n')}\n`
  process.stderr.write(asked ? `there is no benchmark '${name}'\n${text}` : text)
  if (asked) process.exitCode = 1
}
