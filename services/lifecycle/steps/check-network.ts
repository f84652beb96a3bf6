/** Reads back that every address of the plan is held by this machine, before anything is powered. */
import type {Step} from './step.ts'

export const checkNetwork: Step = async ({services, view}) => {
  const held = await services.ipam.allocationsOf(view.job.machine_id)
  const wanted = view.plan.install?.addresses ?? []
  const missing = wanted.filter(want => !held.some(allocation => allocation.address === want.address))
  if (missing.length > 0) {
    const names = missing.map(want => want.address).join(', ')
    return {record: {ok: false, retry: false, code: 'ADDRESS_LOST', detail: `${names} is no longer held by this machine`}}
  }
  return {record: {ok: true, addresses: wanted.map(want => want.address)}}
}
