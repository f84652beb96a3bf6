/** Runs one command to its end and keeps what it said. */
import {spawn} from 'node:child_process'

export type CommandOptions = {
  readonly input?: string
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly timeout_ms?: number
  /** Resolve whatever the exit code; the default is to reject on all but 0. */
  readonly anyExit?: boolean
}

export type CommandResult = {readonly code: number | null; readonly stdout: string; readonly stderr: string}

/** @throws when it cannot start, runs into `timeout_ms` (default 60 s), or exits with other than 0 (see `anyExit`) */
export function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [command, ...args] = argv
  if (command === undefined) throw new Error('an empty command')
  const timeoutMs = options.timeout_ms ?? 60_000
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: 'pipe',
      env: {...process.env, ...options.env},
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      ...(options.cwd === undefined ? {} : {cwd: options.cwd}),
    })
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []]
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    // A command may end without reading its input (EPIPE): its exit code says what matters.
    child.stdin.on('error', () => undefined)
    child.stdin.end(options.input ?? '')
    child.on('error', reject)
    child.on('close', (code, signal) => {
      const result = {code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString()}
      if (code === 0 || (options.anyExit && code !== null)) return resolve(result)
      const how = signal === null ? `exit ${code}` : `${signal} (limit ${timeoutMs} ms)`
      reject(new Error(`${argv.join(' ')}: ${how}: ${(result.stderr || result.stdout).trim()}`))
    })
  })
}

/** Quotes a word for `sh`. */
export function shellQuote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
