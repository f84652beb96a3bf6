/**
 * A worker in a process of its own, to be stopped, continued and killed. Its power orders go over HTTP to the test, which plays the BMCs
 * and may keep it waiting.
 *
 * Arguments: database URL, directory, URL of the test's BMCs. Prints its worker's id when it runs.
 */
import {systemClock} from '../../lib/clock.ts'
import {createDb, createPool} from '../../lib/db.ts'
import {createLog} from '../../lib/log.ts'
import {createSealer} from '../../lib/seal.ts'
import {createArtefacts} from '../../services/artefacts/index.ts'
import {createEvidence} from '../../services/evidence/index.ts'
import {createHandoff} from '../../services/handoff/index.ts'
import {createInventory} from '../../services/inventory/index.ts'
import {createIpam} from '../../services/ipam/index.ts'
import {startWorker} from '../../services/lifecycle/worker.ts'
import type {Power, PowerTarget, VerbOptions} from '../../services/power/index.ts'
import {noBmcDetails} from './power-double.ts'

const [url = '', dir = '', bmcs = ''] = process.argv.slice(2)
const log = createLog('worker-process', 'silent')
const clock = systemClock
const db = createDb({url, applicationName: 'test-worker-process', log})

async function order(verb: string, target: PowerTarget, options: VerbOptions | undefined): Promise<boolean> {
  const allowed = options?.mayAct?.() ?? true
  const word = allowed ? verb : `withheld ${verb}`
  await fetch(`${bmcs}/${target.machineId}`, {method: 'POST', body: `${process.pid} ${word}`})
  return allowed
}

const withheld = {done: 'withheld', sent: false} as const
const power: Power = {
  status: async () => ({state: 'off', faults: [], at: new Date()}),
  on: async (target, options) => ((await order('on', target, options)) ? {done: 'seen', state: 'on', changed: true} : withheld),
  off: async (target, options) =>
    (await order('off', target, options)) ? {done: 'seen', state: 'off', changed: true} : withheld,
  softOff: (target, options) => power.off(target, options),
  cycle: (target, options) => power.on(target, options),
  setBootDevice: async (target, device, _how, options) =>
    (await order(`boot ${device}`, target, options)) ? {done: 'seen', device, notKept: []} : withheld,
  identify: async () => ({done: 'seen', seconds: 0}),
  ...noBmcDetails,
  close: async () => undefined,
}

const worker = await startWorker(
  {
    db,
    clock,
    log,
    evidence: createEvidence({db}),
    inventory: createInventory({db, sealer: createSealer(Buffer.alloc(32, 7))}),
    ipam: createIpam({db, clock, log}),
    artefacts: createArtefacts({dir: `${dir}/artefacts`, log}),
    power,
    handoff: createHandoff({dir: `${dir}/handoff`, log, clock}),
    renderInstall: () => [],
  },
  createPool({url, applicationName: 'test-worker-process-queue', log}),
  4,
)
process.stdout.write(`${worker.id}\n`)
