/**
 * Runs an Ansible playbook against the new machine, over SSH, trusting only the host keys that its first boot reported.
 *
 * tools → playbook → host keys → files → sshd speaks → connection → play → judge
 */
import {readFile} from 'node:fs/promises'
import {sleep} from '../../../lib/clock.ts'
import {type HandoffCauseCode, handoffCause} from '../causes.ts'
import {missingPrograms} from '../environment.ts'
import {renderKnownHosts} from '../known-hosts.ts'
import {oneLine} from '../output.ts'
import {startProgram} from '../processes.ts'
import {secretTexts} from '../redact.ts'
import {waitForSsh} from '../ssh-banner.ts'
import {openSsh, type SshConnection} from '../ssh-master.ts'
import {type AnsibleConfig, ansibleSchema} from './ansible/config.ts'
import {type AnsibleFiles, placePlaybook, userOf, writeAnsibleFiles} from './ansible/files.ts'
import {judgeReport, readReport, summarize} from './ansible/report.ts'
import type {HandoffKind, KindOutcome, RunContext} from './kind.ts'

const SSH_PORT = 22

export const ansibleKind: HandoffKind<AnsibleConfig> = {
  kind: 'ansible',
  about: 'ansible-playbook over SSH, with the machine as its dynamic inventory.',
  schema: ansibleSchema,
  example: {kind: 'ansible', playbook: 'site.yml', extra_vars: {role: 'web'}, timeout_s: 1800, wait_for_ssh_s: 300},
  timeoutMs: config => config.timeout_s * 1000,
  publicKeys: (_config, keyPair) => [keyPair().publicKey],
  secrets: (config, machine) => [...secretTexts(config.extra_vars ?? {}, true), ...secretTexts(machine.parameters, false)],
  run,
}

async function run(config: AnsibleConfig, context: RunContext): Promise<KindOutcome> {
  const {machine} = context
  const missing = missingPrograms(['ansible-playbook', 'ssh'], context.searchPath)
  if (missing.length > 0) return fail('HANDOFF_TOOL_MISSING', `${missing.join(' and ')} not found in ${context.searchPath}`)
  const playbook = await placePlaybook(config, context)
  if ('missing' in playbook) return fail('HANDOFF_PLAYBOOK', playbook.missing)
  const knownHosts = renderKnownHosts(machine.address, machine.port ?? SSH_PORT, machine.sshHostKeys)
  if (knownHosts.fingerprints.length === 0)
    return fail('HANDOFF_HOST_KEY', `the first boot of ${machine.name} reported no usable host key`)
  const files = await writeAnsibleFiles(config, context, knownHosts.text)
  const connection = await connect(config, context, files, knownHosts.fingerprints)
  if ('outcome' in connection) return connection
  try {
    return await play(context, files, playbook.path)
  } finally {
    await connection.close()
  }
}

/** Waits for sshd, then opens the connection that all tasks share; a server that drops it (still booting) is asked again. */
async function connect(
  config: AnsibleConfig,
  context: RunContext,
  files: AnsibleFiles,
  fingerprints: readonly string[],
): Promise<SshConnection | KindOutcome> {
  const {clock, machine, signal} = context
  const where = {address: machine.address, port: machine.port ?? SSH_PORT}
  const named = `${machine.name} (${where.address} port ${where.port})`
  const waited_s = Math.min(config.wait_for_ssh_s, config.timeout_s)
  const deadlineMs = clock.monotonicMs() + waited_s * 1000
  for (let pause_ms = 100; ; pause_ms = Math.min(2 * pause_ms, 2000)) {
    const banner = await waitForSsh({...where, deadlineMs, clock, signal})
    // Also when the whole run's time is over: what failed is that nobody answered.
    if (!banner.answers) return fail('HANDOFF_UNREACHABLE', `${named} did not answer on SSH in ${waited_s} s: ${banner.because}`)
    const user = userOf(config, context)
    const opened = await openSsh({...where, user, configPath: files.sshConfigPath, cwd: context.runDir, env: files.env, signal})
    if ('close' in opened) return opened
    if (signal.aborted) return {outcome: 'aborted', at: `connecting to ${named}`, summary: {}}
    context.output(`ssh: ${opened.said}\n`)
    if (opened.refused === 'host_key') {
      return fail('HANDOFF_HOST_KEY', `${named} shows another host key than its first boot reported (${fingerprints.join(', ')})`)
    }
    if (opened.refused === 'auth') return fail('HANDOFF_AUTH', `${named} refuses user ${user}: ${oneLine(opened.said, 200)}`)
    if (clock.monotonicMs() >= deadlineMs)
      return fail('HANDOFF_UNREACHABLE', `${named} drops SSH connections: ${oneLine(opened.said, 200)}`)
    await sleep(pause_ms, signal)
  }
}

async function play(context: RunContext, files: AnsibleFiles, playbookPath: string): Promise<KindOutcome> {
  let said = ''
  const program = startProgram({
    command: 'ansible-playbook',
    args: [
      '--inventory',
      files.inventoryPath,
      '--limit',
      context.machine.name,
      '--extra-vars',
      `@${files.extraVariablesPath}`,
      playbookPath,
    ],
    env: files.env,
    cwd: context.runDir,
    signal: context.signal,
    onOutput(chunk, from) {
      context.output(chunk)
      if (from === 'stderr') said = (said + chunk.toString('utf8')).slice(-8192)
    },
  })
  const end = await program.ended
  const report = readReport(await readFile(files.eventsPath, 'utf8'))
  if (context.signal.aborted) {
    const at = report.task === undefined ? 'before the first task' : `in task "${oneLine(report.task, 120)}"`
    return {outcome: 'aborted', at, summary: summarize(report)}
  }
  if (end.fault) return fail('HANDOFF_TOOL_MISSING', `ansible-playbook cannot be started: ${end.fault.message}`)
  return judgeReport(report, context.machine.name, end.code ?? end.signal, said)
}

function fail(code: HandoffCauseCode, detail: string): KindOutcome {
  return {outcome: 'failed', cause: handoffCause(code, detail), summary: {}}
}
