/**
 * Records what inspection or the first boot saw as a new version of the machine's facts. Inspection facts also settle identity: every
 * NIC and BMC MAC becomes an interface of this machine; a contradiction, or a disk that is not empty, quarantines it.
 */
import type {DiskFacts} from '../../inventory/index.ts'
import {absorbNewcomer} from '../absorb.ts'
import * as store from '../store.ts'
import type {Step} from './step.ts'

export const recordFacts: Step = async ({services, view}) => {
  const seen = view.evidence.find(row => row.kind === 'facts')
  if (!seen) return {record: {ok: false, code: 'NO_FACTS', detail: 'no facts arrived'}}
  const {job} = view
  const facts = seen.detail
  if (job.kind !== 'inspect') {
    return {
      record: {ok: true},
      commit: async (tx, now) => {
        await services.inventory.recordFacts(tx, {machineId: job.machine_id, source: 'first_boot', jobId: job.id, facts, now})
      },
    }
  }
  return {
    record: {ok: true},
    commit: async (tx, now) => {
      const read = services.inventory.readFacts(facts)
      const mismatches = await services.inventory.applyFacts(tx, job.machine_id, read, owner =>
        absorbNewcomer(services, tx, {owner, into: job, now}),
      )
      const version = await services.inventory.recordFacts(tx, {
        machineId: job.machine_id,
        source: 'inspection',
        jobId: job.id,
        facts,
        now,
      })
      const quarantine = quarantineFor(mismatches, read.disks)
      await store.updateState(tx, job.machine_id, {quarantined: quarantine})
      await services.evidence.changed(tx, {
        at: now,
        actor: 'lifecycle',
        kind: quarantine ? 'quarantined' : 'facts_recorded',
        machineId: job.machine_id,
        jobId: job.id,
        detail: quarantine ? {reason: quarantine, version} : {version},
      })
    },
  }
}

function quarantineFor(mismatches: readonly string[], disks: readonly DiskFacts[] | undefined): string | null {
  if (mismatches.length > 0) return `facts_mismatch: ${mismatches.join('; ')}`
  if (!disks) return 'disk_not_empty: the ramdisk told nothing of its disks'
  const used = disks.filter(disk => !disk.blank)
  return used.length > 0 ? `disk_not_empty: ${used.map(disk => `${disk.name} holds ${disk.holds}`).join(', ')}` : null
}
