/** What a tree of processes has used and holds, out of /proc. */
import {readdirSync, readFileSync} from 'node:fs'

export type Usage = {readonly cpu_s: number; readonly memory_mb: number}

/** @param isCounted by command line; the default counts all */
export function usageOf(root: number, isCounted: (command: string) => boolean = () => true): Usage {
  const children = Map.groupBy(processes(), process => process.parent)
  const tree = [root]
  for (const pid of tree) tree.push(...(children.get(pid) ?? []).map(child => child.pid))
  const counted = tree.filter(pid => isCounted(read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')))
  return {
    cpu_s: counted.reduce((sum, pid) => sum + cpuOf(pid), 0),
    memory_mb: counted.reduce((sum, pid) => sum + memoryOf(pid), 0),
  }
}

function processes(): {pid: number; parent: number}[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => {
      const stat = read(`/proc/${name}/stat`)
      // The command's name may hold anything, spaces and brackets too: what follows counts from the last bracket.
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
      return stat === '' ? [] : [{pid: Number(name), parent}]
    })
}

/** schedstat counts nanoseconds where /proc/PID/stat counts hundredths of a second. */
function cpuOf(pid: number): number {
  let tasks: string[]
  try {
    tasks = readdirSync(`/proc/${pid}/task`)
  } catch {
    return 0
  }
  return tasks.reduce((sum, task) => sum + Number(read(`/proc/${pid}/task/${task}/schedstat`).split(' ')[0] ?? 0), 0) / 1e9
}

/** PSS: a page that n processes share counts one n-th in each. */
function memoryOf(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) / 1024
}

/** A process may end while it is looked at. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
