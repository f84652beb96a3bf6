/** `npm run fuzz -- NAME …`: fuzzes one thing and says what it found. Exits with 1 when it found something. */
import {dhcp} from './dhcp.ts'
import {type FuzzTarget, reportText} from './report.ts'

/** Everything that is fuzzed. One file in this folder adds one; list it here. */
const TARGETS: readonly FuzzTarget[] = [dhcp]

const [name = '', ...args] = process.argv.slice(2)
const target = TARGETS.find(known => known.name === name)

if (!target) sayWhatThereIs()
else if (args.includes('--help')) process.stdout.write(`${target.usage}\n`)
else await runOne(target)
process.exit()

async function runOne(chosen: FuzzTarget): Promise<void> {
  try {
    const report = await chosen.run(
      args.filter(arg => arg !== '--json'),
      line => process.stderr.write(`${line}\n`),
    )
    process.stdout.write(`\n${reportText(report)}`)
    if (args.includes('--json')) process.stdout.write(`${JSON.stringify(report)}\n`)
    if (report.failures.length > 0) process.exitCode = 1
  } catch (error) {
    process.stderr.write(`\nThe fuzzer failed: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  }
}

function sayWhatThereIs(): void {
  const asked = name !== '' && name !== '--help'
  const lines = TARGETS.map(known => `  ${known.name.padEnd(12)} ${known.about}`)
  const text = `npm run fuzz -- NAME [--json] [--help]\n${lines.join('\n')}\n`
  process.stderr.write(asked ? `there is nothing to fuzz called '${name}'\n${text}` : text)
  if (asked) process.exitCode = 1
}
