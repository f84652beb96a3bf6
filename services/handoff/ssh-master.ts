/**
 * One authenticated SSH connection that a tool's own ssh calls share (ssh_config(5), ControlMaster).
 *
 * It is opened before the tool starts, so a wrong host key or a refused key is known before anything ran; and it stays a child of ours,
 * unlike ControlPersist's background process, which would leave the group and outlive a kill. Its remote command reads a pipe that
 * we hold: when the pipe closes, even because Ingot was killed, the connection ends.
 */
import {join} from 'node:path'
import {type ProgramEnd, startProgram} from './processes.ts'

const READY = 'ingot-ssh-is-up'
/** sockaddr_un.sun_path holds 108 bytes, and ssh first binds the name with a dot and 16 characters after it. */
const LONGEST_CONTROL_PATH = 107 - 17

export type SshFiles = {
  readonly runDir: string
  readonly knownHostsPath: string
  readonly privateKeyPath: string
}

/** The one configuration that every ssh of a run reads; nothing of the account's or the system's takes part. */
export function renderSshConfig(files: SshFiles): string {
  const control = join(files.runDir, 'm')
  return [
    'Host *',
    '  BatchMode yes',
    `  IdentityFile "${files.privateKeyPath}"`,
    '  IdentitiesOnly yes',
    '  IdentityAgent none',
    '  PreferredAuthentications publickey',
    '  GSSAPIAuthentication no',
    '  ForwardAgent no',
    '  StrictHostKeyChecking yes',
    `  UserKnownHostsFile "${files.knownHostsPath}"`,
    '  GlobalKnownHostsFile /dev/null',
    '  UpdateHostKeys no',
    '  VerifyHostKeyDNS no',
    '  CheckHostIP no',
    '  ConnectTimeout 30',
    '  ServerAliveInterval 10',
    '  ServerAliveCountMax 3',
    '  LogLevel INFO',
    '  ControlMaster no',
    // Too long a path would make every ssh fail; without one each opens its own connection.
    `  ControlPath ${control.length <= LONGEST_CONTROL_PATH ? `"${control}"` : 'none'}`,
    '',
  ].join('\n')
}

export type SshTarget = {
  readonly configPath: string
  readonly address: string
  readonly port: number
  readonly user: string
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

export type SshConnection = {close(): Promise<void>}
export type SshRefusal = {readonly refused: 'host_key' | 'auth' | 'connection'; readonly said: string}

export async function openSsh(target: SshTarget): Promise<SshConnection | SshRefusal> {
  let said = ''
  const up = Promise.withResolvers<'up'>()
  const program = startProgram({
    command: 'ssh',
    args: [
      ...['-F', target.configPath, '-T', '-o', 'ControlMaster=yes', '-p', String(target.port), '-l', target.user],
      ...['--', target.address, `echo ${READY} && exec cat >/dev/null`],
    ],
    env: target.env,
    cwd: target.cwd,
    signal: target.signal,
    input: 'held',
    onOutput(chunk, from) {
      said = (said + chunk.toString('utf8')).slice(-8192)
      if (from === 'stdout' && said.includes(READY)) up.resolve('up')
    },
  })
  const first = await Promise.race([up.promise, program.ended])
  if (first !== 'up') return {refused: classifySshFailure(said), said: describe(said, first)}
  return {
    async close() {
      program.release()
      const timer = setTimeout(() => program.kill(), 3000)
      await program.ended
      clearTimeout(timer)
    },
  }
}

/** ssh ends with 255 whatever went wrong, so its words have to tell (OpenSSH's sshconnect.c and sshconnect2.c; they are not translated). */
export function classifySshFailure(said: string): SshRefusal['refused'] {
  if (/Host key verification failed/.test(said)) return 'host_key'
  if (/Permission denied \(|Too many authentication failures/.test(said)) return 'auth'
  return 'connection'
}

function describe(said: string, end: ProgramEnd): string {
  return said.trim() || end.fault?.message || `ssh ended with ${end.code ?? end.signal}`
}
