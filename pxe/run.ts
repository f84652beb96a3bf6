/** Runs programs of the host for the builders: output collected, and a failure that says what the program said. */
import {spawn} from 'node:child_process'

export type RunOptions = {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  readonly input?: Uint8Array
  /** Called with each line of output as it comes. */
  readonly onLine?: (line: string) => void
}

/** Standard output as bytes. Rejects when the program is missing or ends with anything but 0. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: {...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC', ...options.env},
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    const output: Buffer[] = []
    const complaints: string[] = []
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk))
    child.stderr.setEncoding('utf8')
    let partial = ''
    child.stderr.on('data', (text: string) => {
      const lines = (partial + text).split('\n')
      partial = lines.pop() ?? ''
      for (const line of lines) {
        complaints.push(line)
        if (complaints.length > 40) complaints.shift()
        options.onLine?.(line)
      }
    })
    child.stdin.on('error', () => child.stdin.destroy()) // it ended without reading: its exit status says why
    child.stdin.end(options.input)
    child.on('error', cause => reject(new Error(`cannot run ${program}: ${cause.message}`, {cause})))
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(Buffer.concat(output))
      if (partial) complaints.push(partial)
      reject(new Error(`${program} ended with ${signal ?? code}:\n${complaints.slice(-15).join('\n')}`))
    })
  })
}

/** Standard output as trimmed text. */
export async function runText(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return (await run(program, args, options)).toString('utf8').trim()
}
