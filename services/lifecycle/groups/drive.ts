/**
 * Drives open groups: settle what has ended, ask `nextStart`, do that. A member and its job are written in one transaction, under the
 * group's lock, so that whoever dies leaves either both or neither, and two workers never start the same one.
 */
import {isAway} from '../../../lib/db.ts'
import {IngotError, messageOf} from '../../../lib/errors.ts'
import type {Lifecycle} from '../index.ts'
import type {LifecycleServices} from '../services.ts'
import {selectNow} from '../store.ts'
import {GROUP_ACTIONS, type GroupActionName} from './actions.ts'
import {nextStart} from './next-start.ts'
import * as store from './store.ts'

export async function driveGroups(services: LifecycleServices, lifecycle: Lifecycle, mayGoOn: () => boolean): Promise<void> {
  for (const id of await store.selectOpenGroupIds(services.db)) {
    while (mayGoOn() && (await driveOnce(services, lifecycle, id)) === 'again');
  }
}

/** One move, as one transaction. */
async function driveOnce(services: LifecycleServices, lifecycle: Lifecycle, id: string): Promise<'again' | 'rest'> {
  let starting: store.MemberRow | undefined
  try {
    return await services.db.transaction().execute(async tx => {
      const group = await store.lockGroup(tx, id)
      if (!group || group.finished_at) return 'rest'
      await store.settleMembers(tx, id)
      const {canary, batch, stop_share: stopShare, cancel_requested: cancelRequested} = group
      const counts = await store.countMembers(tx, id)
      const move = nextStart({canary, batch, stopShare, cancelRequested, stopping: group.state === 'stopping', ...counts})
      const now = await selectNow(tx)
      if (move.do === 'wait') return 'rest'
      if (move.do === 'stop') {
        await store.skipPending(tx, id, move.reason)
        await store.updateGroup(tx, id, {state: 'stopping', reason: move.reason})
        await services.evidence.changed(tx, {
          ...{at: now, actor: 'lifecycle', kind: 'group_stopping', subject: id},
          detail: {reason: move.reason, ...counts},
        })
        return 'again'
      }
      if (move.do === 'finish') {
        await store.updateGroup(tx, id, {state: move.state, finished_at: now})
        await services.evidence.changed(tx, {
          ...{at: now, actor: 'lifecycle', kind: `group_${move.state}`, subject: id},
          detail: {...counts, ...(group.reason ? {reason: group.reason} : {})},
        })
        return 'rest'
      }
      starting = await store.selectNextPending(tx, id)
      if (!starting) return 'rest'
      const {open} = GROUP_ACTIONS[group.action as GroupActionName]
      const job = await open(lifecycle, tx, starting.machine_id, group.params, group.requested_by)
      await store.updateMember(tx, id, starting.ordinal, {state: 'started', job_id: job.id, started_at: now})
      return 'again'
    })
  } catch (error) {
    if (isAway(error) || !starting) throw error
    await failMember(services, starting, error)
    return 'again'
  }
}

/** What could not be started has failed: it was possible when the group was planned. */
async function failMember(services: LifecycleServices, member: store.MemberRow, error: unknown): Promise<void> {
  if (!(error instanceof IngotError)) services.log.error({group: member.group_id, err: error}, 'a member could not be started')
  const why = error instanceof IngotError ? `${error.code}: ${error.detail}` : messageOf(error)
  await services.db.transaction().execute(async tx => {
    await store.lockGroup(tx, member.group_id)
    const now = await selectNow(tx)
    const row = (await store.selectMembers(tx, member.group_id)).find(one => one.ordinal === member.ordinal)
    if (row?.state === 'pending')
      await store.updateMember(tx, member.group_id, member.ordinal, {state: 'failed', why: why.slice(0, 500), started_at: now})
  })
}
