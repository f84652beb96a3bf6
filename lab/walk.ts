/** Walks a machine with the API as an operator would: waits for states and jobs, and keeps what proved each phase. */
import type {Client} from '../cli/client.ts'
import type {Event, Job, Machine, Page} from '../cli/shapes.ts'
import {sleep} from '../lib/clock.ts'

export type PhaseShown = {readonly phase: string; readonly at_ms: number; readonly evidence: Record<string, unknown>}

const LOOK_MS = 300

/** Waits until `look` finds something. @throws with `what` after the limit, or as soon as `look` throws */
export async function waitFor<T>(what: string, limitMs: number, look: () => Promise<T | undefined>): Promise<T> {
  const end = performance.now() + limitMs
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > end) throw new Error(`${what}: not seen within ${Math.round(limitMs / 1000)} s`)
    await sleep(LOOK_MS)
  }
}

export function machineByMac(client: Client, mac: string): Promise<Machine | undefined> {
  return client.get<Page<Machine>>('/v1/machines', {mac}).then(page => page.items[0])
}

/** Waits for a machine's state; a failed machine ends the wait with its job's cause. */
export function reachState(client: Client, mac: string, states: readonly string[], limitMs: number): Promise<Machine> {
  return waitFor(`machine ${mac} to be ${states.join(' or ')}`, limitMs, async () => {
    const machine = await machineByMac(client, mac)
    if (machine?.state === 'failed' && !states.includes('failed')) throw new Error(await whyFailed(client, machine))
    return machine && states.includes(machine.state) && !(await hasOpenJob(client, machine)) ? machine : undefined
  })
}

export async function settled(client: Client, jobId: string, limitMs: number): Promise<Job> {
  return waitFor(`job ${jobId} to end`, limitMs, async () => {
    const job = await client.get<Job>(`/v1/jobs/${jobId}`)
    return job.finished_at ? job : undefined
  })
}

/** The phases that a job proved in all its attempts, in order, since `startMs` (epoch). */
export function phasesOf(job: Job, startMs: number): PhaseShown[] {
  return (job.attempts ?? [])
    .flatMap(attempt => attempt.phases)
    .map(row => ({phase: row.phase, at_ms: Date.parse(row.at) - startMs, evidence: row.evidence}))
    .sort((a, b) => a.at_ms - b.at_ms)
}

/** Hands every event to `show`, in order, until `signal` aborts. A server that is away for a moment is asked again. */
export async function followEvents(client: Client, show: (event: Event) => void, signal: AbortSignal): Promise<void> {
  let after = '0'
  while (!signal.aborted) {
    try {
      const page = await client.get<Page<Event>>('/v1/events', {after, wait_s: 2, limit: 200})
      for (const event of page.items) show(event)
      after = page.next ?? after
    } catch (error) {
      if (signal.aborted) return
      await sleep(500, signal)
      if (!(error instanceof Error)) throw error
    }
  }
}

async function hasOpenJob(client: Client, machine: Machine): Promise<boolean> {
  const page = await client.get<Page<Job>>('/v1/jobs', {machine: machine.id, open: true, limit: 1})
  return page.items.length > 0
}

async function whyFailed(client: Client, machine: Machine): Promise<string> {
  const page = await client.get<Page<Job>>('/v1/jobs', {machine: machine.id, limit: 1})
  const cause = page.items[0]?.cause
  return `machine ${machine.name} failed: ${cause ? `${cause.code}: ${cause.detail}` : 'no cause is recorded'}`
}
