/** The metrics that control shows: process figures, and how many machines are in each state. */
import {collectDefaultMetrics, Gauge, Registry} from 'prom-client'
import type {Lifecycle} from '../lifecycle/index.ts'

export function createMetrics(lifecycle: Lifecycle): () => Promise<string> {
  const registry = new Registry()
  collectDefaultMetrics({register: registry, prefix: 'ingot_control_'})
  const machines = new Gauge({name: 'ingot_machines', help: 'machines by state', labelNames: ['state'], registers: [registry]})
  const jobs = new Gauge({
    name: 'ingot_open_jobs',
    help: 'open jobs by kind and phase',
    labelNames: ['kind', 'phase'],
    registers: [registry],
  })
  return async () => {
    machines.reset()
    for (const row of await lifecycle.countStates()) machines.set({state: row.state}, Number(row.machines))
    jobs.reset()
    for (const job of await lifecycle.openJobs()) jobs.inc({kind: job.kind, phase: job.phase ?? 'planned'})
    return registry.metrics()
  }
}
