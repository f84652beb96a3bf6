/**
 * What a group does next: start so many, wait, or end. Pure.
 *
 * First the canaries, as many as were asked for, and nobody else until each has ended. Then never more than a batch at once. It stops
 * when failures exceed the share that is borne: of those that ended, but never of fewer than one wave, so that one failure of a batch of
 * ten is a tenth.
 */
export type GroupSeen = {
  readonly canary: number
  readonly batch: number
  readonly stopShare: number
  readonly cancelRequested: boolean
  readonly stopping: boolean
  readonly pending: number
  readonly started: number
  readonly succeeded: number
  readonly failed: number
}

export type GroupMove =
  | {readonly do: 'start'; readonly count: number}
  | {readonly do: 'wait'}
  /** nobody else is started; what runs goes on */
  | {readonly do: 'stop'; readonly reason: string}
  | {readonly do: 'finish'; readonly state: 'succeeded' | 'stopped' | 'cancelled'}

export function nextStart(group: GroupSeen): GroupMove {
  const {canary, batch, pending, started, succeeded, failed} = group
  const ended = succeeded + failed
  if (pending === 0 && started === 0) {
    return {do: 'finish', state: group.cancelRequested ? 'cancelled' : group.stopping ? 'stopped' : 'succeeded'}
  }
  if (pending > 0 && group.cancelRequested) return {do: 'stop', reason: 'it was cancelled'}
  const inCanary = ended + started < canary || (ended < canary && started > 0)
  // What the canaries came to is judged among themselves, when the last of them has ended too.
  const wave = ended <= canary ? Math.max(1, canary) : batch
  const share = failed / Math.max(ended, wave)
  if (pending > 0 && failed > 0 && share > group.stopShare) {
    return {do: 'stop', reason: `${failed} of ${ended} failed, more than the share of ${group.stopShare} that is borne`}
  }
  if (pending === 0) return {do: 'wait'}
  const room = inCanary ? canary - ended - started : batch - started
  return room > 0 ? {do: 'start', count: Math.min(room, pending)} : {do: 'wait'}
}
