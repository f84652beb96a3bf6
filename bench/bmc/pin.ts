/** Clients on one processor, the rack on another: nobody is measured together with what it talks to. */
import {cpus} from 'node:os'

const APART = cpus().length > 1

export function pinned(argv: readonly string[]): string[] {
  return APART ? ['taskset', '-c', '0', ...argv] : [...argv]
}

export function pinnedRack(argv: readonly string[]): string[] {
  return APART ? ['taskset', '-c', '1', ...argv] : [...argv]
}
