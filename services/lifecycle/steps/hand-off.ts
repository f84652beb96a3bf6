/**
 * Hands the installed machine over to its configuration management: started here, proven by evidence. The run outlives this task; when
 * it ends, its result is evidence that wakes the job. A run whose process died is started again by whoever looks next.
 */
import {IngotError} from '../../../lib/errors.ts'
import type {HandoffMachine} from '../../handoff/index.ts'
import type {InstallPlan} from '../plan-types.ts'
import type {Step, StepContext} from './step.ts'

export const handOff: Step = async context => {
  const {view, self} = context
  const {job, plan} = view
  if (!plan.install) return {record: {ok: true, kind: 'none'}}
  const {kind} = plan.install.handoff
  const where = await self.handoffs.start({
    jobId: job.id,
    machineId: job.machine_id,
    fence: job.fence,
    config: plan.install.handoff,
    machine: await machineOf(context.services, job.machine_id, plan.install),
  })
  // Another process still runs it: no worker goes by that name, so the job looks again and again until the run is free or over.
  return {record: {waits: true, worker_id: where === 'here' ? self.workerId : 'another process', kind}}
}

/** The machine as a handoff is told of it. */
export async function machineOf(
  services: StepContext['services'],
  machineId: string,
  install: InstallPlan,
): Promise<HandoffMachine> {
  const machine = await services.inventory.requireMachine(machineId)
  const facts = await services.inventory.latestFacts(machine.id, 'first_boot')
  const hostKeys = facts?.facts.ssh_host_keys
  const [address] = install.addresses.toSorted((a, b) => Number(b.purpose === 'host') - Number(a.purpose === 'host'))
  if (!address) throw new IngotError('INTERNAL', 'the plan names no address to hand over')
  return {
    id: machine.id,
    name: install.hostname,
    address: address.address,
    sshHostKeys: Array.isArray(hostKeys) ? hostKeys.map(String) : [],
    facts: facts?.facts ?? {},
    parameters: install.parameters,
  }
}
