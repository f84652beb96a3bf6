/**
 * A process of Ingot that dies when it is told to: at the n-th boundary of a name, before or after it. The order is a file that the
 * harness writes and the process takes away before it dies, so that the one started after it lives. Every boundary that was met is
 * noted by name once.
 *
 * `<state>/deaths/<role>.json` the order · `<role>.met` boundaries met · `<role>.died` the deaths, a line each · `clock` milliseconds by
 * which this process's wall clock is wrong
 */
import {appendFileSync, readFileSync, unlinkSync} from 'node:fs'
import {join} from 'node:path'
import type {Boundary} from '../lib/boundary.ts'
import {systemClock} from '../lib/clock.ts'
import type {RoleStart, Seams} from '../services/supervisor/roles.ts'

export type DeathOrder = {
  /** of the boundary; any without */
  readonly name?: string
  /** how many of it are crossed before */
  readonly after: number
  readonly when: 'before' | 'after'
}

export const DEATHS = 'deaths'

export function mortalSeams({stateDir, role}: RoleStart): Seams {
  const file = (kind: string) => join(stateDir, DEATHS, `${role}.${kind}`)
  const met = new Set<string>()
  let current: {order: DeathOrder; text: string; crossed: number} | undefined
  let skewMs = 0

  function readOrder(): typeof current {
    const text = readText(file('json'))
    if (text === undefined) return undefined
    if (current?.text !== text) current = {order: JSON.parse(text) as DeathOrder, text, crossed: 0}
    return current
  }

  function die(name: string, when: DeathOrder['when']): never {
    try {
      unlinkSync(file('json'))
    } catch {
      // Another process of this role took the order first: it is not ours.
      return undefined as never
    }
    appendFileSync(file('died'), `${when} ${name}\n`)
    process.kill(process.pid, 'SIGKILL')
    throw new Error('dead')
  }

  const boundary: Boundary = async (name, work) => {
    if (!met.has(name)) {
      met.add(name)
      appendFileSync(file('met'), `${name}\n`)
    }
    const seen = readOrder()
    const mine = seen && (seen.order.name === undefined || seen.order.name === name) && seen.crossed++ === seen.order.after
    if (mine && seen.order.when === 'before') die(name, 'before')
    const result = await work()
    if (mine && seen.order.when === 'after') die(name, 'after')
    return result
  }

  setInterval(() => {
    skewMs = Number(readText(join(stateDir, DEATHS, 'clock')) ?? 0)
  }, 200).unref()
  const clock = {now: () => new Date(systemClock.now().getTime() + skewMs), monotonicMs: systemClock.monotonicMs}
  return {boundary, clock}
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
