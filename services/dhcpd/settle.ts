/** What leaves once the bind came back: the ACK, a shorter ACK, a NAK, or nothing. Pure. */
import {createReasons, type Decision} from '../../lib/decision.ts'
import type {Grant, Refusal} from './decision.ts'
import {IGNORED} from './ignored.ts'
import type {BindResult} from './leases.ts'

export type Settled = {readonly ack: Grant} | {readonly nak: Refusal} | {readonly ignored: 'database_away'}

/**
 * @param outcome         of the bind; `away` when nothing could be committed
 * @param remaining_s     of the lease this process saw committed for this client and address; 0 when none
 * @param offline_lease_s how long a reservation may be used without a commit: shorter than the least cool-down of a freed address
 */
export function settle(
  grant: Grant,
  outcome: BindResult | 'away',
  remaining_s: number,
  offline_lease_s: number,
): Decision<Settled> {
  const reasons = createReasons()
  if (outcome !== 'away') {
    if ('bound' in outcome) {
      reasons.because('bind', `${grant.address} is committed for ${grant.lease_s} s`, 'leases')
      return {answer: {ack: grant}, reasons: reasons.list()}
    }
    const message = outcome.refused === 'taken' ? 'another holds that address' : 'that address is no longer yours'
    reasons.because('bind', message, 'leases')
    return {answer: {nak: {client: grant.client, server: grant.server, message}}, reasons: reasons.list()}
  }
  const allowed_s = grant.kind === 'reserved' ? offline_lease_s : remaining_s
  const lease_s = Math.min(grant.lease_s, allowed_s)
  if (lease_s < 1) {
    reasons.because('ignored', IGNORED.database_away, 'database_away')
    return {answer: {ignored: 'database_away'}, reasons: reasons.list()}
  }
  reasons.because('bind', `the database is away: ${grant.kind} for ${lease_s} s only`, 'leases')
  return {answer: {ack: {...grant, lease_s}}, reasons: reasons.list()}
}
