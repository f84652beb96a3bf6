/** Memory of Ingot's processes as the kernel shares it out: PSS, where a page that n processes share counts one n-th in each. */
import {readFileSync} from 'node:fs'
import type {LabIngot} from '../../lab/ingot.ts'

export type Memory = {
  readonly supervisor_mb: number
  readonly wire_mb: number
  readonly control_mb: number
  readonly postgres_mb: number
}

export async function readMemory(ingot: LabIngot): Promise<Memory> {
  const {supervisor, wire, control, postgres} = await ingot.pids()
  if (!wire || !control || postgres.length === 0) throw new Error('a process of Ingot is missing')
  return {
    supervisor_mb: pssMb([supervisor]),
    wire_mb: pssMb([wire]),
    control_mb: pssMb([control]),
    postgres_mb: pssMb(postgres),
  }
}

function pssMb(pids: readonly number[]): number {
  return pids.map(pssBytes).reduce((sum, bytes) => sum + bytes, 0) / 1e6
}

function pssBytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? Number.NaN) * 1024
}
