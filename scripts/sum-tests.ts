/**
 * Sums up the vitest runs of scripts/test.sh: each failure by its name, then one line. A file that does not load, and a run that failed without a failed test
 * (an unhandled error, a crash), count as one failure each: nothing red may end in `0 failed`.
 *
 * Arguments: the folder with `<run>.json` and `<run>.json.status`, and how many checks other than tests failed.
 */
import {existsSync, readdirSync, readFileSync} from 'node:fs'
import {basename, join} from 'node:path'
import {z} from 'zod'

const Report = z.object({
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  numPendingTests: z.number(),
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      message: z.string(),
      assertionResults: z.array(
        z.object({fullName: z.string(), status: z.string(), failureMessages: z.array(z.string()).nullable()}),
      ),
    }),
  ),
})

const [folder = '', otherFailures = '0'] = process.argv.slice(2)
let passed = 0
let failed = Number(otherFailures)
let skipped = 0
for (const statusFile of readdirSync(folder).filter(name => name.endsWith('.status'))) {
  const counts = countRun(join(folder, statusFile.replace(/\.status$/, '')))
  const status = Number(readFileSync(join(folder, statusFile), 'utf8'))
  passed += counts.passed
  skipped += counts.skipped
  failed += status !== 0 && counts.failed === 0 ? 1 : counts.failed
  if (status !== 0 && counts.failed === 0)
    console.log(`FAILED ${statusFile}: exit code ${status} without a failed test; see its output above`)
}
if (skipped > 0) console.log(`${skipped} skipped`)
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

function countRun(file: string): {passed: number; failed: number; skipped: number} {
  if (!existsSync(file)) return {passed: 0, failed: 0, skipped: 0}
  const report = Report.parse(JSON.parse(readFileSync(file, 'utf8')))
  const unloaded = report.testResults.filter(result => result.status === 'failed' && result.assertionResults.length === 0)
  for (const result of unloaded) console.log(`FAILED ${basename(file, '.json')}: ${result.name} did not load: ${result.message}`)
  for (const result of report.testResults)
    for (const test of result.assertionResults.filter(test => test.status === 'failed'))
      console.log(
        `FAILED ${basename(file, '.json')}: ${basename(result.name)}: ${test.fullName}\n${firstLines(test.failureMessages)}`,
      )
  return {passed: report.numPassedTests, failed: report.numFailedTests + unloaded.length, skipped: report.numPendingTests}
}

function firstLines(messages: string[] | null): string {
  const lines = (messages ?? []).join('\n').split('\n').slice(0, 12)
  return lines.map(line => `  ${line}`).join('\n')
}
