/** The known_hosts file of one machine, made only from the keys that its first boot reported (sshd(8), SSH_KNOWN_HOSTS). Pure. */
import {createHash} from 'node:crypto'

const KEY_LINE = /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]{40,4096}={0,2})(?: [^\r\n]*)?$/

export type KnownHosts = {
  /** The file's text; empty when no reported key is usable. */
  readonly text: string
  /** `SHA256:…` of each key in it, as ssh prints them. */
  readonly fingerprints: readonly string[]
}

/**
 * A reported key is a stranger's text: only a bare `type base64` is taken over, so that no marker (`@cert-authority`), pattern or
 * further line can come in with it.
 */
export function renderKnownHosts(address: string, port: number, reportedKeys: readonly string[]): KnownHosts {
  const pattern = port === 22 ? address : `[${address}]:${port}`
  const keys = reportedKeys.flatMap(reported => parseHostKey(reported.trim()) ?? [])
  return {
    text: keys.map(key => `${pattern} ${key.type} ${key.base64}\n`).join(''),
    fingerprints: keys.map(key => `SHA256:${createHash('sha256').update(key.blob).digest('base64').replace(/=+$/, '')}`),
  }
}

function parseHostKey(line: string): {type: string; base64: string; blob: Buffer} | undefined {
  const match = KEY_LINE.exec(line)
  const type = match?.[1]
  const base64 = match?.[2]
  if (type === undefined || base64 === undefined) return undefined
  const blob = Buffer.from(base64, 'base64')
  const named = blob.subarray(4, 4 + blob.readUInt32BE(0)).toString('latin1')
  return named === type ? {type, base64, blob} : undefined
}
