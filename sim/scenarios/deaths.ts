/** F1: kill -9 of any process at any time, and of chosen ones before and after each commit and each order they give. */
import {existsSync, readFileSync, renameSync, rmSync, writeFileSync} from 'node:fs'
import {join} from 'node:path'
import {sleep} from '../../lib/clock.ts'
import type {Chance} from '../chance.ts'
import {DEATHS, type DeathOrder} from '../death.ts'
import {MIXES} from '../faults.ts'
import type {Node, Part} from '../node.ts'
import type {Ordered} from '../world.ts'
import {must, type Scenario} from './scenario.ts'

const PARTS: readonly (Part | 'all')[] = ['wire', 'control', 'backend', 'postmaster', 'supervisor', 'all']
const KILLS = 8

export const randomDeaths: Scenario = {
  name: 'F1a kill -9 at any time',
  about: 'every process of a host, one or all of them, at times drawn from the seed',
  hosts: 1,
  async run({world, random, facts, note}) {
    world.setMix(MIXES.wire)
    const orders = await world.orderAll()
    const [node] = world.nodes
    must(node !== undefined, 'there is no host')
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(random.integer(150, 1_500))
      await killOne(node, random.pick(PARTS), note)
    }
    world.setMix(MIXES.none)
    await world.settle(orders)
    facts.kills = KILLS
    facts.jobs = orders.length
  },
}

async function killOne(node: Node, part: Part | 'all', note: (line: string) => void): Promise<void> {
  note(`kill -9 ${part}`)
  if (part === 'all') await node.killAll()
  else node.kill(part)
  // Whoever watches over the host starts `ingot serve` again; its children are its own business.
  if (part === 'all' || part === 'supervisor') {
    while (node.isUp) await sleep(20)
    await node.start()
  }
}

const ROLES = ['control', 'wire'] as const
/** A boundary that nobody comes by in this time is left for another round. */
const PASS_BY_MS = 1_000
const ROUND_MS = 15_000

export const chosenDeaths: Scenario = {
  name: 'F1b kill -9 before and after each commit and effect',
  about: 'control and wire die at named boundaries, each in its turn, while machines are on their way',
  hosts: 1,
  async run({world, random, facts, tried, note}) {
    const orders: Ordered[] = []
    const end = performance.now() + ROUND_MS
    const diedBefore = tried.size
    const kill = async (node: Node, role: string, dice: Chance) => {
      while (performance.now() < end) {
        const left = metBoundaries(node, role)
          .flatMap(name => (['before', 'after'] as const).map(when => ({name, when, key: `${role} ${when} ${name}`})))
          .filter(({key}) => !tried.has(key))
        if (left.length === 0) await sleep(50)
        else {
          const {name, when, key} = dice.pick(left)
          if (!(await dieAt(node, role, {name, when, after: dice.integer(0, 2)}))) continue
          tried.add(key)
          note(`${role} of host ${node.host.number} died ${when} ${name}`)
        }
      }
    }
    const keepBusy = async () => {
      while (performance.now() < end) {
        // Those that have come to rest set out again.
        orders.push(...(await world.orderAll()))
        await sleep(1_000)
      }
    }
    const killers = world.nodes.flatMap(node => ROLES.map(role => kill(node, role, random.fork(node.host.number, role))))
    await Promise.all([keepBusy(), ...killers])
    await world.settle(orders)
    const met = new Set(
      world.nodes.flatMap(node => ROLES.flatMap(role => metBoundaries(node, role).map(name => `${role} ${name}`))),
    )
    facts.deaths = tried.size - diedBefore
    facts.tried = `${tried.size} of ${2 * met.size}`
    facts.jobs = orders.length
    must(tried.size > diedBefore || tried.size === 2 * met.size, 'no process died: nothing was tried')
  },
}

function metBoundaries(node: Node, role: string): string[] {
  const file = join(node.stateDir, DEATHS, `${role}.met`)
  if (!existsSync(file)) return []
  return [...new Set(readFileSync(file, 'utf8').split('\n').filter(Boolean))].toSorted()
}

async function dieAt(node: Node, role: string, order: DeathOrder): Promise<boolean> {
  const file = join(node.stateDir, DEATHS, `${role}.json`)
  writeFileSync(`${file}.new`, JSON.stringify(order))
  renameSync(`${file}.new`, file)
  const end = performance.now() + PASS_BY_MS
  while (existsSync(file)) {
    if (performance.now() > end) {
      rmSync(file, {force: true})
      return false
    }
    await sleep(10)
  }
  return true
}
