/** How busy the host's processors were: on a shared machine a slow run may be somebody else's doing, and should show it. */
import {readFileSync} from 'node:fs'
import type {MachineUsage} from '../../lab/machine.ts'

export type CpuUse = {
  /** by the machine, which is a process here */
  readonly machine_s: number
  /** by all else on the host: the servers, this benchmark, and whatever is none of its business */
  readonly rest_s: number
}

/** @param busyBefore_s `hostBusyS` of before the machine was switched on */
export function cpuUse(busyBefore_s: number, usage: MachineUsage | null): CpuUse {
  if (!usage) throw new Error('the machine is off: what it used is not known any more')
  return {machine_s: usage.cpu_s, rest_s: hostBusyS() - busyBefore_s - usage.cpu_s}
}

/** Seconds of all processors since boot, by /proc/stat: user, nice, system, irq, softirq and steal count as busy; idle and iowait do not. */
export function hostBusyS(stat: string = readFileSync('/proc/stat', 'utf8')): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] =
    stat.split('\n')[0]?.split(/\s+/).slice(1).map(Number) ?? []
  // In USER_HZ, which is 100 on every x86 Linux.
  return (user + nice + system + irq + softirq + steal) / 100
}
