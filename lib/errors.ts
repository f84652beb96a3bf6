/**
 * Every error a caller can meet, as one table: its code, its HTTP status, its meaning in a line, and what to do about it.
 * Faults (bugs) are plain `Error`s; anything a person can cause or mend is an `IngotError` with a code from here.
 */

type ErrorRow = {readonly status: number; readonly title: string; readonly mend: string}

export const ERRORS = {
  INVALID_INPUT: {
    status: 400,
    title: 'The request is not valid',
    mend: 'Correct the fields named in `errors` and send it again.',
  },
  BODY_TOO_LARGE: {status: 413, title: 'The request body is too large', mend: 'Send a smaller body; the limit is in `detail`.'},
  BODY_TOO_DEEP: {status: 400, title: 'The JSON is nested too deeply', mend: 'Flatten the document; 32 levels are the limit.'},
  UNAUTHENTICATED: {
    status: 401,
    title: 'No valid API token was given',
    mend: 'Send `Authorization: Bearer <token>`; `ingot init --new-token` makes one.',
  },
  FORBIDDEN: {status: 403, title: 'The token may not do this', mend: 'Use a token with the permission named in `detail`.'},
  TOO_MANY_ATTEMPTS: {
    status: 429,
    title: 'Too many failed attempts',
    mend: 'Wait as long as `Retry-After` says, then use the right token.',
  },
  NOT_FOUND: {status: 404, title: 'There is no such thing', mend: 'Check the id or name; the list calls show what exists.'},
  CONFLICT: {status: 409, title: 'It conflicts with what exists', mend: 'Look at what `detail` names and change one of the two.'},
  JOB_OPEN: {
    status: 409,
    title: 'The machine has an open job',
    mend: 'Wait for the job named in `detail`, or cancel it with `ingot jobs cancel`.',
  },
  TRANSITION_REFUSED: {
    status: 409,
    title: 'The machine cannot do this in its state',
    mend: '`GET /v1/machines/{id}/actions` says what is possible now and why the rest is not.',
  },
  GROUP_UNCONFIRMED: {
    status: 409,
    title: 'A group action has to be confirmed',
    mend: 'Look at its plan (`POST /v1/groups/plan`), and send the hash of what you saw.',
  },
  GROUP_LIMIT: {
    status: 429,
    title: 'Destructive group actions have a limit an hour',
    mend: 'Wait, select fewer, or let an administrator say `beyond_limit`.',
  },
  IDEMPOTENCY_MISMATCH: {
    status: 422,
    title: 'This Idempotency-Key was used for another request',
    mend: 'Use a new key for a new request; repeat a key only with the same body.',
  },
  PREFIX_EXHAUSTED: {
    status: 409,
    title: 'The prefix has no free address',
    mend: 'Free an address, widen its range, or ask another prefix; `detail` names the biggest users.',
  },
  QUOTA_EXCEEDED: {
    status: 409,
    title: 'The tenant may not hold more addresses',
    mend: 'Free some of its addresses, or raise its quota (`ingot ip tenants write`); `detail` names the biggest users.',
  },
  ADDRESS_TAKEN: {status: 409, title: 'The address is held by another', mend: 'Free it first, or ask for another address.'},
  TEMPLATE_INVALID: {status: 422, title: 'A template cannot be rendered', mend: 'Correct the file and line named in `detail`.'},
  ARTEFACT_MISSING: {
    status: 422,
    title: 'A boot artefact is missing',
    mend: 'Build it with `ingot images build`, then check with `ingot images list`.',
  },
  POWER_UNREACHABLE: {
    status: 502,
    title: 'The BMC does not answer',
    mend: 'Check its address, cabling and the power network; `ingot power status <machine>` tries again.',
  },
  POWER_AUTH: {status: 502, title: 'The BMC refused the credentials', mend: 'Set the right ones with `ingot machines set-bmc`.'},
  POWER_UNSUPPORTED: {status: 422, title: 'The power driver cannot do this', mend: 'Use another driver, or do it by hand.'},
  POWER_UNCONFIRMED: {
    status: 502,
    title: 'The BMC took the order but its effect was not seen',
    mend: 'Look at the machine; then retry the job.',
  },
  DATABASE_LOCKED: {
    status: 503,
    title: 'Another Ingot holds the embedded database',
    mend: 'Stop the process named in `detail`, or give this one its own --state directory.',
  },
  DATABASE_AWAY: {
    status: 503,
    title: 'PostgreSQL does not answer',
    mend: 'Check that it runs; Ingot goes on by itself when it is back.',
  },
  DATABASE_OUTDATED: {status: 503, title: 'The database schema is older than this Ingot', mend: 'Run `ingot db migrate`.'},
  DATABASE_UNSUITABLE: {
    status: 503,
    title: 'This PostgreSQL cannot be used',
    mend: 'See `detail`; PostgreSQL 15 or newer, reached directly.',
  },
  PREFLIGHT_FAILED: {status: 503, title: 'The host is not ready to serve', mend: 'Mend what `detail` names, then start again.'},
  STORAGE_FULL: {status: 507, title: 'There is no space left to write', mend: 'Free disk space; writes go on by themselves.'},
  INTERNAL: {status: 500, title: 'Ingot failed', mend: 'Look for the `request_id` in the log and report it.'},
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof ERRORS
export type FieldError = {readonly field: string; readonly code: string; readonly message: string}

/** RFC 9457 problem document. */
export type Problem = {
  type: string
  title: string
  status: number
  code: ErrorCode
  detail: string
  mend: string
  errors?: readonly FieldError[]
}

type ErrorExtras = {
  readonly errors?: readonly FieldError[]
  readonly mend?: string
  readonly cause?: unknown
  readonly retryAfter_s?: number
}

/** An error with a code from `ERRORS`. Compare codes, never messages. */
export class IngotError extends Error {
  readonly code: ErrorCode
  readonly detail: string
  readonly errors: readonly FieldError[] | undefined
  readonly mend: string
  readonly retryAfter_s: number | undefined

  /** @param detail what happened here, with names and values; never a secret */
  constructor(code: ErrorCode, detail: string, extras: ErrorExtras = {}) {
    super(`${ERRORS[code].title}: ${detail}`, extras.cause === undefined ? undefined : {cause: extras.cause})
    this.name = 'IngotError'
    this.code = code
    this.detail = detail
    this.errors = extras.errors
    this.mend = extras.mend ?? ERRORS[code].mend
    this.retryAfter_s = extras.retryAfter_s
  }

  get status(): number {
    return ERRORS[this.code].status
  }
}

/** Turns anything thrown into the problem document a client gets. A fault's message stays in the log, not here. */
export function toProblem(error: unknown): Problem {
  if (!(error instanceof IngotError)) return toProblem(new IngotError('INTERNAL', 'an unexpected fault'))
  return {
    type: `https://ingot.invalid/problems/${error.code.toLowerCase().replaceAll('_', '-')}`,
    title: ERRORS[error.code].title,
    status: error.status,
    code: error.code,
    detail: error.detail,
    mend: error.mend,
    ...(error.errors ? {errors: error.errors} : {}),
  }
}

/** The text of an unknown throwable, for logs. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
