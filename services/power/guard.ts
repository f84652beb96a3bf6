/**
 * Hardware has no fences: a process that lost its job must not send one more datagram that changes a machine. Whoever sends asks the
 * guard immediately before each such datagram, retransmissions included.
 */

export type Guard = {
  /** @throws Withheld when the caller may no longer act */
  check(): void
  /** Whether at least one datagram was let through. */
  readonly sent: boolean
}

/** Not a fault: the caller's right to act had ended. The façade turns it into an outcome. */
export class Withheld extends Error {
  constructor() {
    super('the caller may no longer act')
    this.name = 'Withheld'
  }
}

export function createGuard(mayAct: () => boolean = () => true): Guard {
  let sent = false
  return {
    check() {
      if (!mayAct()) throw new Withheld()
      sent = true
    },
    get sent() {
      return sent
    },
  }
}
