/** What the processes of a host take: CPU time since they began, and memory as the kernel shares it out (PSS). */
import {readFileSync} from 'node:fs'
import type {Host} from './ground.ts'

export type Usage = Readonly<
  Record<'supervisor' | 'wire' | 'control' | 'postgres', {readonly cpu_s: number; readonly pss_mb: number}>
>

/** Clock ticks a second, as /proc counts them on Linux. */
const TICKS = 100

/** Processes that ended meanwhile are missed: backends of PostgreSQL that were closed. */
export function readUsage(host: Host): Usage {
  const sums = {supervisor: zero(), wire: zero(), control: zero(), postgres: zero()}
  for (const {pid, command} of host.processes()) {
    const part = command.startsWith('ingot wire')
      ? 'wire'
      : command.startsWith('ingot control')
        ? 'control'
        : /postgres/.test(command)
          ? 'postgres'
          : / serve --state /.test(command)
            ? 'supervisor'
            : undefined
    if (!part) continue
    const [stat, rollup] = [readText(`/proc/${pid}/stat`), readText(`/proc/${pid}/smaps_rollup`)]
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    sums[part].cpu_s += (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / TICKS
    sums[part].pss_mb += (Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1] ?? 0) * 1024) / 1e6
  }
  return sums
}

export function totalOf(usage: Usage, what: 'cpu_s' | 'pss_mb'): number {
  return Object.values(usage).reduce((sum, part) => sum + part[what], 0)
}

function zero() {
  return {cpu_s: 0, pss_mb: 0}
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
