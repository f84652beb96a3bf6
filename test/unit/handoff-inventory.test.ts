import fc from 'fast-check'
import {describe, expect, test} from 'vitest'
import {ansibleInventory, hostVariables, inert} from '../../services/handoff/inventory.ts'

const node = {id: 'm1', name: 'node1', address: '192.0.2.1', facts: {}, parameters: {}}

describe('the Ansible inventory', () => {
  test('lists machines under all, ingot and their own groups, with their variables beside', () => {
    const other = {...node, id: 'm2', name: 'node2', address: '2001:db8::2', port: 2222, user: 'admin', groups: ['rack-1', 'web']}
    expect(ansibleInventory([{...node, groups: ['web']}, other])).toEqual({
      _meta: {hostvars: {node1: hostVariables(node), node2: hostVariables(other)}},
      all: {children: ['ingot', 'web', 'rack_1']},
      ingot: {hosts: ['node1', 'node2']},
      web: {hosts: ['node1', 'node2']},
      rack_1: {hosts: ['node2']},
    })
    expect(hostVariables(other)).toMatchObject({
      ansible_connection: 'ssh',
      ansible_host: '2001:db8::2',
      ansible_port: 2222,
      ansible_user: 'admin',
      ingot: {id: 'm2', name: 'node2', address: '2001:db8::2'},
    })
    expect(hostVariables(node)).toMatchObject({ansible_port: 22, ansible_user: 'root'})
  })

  test('is an inventory even without machines', () => {
    expect(ansibleInventory([])).toEqual({_meta: {hostvars: {}}, all: {children: ['ingot']}, ingot: {hosts: []}})
  })

  test('a group that would take the place of one with a meaning is left out', () => {
    const {_meta, ...groups} = ansibleInventory([{...node, groups: ['all', 'ALL', 'ungrouped', 'ingot', '_meta', '', '9-lives']}])
    expect(Object.keys(groups)).toEqual(['all', 'ingot', 'g_meta', 'g9_lives'])
    expect(groups.ingot).toEqual({hosts: ['node1']})
  })

  test('F22 no fact or parameter becomes a variable of its own, and every text in them is marked unsafe', () => {
    const hostile = fc.object({
      key: fc.oneof(fc.string(), fc.constantFrom('ansible_host', '__ansible_vault', '__ansible_unsafe')),
    })
    fc.assert(
      fc.property(hostile, hostile, (facts, parameters) => {
        const variables = hostVariables({
          ...node,
          facts: facts as Record<string, unknown>,
          parameters: parameters as Record<string, unknown>,
        })
        expect(Object.keys(variables)).toEqual(['ansible_connection', 'ansible_host', 'ansible_port', 'ansible_user', 'ingot'])
        const {facts: shownFacts, parameters: shownParameters} = variables.ingot as Record<string, unknown>
        expect(bareTexts(shownFacts)).toEqual([])
        expect(bareTexts(shownParameters)).toEqual([])
      }),
    )
  })

  test('values that are not texts stay what they are', () => {
    expect(inert({a: 1, b: null, c: [true, 'x'], d: {}})).toEqual({a: 1, b: null, c: [true, {__ansible_unsafe: 'x'}], d: {}})
    expect(inert({__ansible_unsafe: 'x'})).toEqual({x__ansible_unsafe: {__ansible_unsafe: 'x'}})
  })
})

/** Texts that Ansible's reader would take without the mark: any but the only value of `{__ansible_unsafe: …}`. */
function bareTexts(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null) return []
  const entries = Object.entries(value)
  const marked = entries.length === 1 && entries[0]![0] === '__ansible_unsafe' && typeof entries[0]![1] === 'string'
  return marked ? [] : entries.flatMap(([key, held]) => (key.startsWith('__ansible') ? [key] : bareTexts(held)))
}
