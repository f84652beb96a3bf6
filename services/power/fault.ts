/** Why a power verb failed, as one table: each kind with the error code that callers see and what to do about it. */
import {type ErrorCode, IngotError} from '../../lib/errors.ts'

type FaultRow = {readonly code: ErrorCode; readonly mend: string}

export const FAULTS = {
  no_answer: {
    code: 'POWER_UNREACHABLE',
    mend: 'Check the BMC address, its cable, and the route and firewall (UDP 623) from this host to it.',
  },
  port_refused: {
    code: 'POWER_UNREACHABLE',
    mend: 'Something is there but nothing listens on that UDP port: switch on IPMI over LAN in the BMC, or correct the port.',
  },
  no_route: {code: 'POWER_UNREACHABLE', mend: 'Check the route from this host to the BMC network, and the BMC address.'},
  no_session: {
    code: 'POWER_UNREACHABLE',
    mend: 'All sessions of the BMC are taken: close other consoles, or wait a minute for them to expire; a BMC reset helps too.',
  },
  session_lost: {
    code: 'POWER_UNREACHABLE',
    mend: 'The BMC lost the session, as after its own restart or on a bad network: try again.',
  },
  bad_reply: {code: 'POWER_UNREACHABLE', mend: 'The BMC does not follow IPMI 2.0 here: update its firmware, or reset it.'},
  wrong_password: {code: 'POWER_AUTH', mend: 'Set the right password with `ingot machines set-bmc`.'},
  wrong_user: {code: 'POWER_AUTH', mend: 'Set the right user with `ingot machines set-bmc`, or create and enable it in the BMC.'},
  wrong_group_key: {code: 'POWER_AUTH', mend: 'The BMC wants a K_G key as well: clear K_G in its LAN settings.'},
  privilege: {code: 'POWER_AUTH', mend: 'Give the BMC user the administrator (or operator) privilege on the LAN channel.'},
  no_suite: {code: 'POWER_UNSUPPORTED', mend: 'Allow cipher suite 17 (or 3) in the LAN settings of the BMC; 0 is never used.'},
  only_ipmi_15: {code: 'POWER_UNSUPPORTED', mend: 'The BMC speaks IPMI 1.5 only: update its firmware, or drive it by hand.'},
  cannot: {code: 'POWER_UNSUPPORTED', mend: 'This BMC lacks the command: use another driver, or do it by hand.'},
  refused: {code: 'POWER_UNCONFIRMED', mend: 'Look at the machine and its BMC event log; then retry.'},
  not_seen: {code: 'POWER_UNCONFIRMED', mend: 'Look at the machine; then retry the job.'},
  bad_target: {code: 'INVALID_INPUT', mend: 'Correct it with `ingot machines set-bmc`.'},
  closed: {code: 'INTERNAL', mend: 'Ingot is stopping; the job goes on when it is back.'},
} as const satisfies Record<string, FaultRow>

export type FaultKind = keyof typeof FAULTS

/** Thrown inside this service; callers of the façade get it as the `cause` of an `IngotError`. */
export class PowerFault extends Error {
  readonly kind: FaultKind

  /** @param message what happened, without a secret */
  constructor(kind: FaultKind, message: string) {
    super(message)
    this.name = 'PowerFault'
    this.kind = kind
  }
}

/** @param where which machine, BMC and verb, for the detail's beginning */
export function toIngotError(fault: PowerFault, where: string): IngotError {
  const {code, mend} = FAULTS[fault.kind]
  return new IngotError(code, `${where}: ${fault.message}`, {mend, cause: fault})
}

/** The kind of failure behind an error that a power verb threw; undefined for any other error. */
export function faultKind(error: unknown): FaultKind | undefined {
  if (error instanceof PowerFault) return error.kind
  return error instanceof IngotError && error.cause instanceof PowerFault ? error.cause.kind : undefined
}
