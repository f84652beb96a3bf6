/** Records what a burn-in reached as a new version of the machine's facts. Whether that is enough the ramdisk has said by `tested`. */
import type {Step} from './step.ts'

export const recordResults: Step = async ({services, view}) => {
  const seen = view.evidence.find(row => row.kind === 'tested')
  if (!seen) return {record: {ok: false, code: 'RESULTS_STUCK', detail: 'no results arrived'}}
  const {job} = view
  return {
    record: {ok: true},
    commit: async (tx, now) => {
      const facts = {...seen.detail, limits: view.plan.test ?? null}
      await services.inventory.recordFacts(tx, {machineId: job.machine_id, source: 'test', jobId: job.id, facts, now})
    },
  }
}
