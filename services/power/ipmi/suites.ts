/**
 * Cipher suites as data, best first (IPMI 2.0 Table 22-20). Suite 0 and the other suites without authentication, integrity or
 * encryption are not here, so they can neither be asked for nor accepted.
 */

export type Suite = {
  readonly id: number
  /** Authentication algorithm number (§13.28). */
  readonly authentication: number
  /** Integrity algorithm number (§13.28.4). */
  readonly integrity: number
  /** Confidentiality algorithm number (§13.28.5): 1 is AES-CBC-128. */
  readonly confidentiality: number
  readonly hash: 'sha1' | 'sha256'
  /** Length of a whole RAKP code. */
  readonly codeBytes: number
  /** Length of the truncated code that ends every packet, and of the RAKP 4 code. */
  readonly checkBytes: number
}

export const SUITES = [
  {id: 17, authentication: 3, integrity: 4, confidentiality: 1, hash: 'sha256', codeBytes: 32, checkBytes: 16},
  {id: 3, authentication: 1, integrity: 1, confidentiality: 1, hash: 'sha1', codeBytes: 20, checkBytes: 12},
] as const satisfies readonly Suite[]

/** The suite that these three algorithm numbers make, if it is one of ours. */
export function suiteOf(authentication: number, integrity: number, confidentiality: number): Suite | undefined {
  return SUITES.find(
    suite =>
      suite.authentication === authentication && suite.integrity === integrity && suite.confidentiality === confidentiality,
  )
}
