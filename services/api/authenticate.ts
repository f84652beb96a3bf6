/** Who asks: the token of a request, the lock-out of those who guess, and no request that somebody else's web page made. */
import type {Request} from 'express'
import {IngotError} from '../../lib/errors.ts'
import {type Attempts, placeOf} from './attempts.ts'
import type {ApiServices} from './services.ts'
import type {TokenRow} from './store.ts'
import {findToken, hashToken, type Permission, permits} from './tokens.ts'

/** `text` stays in memory: it keys what is stored about the request, so that the database alone tells nothing. */
export type Caller = {readonly token: TokenRow; readonly text: string}

/** @throws IngotError UNAUTHENTICATED, TOO_MANY_ATTEMPTS, FORBIDDEN */
export async function authenticate(
  services: Pick<ApiServices, 'db' | 'clock'>,
  attempts: Attempts,
  request: Request,
  needs: Permission,
): Promise<Caller> {
  refuseOtherSites(request)
  const header = request.get('authorization')
  // Nothing was guessed where nothing was sent: a probe without a token locks nobody out.
  if (header === undefined) throw new IngotError('UNAUTHENTICATED', 'no token was sent')
  const text = /^Bearer +(\S+)$/i.exec(header)?.[1] ?? ''
  const place = placeOf(request.socket.remoteAddress)
  const hash = hashToken(text).toString('hex')
  const wait = attempts.lockedFor(place, hash)
  if (wait > 0) throw new IngotError('TOO_MANY_ATTEMPTS', `from ${place}; wait ${wait} s`, {retryAfter_s: wait})
  const token = text === '' ? undefined : await findToken(services.db, text, services.clock.now())
  if (!token) {
    attempts.failed(place, hash)
    const detail = text === '' ? 'the Authorization header is not `Bearer <token>`' : 'the token is unknown, expired or revoked'
    throw new IngotError('UNAUTHENTICATED', detail)
  }
  attempts.succeeded(hash)
  requirePermission(token.permission, needs, 'this')
  return {token, text}
}

/** @throws IngotError FORBIDDEN */
export function requirePermission(has: Permission, needs: Permission, what: string): void {
  if (!permits(has, needs)) throw new IngotError('FORBIDDEN', `${what} needs '${needs}', the token has '${has}'`)
}

/** A browser says where a request comes from (Fetch Metadata; Fetch §3.2, Origin). Programs say nothing. */
function refuseOtherSites(request: Request): void {
  const site = request.get('sec-fetch-site')
  const origin = request.get('origin')
  const ownOrigin = origin === undefined || URL.parse(origin)?.host === request.get('host')
  if (ownOrigin && (site === undefined || site === 'same-origin' || site === 'none')) return
  throw new IngotError('FORBIDDEN', 'the request comes from a page of another site', {
    mend: 'Call the API from a program, or from a page that this listener serves.',
  })
}
