/**
 * A rack of simulated BMCs in a process of its own: `rack.ts COUNT SUITE`. Prints their ports as one line of JSON; then answers each line of
 * standard input with one line: `off` switches every machine off, `count` tells how many are on and how many sessions are open.
 */
import {createInterface} from 'node:readline'
import {type SimulatedBmc, startBmc} from '../../sim/bmc/index.ts'
import {LOGIN} from './login.ts'

const count = Number(process.argv[2] ?? 1000)
const suites = [Number(process.argv[3] ?? 17)]
const users = {[LOGIN.username]: {password: LOGIN.password}}
const bmcs: SimulatedBmc[] = []
for (let index = 0; index < count; index++) bmcs.push(await startBmc({users, suites, quiet: true, seed: index}))
say({ports: bmcs.map(({port}) => port)})

for await (const line of createInterface({input: process.stdin})) {
  if (line === 'off') for (const bmc of bmcs) bmc.power = 0
  say({on: bmcs.filter(({power}) => power === 1).length, sessions: bmcs.reduce((sum, bmc) => sum + bmc.openSessions, 0)})
}
process.exit()

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}
