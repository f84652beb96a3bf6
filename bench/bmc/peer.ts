/** The peer's side: freeipmi's `ipmipower`, a process of its own each time, as people run it. */
import {spawn} from 'node:child_process'
import {readFileSync} from 'node:fs'
import {pinned} from './pin.ts'

export type Measured = {readonly took_s: number; readonly cpu_s: number; readonly seen: number; readonly memory_mb: number}

/** Its own default, 20 s, is too short for a thousand at once on a busy host. */
const PATIENCE_MS = 60_000
/** Most of what it ever had is read while it runs, this often. */
const LOOK_MS = 10

/** @param config a freeipmi.conf with user and password, so that neither is an argument */
export async function runIpmipower(
  verb: 'status' | 'on',
  suite: number,
  ports: readonly number[],
  config: string,
): Promise<Measured> {
  const hosts = ports.map(port => `127.0.0.1:${port}`).join(',')
  const order = verb === 'status' ? ['--stat'] : ['--on', '--wait-until-on']
  const argv = pinned([
    'ipmipower',
    '--config-file',
    config,
    '-D',
    'LAN_2_0',
    '--session-timeout',
    String(PATIENCE_MS),
    '-I',
    String(suite),
    '-h',
    hosts,
    ...order,
  ])
  const startedMs = performance.now()
  const child = spawn(argv[0] ?? '', argv.slice(1), {stdio: ['ignore', 'pipe', 'pipe']})
  const said: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => said.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => said.push(chunk))
  let memory_mb = 0
  let cpu_s = 0
  const look = setInterval(() => {
    memory_mb = Math.max(memory_mb, readPeakMb(child.pid ?? 0))
    cpu_s = Math.max(cpu_s, readCpuS(child.pid ?? 0))
  }, LOOK_MS)
  await new Promise<void>((resolve, reject) => child.once('error', reject).once('close', () => resolve()))
  clearInterval(look)
  const took_s = (performance.now() - startedMs) / 1000
  const lines = Buffer.concat(said).toString().split('\n')
  const seen = lines.filter(line => (verb === 'status' ? /: (on|off)$/ : /: (on|ok)$/).test(line)).length
  if (!lines.some(line => line.startsWith('127.0.0.1: '))) throw new Error(`ipmipower answered: ${lines.slice(0, 5).join(' ')}`)
  return {took_s, cpu_s, seen, memory_mb}
}

function readPeakMb(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readOrNothing(`/proc/${pid}/status`))?.[1] ?? 0) / 1000
}

/** Fields 14 and 15 of proc(5) stat, in ticks of 10 ms. */
function readCpuS(pid: number): number {
  const fields = readOrNothing(`/proc/${pid}/stat`)
    .replace(/^.*\) /, '')
    .split(' ')
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / 100
}

/** A process that has just ended has no files any more. */
function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return ''
    throw error
  }
}
