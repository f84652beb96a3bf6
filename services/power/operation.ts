/** The frame around every verb: driver, turn, breaker, connection, work, close; and what each way of ending is to the caller. */
import {createBreaker} from './breaker.ts'
import type {Capability, DriverParts, PowerConnection, PowerTarget, RunningDriver} from './drivers/driver.ts'
import {DRIVERS} from './drivers/registry.ts'
import {PowerFault, toIngotError} from './fault.ts'
import {createGuard, type Guard, Withheld} from './guard.ts'
import {createLanes} from './lanes.ts'

export type Verb = {
  readonly name: string
  readonly needs: Capability
  /** What a person is asked to do where the driver cannot. */
  readonly please: string
}

export type OperationOptions = {
  readonly mayAct?: (() => boolean) | undefined
  readonly signal?: AbortSignal | undefined
  readonly unasked?: boolean | undefined
}
export type ByHand = {readonly done: 'by_hand'; readonly please: string}
/** `sent`: some datagram of the verb had left before, so the machine may have changed all the same. */
export type WithheldOutcome = {readonly done: 'withheld'; readonly sent: boolean}
export type Ended<T> = {readonly done: 'seen'; readonly seen: T} | ByHand | WithheldOutcome

/** @param bmc the BMC's key in what is remembered */
export type Work<T> = (connection: PowerConnection, guard: Guard, signal: AbortSignal, bmc: string) => Promise<T>

export type Operations = {
  perform<T>(verb: Verb, target: PowerTarget, options: OperationOptions, work: Work<T>): Promise<Ended<T>>
  close(): Promise<void>
}

export type OperationParts = DriverParts & {readonly maxConcurrent: number}

export function createOperations(parts: OperationParts): Operations {
  const {log, clock} = parts
  const lanes = createLanes(parts.maxConcurrent)
  const breaker = createBreaker(clock)
  const closing = new AbortController()
  const drivers = new Map<string, RunningDriver>()
  const unfinished = new Set<Promise<unknown>>()

  async function perform<T>(verb: Verb, target: PowerTarget, options: OperationOptions, work: Work<T>): Promise<Ended<T>> {
    const guard = createGuard(options.mayAct)
    const signal = options.signal ? AbortSignal.any([options.signal, closing.signal]) : closing.signal
    try {
      const {driver, capabilities} = driverOf(target)
      if (!capabilities.includes(verb.needs)) return {done: 'by_hand', please: verb.please}
      const key = driver.key(target)
      const turn = async () => {
        signal.throwIfAborted()
        breaker.admit(key, target)
        try {
          const seen = await timed(verb, key, () =>
            converse(driver, target, signal, connection => work(connection, guard, signal, key)),
          )
          breaker.succeeded(key)
          return seen
        } catch (error) {
          if (error instanceof PowerFault) breaker.failed(key, target, error, options.unasked ?? false)
          throw error
        }
      }
      return {done: 'seen', seen: await lanes.run(key, signal, turn)}
    } catch (error) {
      if (error instanceof Withheld) return {done: 'withheld', sent: guard.sent}
      if (!(error instanceof PowerFault)) throw error
      const bmc = target.address === undefined ? '' : `, BMC ${target.address}`
      throw toIngotError(error, `machine ${target.machineId}${bmc}, ${verb.name}`)
    }
  }

  function driverOf(target: PowerTarget): {driver: RunningDriver; capabilities: readonly Capability[]} {
    const entry = DRIVERS.find(({name}) => name === target.driver)
    if (!entry) throw new PowerFault('bad_target', `there is no power driver "${target.driver}"`)
    const driver = drivers.get(entry.name) ?? entry.start(parts)
    drivers.set(entry.name, driver)
    return {driver, capabilities: entry.capabilities}
  }

  async function timed<T>(verb: Verb, bmc: string, work: () => Promise<T>): Promise<T> {
    const startedMs = clock.monotonicMs()
    const result = await work()
    log.debug({bmc, verb: verb.name, ms: clock.monotonicMs() - startedMs}, 'power verb done')
    return result
  }

  return {
    perform(verb, target, options, work) {
      const operation = perform(verb, target, options, work)
      const settled: Promise<void> = operation.then(forget, forget)
      function forget(): void {
        unfinished.delete(settled)
      }
      unfinished.add(settled)
      return operation
    },
    async close() {
      closing.abort(toIngotError(new PowerFault('closed', 'the power service is closing'), 'power'))
      await Promise.all(unfinished)
      await Promise.all(drivers.values().map(driver => driver.close()))
      drivers.clear()
    },
  }
}

async function converse<T>(
  driver: RunningDriver,
  target: PowerTarget,
  signal: AbortSignal,
  work: (connection: PowerConnection) => Promise<T>,
): Promise<T> {
  const connection = await driver.connect(target, signal)
  try {
    return await work(connection)
  } finally {
    await connection.close()
  }
}
