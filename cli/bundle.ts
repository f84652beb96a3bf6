/** `ingot bundle <machine|job>`: all that is known of it in one file, to be looked at elsewhere. */
import {writeFileSync} from 'node:fs'
import {Command} from 'commander'
import {ApiProblem} from './client.ts'
import {printJson, printLine} from './output.ts'
import {apiVerb} from './verb.ts'

/** A machine's id looks like a job's: what is no machine is asked for as a job. */
const ID = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/

export function bundleCommand(): Command {
  return apiVerb<[string], {output?: string}>(
    new Command('bundle')
      .description('all that is known of a machine or a job, in one file, without its secrets')
      .argument('<machine|job>', 'id or name')
      .option('--output <file>', 'where to (default: ingot-<machine|job>.tar)'),
    async ({client, json}, options, id) => {
      const about = encodeURIComponent(id)
      const tar = await client.download(`/v1/machines/${about}/bundle`).catch(error => {
        if (!(error instanceof ApiProblem) || error.problem.status !== 404 || !ID.test(id)) throw error
        return client.download(`/v1/jobs/${about}/bundle`)
      })
      const file = options.output ?? `ingot-${id.replace(/[^\w.-]/g, '_')}.tar`
      writeFileSync(file, tar, {mode: 0o600})
      if (json) return printJson({file, bytes: Buffer.byteLength(tar)})
      printLine(`Wrote ${file}. Its secrets are cut out; look through it before you give it away.`)
    },
  )
}
