/** Child processes of a test: started with what they say, waited for by what they do, never left behind. */
import {type ChildProcess, spawn} from 'node:child_process'
import {existsSync, readFileSync} from 'node:fs'
import {sleep} from '../../lib/clock.ts'

export type Started = {
  readonly child: ChildProcess
  readonly pid: number
  /** Everything it wrote so far, both streams. */
  output(): string
  /** The first line of standard output that parses as JSON and is accepted; rejects when the process ends before. */
  json<T>(accept?: (value: T) => boolean): Promise<T>
  /** Resolves with how it ended. */
  readonly exited: Promise<{code: number | null; signal: NodeJS.Signals | null}>
  /** SIGKILL, and waits. */
  kill(): Promise<void>
}

/** Starts a TypeScript file under the Node that runs this. `through` is put before it: `['ip', 'netns', 'exec', …]`. */
export function startScript(
  file: string,
  parameters: string[],
  options: {env?: Record<string, string>; through?: string[]} = {},
): Started {
  const [program = '', ...words] = [...(options.through ?? []), process.execPath, file, ...parameters]
  return follow(spawn(program, words, {env: {...process.env, ...options.env}, stdio: ['ignore', 'pipe', 'pipe']}))
}

/** Waits until `look` gives something; fails after a generous while, naming what was awaited. */
export async function eventually<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = performance.now() + 60_000
  for (;;) {
    const seen = await look()
    if (seen !== undefined && seen !== false) return seen
    if (performance.now() > deadline) throw new Error(`never seen: ${what}`)
    await sleep(20)
  }
}

/** Whether a process exists and is not merely waiting to be reaped. */
export function isRunning(pid: number): boolean {
  if (!existsSync(`/proc/${pid}/stat`)) return false
  try {
    return !/^ [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\)/s, ''))
  } catch {
    return false
  }
}

function follow(child: ChildProcess): Started {
  let text = ''
  let out = ''
  child.stdout?.on('data', chunk => {
    out += chunk
    text += chunk
  })
  child.stderr?.on('data', chunk => {
    text += chunk
  })
  const exited = new Promise<{code: number | null; signal: NodeJS.Signals | null}>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({code, signal}))
  })
  let ended = false
  void exited.finally(() => {
    ended = true
  })
  return {
    child,
    pid: child.pid ?? 0,
    output: () => text,
    exited,
    json: <T>(accept?: (value: T) => boolean) =>
      eventually<T>('a line of JSON', () => {
        for (const line of out.split('\n')) {
          const value = parse(line) as T | undefined
          if (value !== undefined && (accept?.(value) ?? true)) return value
        }
        if (ended) throw new Error(`the process ended first:\n${text}`)
        return undefined
      }),
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
  }
}

function parse(line: string): unknown {
  if (!line.startsWith('{')) return undefined
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}
