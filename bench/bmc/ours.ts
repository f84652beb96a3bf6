/**
 * Our side, in a process that just started: `ours.ts status|on`, ports as JSON on standard input. Prints one line: how long from the
 * first call to the last answer, the processor time of that, how many answered, and the most memory it ever had.
 */
import {readFileSync} from 'node:fs'
import {text} from 'node:stream/consumers'
import {systemClock} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {Secret} from '../../lib/secret.ts'
import {createPower, type PowerTarget} from '../../services/power/index.ts'
import {LOGIN} from './login.ts'

const verb = process.argv[2] === 'on' ? 'on' : 'status'
const {ports} = JSON.parse(await text(process.stdin)) as {ports: readonly number[]}
const login = {username: LOGIN.username, password: new Secret(LOGIN.password)}
const targets = ports.map(
  port => ({machineId: String(port), driver: 'ipmi', address: '127.0.0.1', port, ...login}) satisfies PowerTarget,
)
const power = createPower({log: silentLog, clock: systemClock})

const started = {ms: performance.now(), cpu: process.cpuUsage()}
const answers = await Promise.all(targets.map(target => power[verb](target)))
const {user, system} = process.cpuUsage(started.cpu)
const took_s = (performance.now() - started.ms) / 1000
const seen = answers.filter(
  answer => 'state' in answer && (verb === 'status' ? answer.state !== 'unknown' : answer.state === 'on'),
).length
const memory_mb = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1000
await power.close()
process.stdout.write(`${JSON.stringify({took_s, cpu_s: (user + system) / 1e6, seen, memory_mb})}\n`)
