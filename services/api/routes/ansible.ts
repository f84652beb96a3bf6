/** The machines that run, as an Ansible dynamic inventory: for playbooks that people start themselves. */
import {ansibleInventory, type InventoryMachine} from '../../handoff/index.ts'
import type {MachineView} from '../../inventory/index.ts'
import type {MachineStateRow} from '../../lifecycle/index.ts'
import {PAGE_LIMIT} from '../page.ts'
import {route} from '../route.ts'
import type {ApiServices} from '../services.ts'

/** Names that mean something else in an inventory; such a machine is listed by its id. */
const TAKEN = ['all', 'ungrouped', 'ingot', 'localhost', '_meta']

/** Machines whose addresses and facts are asked for at once. */
const AT_ONCE = 4

export const ansibleRoutes = [
  route({
    method: 'get',
    path: '/v1/ansible-inventory',
    summary: 'Active machines as an Ansible inventory (what `--list` prints), grouped by profile and labels',
    permission: 'view',
    changes: false,
    answers: {200: 'the inventory'},
    async handle({services, signal}) {
      const machines: InventoryMachine[] = []
      for await (const page of activeMachines(services)) {
        for (let at = 0; at < page.length && !signal.aborted; at += AT_ONCE) {
          const some = await Promise.all(page.slice(at, at + AT_ONCE).map(row => inventoryMachine(services, row)))
          machines.push(...some.flatMap(machine => machine ?? []))
        }
      }
      return {status: 200, body: ansibleInventory(machines)}
    },
  }),
]

type Active = {readonly machine: MachineView; readonly state: MachineStateRow}

async function* activeMachines({inventory, lifecycle}: ApiServices): AsyncGenerator<Active[]> {
  for (let after: string | undefined; ; ) {
    const machines = await inventory.listMachines({after, limit: PAGE_LIMIT})
    const states = new Map((await lifecycle.states(machines.map(machine => machine.id))).map(row => [row.machine_id, row]))
    yield machines.flatMap(machine => {
      const state = states.get(machine.id)
      return state?.state === 'active' ? [{machine, state}] : []
    })
    if (machines.length < PAGE_LIMIT) return
    after = machines[machines.length - 1]?.name
  }
}

/** @returns undefined for a machine that holds no address: nobody could reach it */
async function inventoryMachine(services: ApiServices, {machine, state}: Active): Promise<InventoryMachine | undefined> {
  const held = await services.ipam.allocationsOf(machine.id)
  // Where the installed system answers: its host address, which may be the one it boots by.
  const address = (held.find(row => row.purpose === 'host') ?? held.find(row => row.purpose === 'boot'))?.address
  if (!address) return undefined
  const facts = await services.inventory.latestFacts(machine.id, 'first_boot')
  const profile = state.provisioned?.profile
  return {
    id: machine.id,
    name: TAKEN.includes(machine.name) ? machine.id : machine.name,
    address,
    facts: facts?.facts ?? {},
    // They may hold secrets, and nobody needs them to reach a machine.
    parameters: {},
    groups: [
      ...(typeof profile === 'string' ? [profile] : []),
      ...Object.entries(machine.labels).map(([name, value]) => `${name}_${value}`),
    ],
  }
}
