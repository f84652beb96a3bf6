/**
 * Machines as an Ansible dynamic inventory: the answer to `--list`, with `_meta` so that `--host` is not needed. Pure.
 *
 * Everything that a machine or an operator said stands under the one variable `ingot`, so no fact can take the place of a connection
 * variable. Ansible evaluates templates in inventory variables on the *control* host: a serial number of `{{ lookup('pipe', …) }}`
 * would run there, and so would a bare `lookup('pipe', …)` in a `when:` that quotes it. Hence every text is marked unsafe, which keeps
 * it a plain text wherever a playbook uses it.
 */

export type InventoryMachine = {
  readonly id: string
  readonly name: string
  readonly address: string
  readonly port?: number
  readonly user?: string
  readonly facts: Readonly<Record<string, unknown>>
  readonly parameters: Readonly<Record<string, unknown>>
  /** Further groups besides `ingot`: a pool, a site, a profile. */
  readonly groups?: readonly string[]
}

export type AnsibleInventory = {
  readonly _meta: {readonly hostvars: Readonly<Record<string, HostVariables>>}
  readonly all: {readonly children: readonly string[]}
  readonly [group: string]: unknown
}

export type HostVariables = Readonly<Record<string, unknown>>

export function ansibleInventory(machines: readonly InventoryMachine[]): AnsibleInventory {
  const groups = new Map<string, string[]>([['ingot', []]])
  for (const machine of machines) {
    for (const group of new Set(['ingot', ...(machine.groups ?? []).flatMap(name => groupName(name) ?? [])])) {
      groups.set(group, [...(groups.get(group) ?? []), machine.name])
    }
  }
  return {
    _meta: {hostvars: Object.fromEntries(machines.map(machine => [machine.name, hostVariables(machine)]))},
    all: {children: [...groups.keys()]},
    ...Object.fromEntries([...groups].map(([name, hosts]) => [name, {hosts}])),
  }
}

/** The answer to `--host <name>`. */
export function hostVariables(machine: InventoryMachine): HostVariables {
  return {
    ansible_connection: 'ssh',
    ansible_host: machine.address,
    ansible_port: machine.port ?? 22,
    ansible_user: machine.user ?? 'root',
    ingot: {
      id: machine.id,
      name: machine.name,
      address: machine.address,
      facts: inert(machine.facts),
      parameters: inert(machine.parameters),
    },
  }
}

/** A value whose texts Ansible does not evaluate. Keys that its JSON reader would act upon (`__ansible_…`) get a leading `x`. */
export function inert(value: unknown): unknown {
  if (typeof value === 'string') return {__ansible_unsafe: value}
  if (Array.isArray(value)) return value.map(inert)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, held]) => [key.startsWith('__ansible') ? `x${key}` : key, inert(held)]),
  )
}

/** Ansible wants an identifier; `all`, `ungrouped` and `_meta` mean something to it, and `ingot` is already there. */
function groupName(name: string): string | undefined {
  const identifier = name
    .toLowerCase()
    .replace(/[^a-z0-9_]/g, '_')
    .replace(/^(?=[^a-z])/, 'g')
  return name === '' || ['all', 'ungrouped', 'ingot'].includes(identifier) ? undefined : identifier
}
