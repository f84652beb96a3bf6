/** Responders with a fault planted in each, so that the fuzzer can be seen to find it. */
import {createResponder, type Responder, type ResponderDeps} from '../../services/dhcpd/responder.ts'

export type Spoil = {
  /** Changes what the responder gets to see of a request. */
  readonly request?: (bytes: Uint8Array) => Uint8Array
  readonly reply?: (bytes: Buffer) => Buffer
  readonly destination?: (destination: Parameters<Parameters<Responder['receive']>[2]>[1]) => typeof destination
}

export function createSpoilt({request = same, reply = same, destination = same}: Spoil) {
  return (deps: ResponderDeps): Responder => {
    const real = createResponder(deps)
    return {
      ...real,
      receive: (bytes, arrival, send) =>
        real.receive(request(bytes), arrival, (answer, to) => send(reply(Buffer.from(answer)), destination(to))),
    }
  }
}

function same<T>(value: T): T {
  return value
}

const TRAP = Buffer.of(61, 7, 1)

/** Stands still on a client identifier of type 1. */
export function createStanding(deps: ResponderDeps): Responder {
  const real = createResponder(deps)
  return {
    ...real,
    receive(bytes, arrival, send) {
      while (Buffer.from(bytes).includes(TRAP)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
      real.receive(bytes, arrival, send)
    },
  }
}

/** Keeps 64 KiB of every packet. */
export function createLeaking(deps: ResponderDeps): Responder {
  const real = createResponder(deps)
  const kept: Buffer[] = []
  return {
    ...real,
    receive(bytes, arrival, send) {
      kept.push(Buffer.alloc(65_536))
      real.receive(bytes, arrival, send)
    },
  }
}
