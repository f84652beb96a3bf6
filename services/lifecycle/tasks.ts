/** The queue's tasks: their names, and which serial queue and key each uses, so that the same wake-up is never queued twice. */
import type {Task} from '../evidence/index.ts'

export const ADVANCE = 'advance'
export const INTAKE = 'intake'

/** Looks at a job and takes its next move. One at a time a job. */
export function advanceTask(jobId: string): Task {
  return {name: ADVANCE, payload: {job_id: jobId}, queue: `job:${jobId}`, key: `advance:${jobId}`}
}

/** Looks at what an unknown machine sent inside an enrolment window. One at a time a MAC, in the order it came. */
export function intakeTask(mac: string): (evidenceId: number) => Task {
  return evidenceId => ({name: INTAKE, payload: {evidence_id: evidenceId}, queue: `mac:${mac}`, key: `intake:${evidenceId}`})
}
