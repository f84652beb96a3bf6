/** The bounds of a TFTP server, each with the value that suits a provisioning network. */

export const DEFAULT_TFTP_LIMITS = {
  /** One Ethernet frame. Larger blocks travel as IP fragments, which boot firmware rarely puts together. */
  blockBytes: 1_468,
  windowBlocks: 64,
  firstTimeoutMs: 1_000,
  leastTimeoutMs: 100,
  /**
   * More than 5 s: atftp acknowledges a repeated block once and then only when it has heard nothing for 5 s, so a server that repeats
   * itself faster keeps it quiet for ever.
   */
  greatestTimeoutMs: 8_000,
  /** Thirty seconds of silence in all, so that a link that flaps does not end a boot. */
  tries: 9,
  halfOpenMs: 15_000,
  transferMs: 3_600_000,
  /** Each half-open transfer costs a socket until its client answers. */
  halfOpen: 1_024,
  halfOpenPerAddress: 128,
  transfers: 4_096,
  chunkBytes: 256 * 1024,
  cacheBytes: 64 * 1024 * 1024,
  logLinesPerS: 20,
} as const

export type TftpLimits = {readonly [name in keyof typeof DEFAULT_TFTP_LIMITS]: number}
