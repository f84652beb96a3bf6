/** The metrics that control shows: process figures, how many machines are in each state, and what every wire process counted. */
import {Counter, collectDefaultMetrics, Gauge, Registry} from 'prom-client'
import type {Evidence, SourcedCount} from '../evidence/index.ts'
import type {Lifecycle} from '../lifecycle/index.ts'
import {WIRE_METRICS} from './wire-metrics.ts'

/** A wire process publishes every 5 s; one that was silent for so long does not run. */
const SILENT_MS = 60_000

export function createMetrics(lifecycle: Lifecycle, evidence: Pick<Evidence, 'counters'>): () => Promise<string> {
  const registry = new Registry()
  collectDefaultMetrics({register: registry, prefix: 'ingot_control_'})
  const machines = new Gauge({name: 'ingot_machines', help: 'machines by state', labelNames: ['state'], registers: [registry]})
  const jobs = new Gauge({
    name: 'ingot_open_jobs',
    help: 'open jobs by kind and phase',
    labelNames: ['kind', 'phase'],
    registers: [registry],
  })
  const wire = new Map(
    Object.entries(WIRE_METRICS).map(([name, {label, help}]) => [
      name,
      new Counter({
        name: `ingot_${name}_total`,
        help,
        labelNames: ['source', ...(label === null ? [] : [label])],
        registers: [registry],
      }),
    ]),
  )
  function showWire(counts: readonly SourcedCount[]): void {
    for (const counter of wire.values()) counter.reset()
    for (const {source, name, label, value} of counts) {
      const key = WIRE_METRICS[name]?.label
      wire.get(name)?.inc({source, ...(key ? {[key]: label} : {})}, value)
    }
  }
  return async () => {
    showWire(await evidence.counters(new Date((await lifecycle.now()).getTime() - SILENT_MS)))
    machines.reset()
    for (const row of await lifecycle.countStates()) machines.set({state: row.state}, Number(row.machines))
    jobs.reset()
    for (const job of await lifecycle.openJobs()) jobs.inc({kind: job.kind, phase: job.phase ?? 'planned'})
    return registry.metrics()
  }
}
