import {mkdtempSync, rmSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import {createLog} from '../../lib/log.ts'
import {createHandoff, type Handoff} from '../../services/handoff/index.ts'

let root: string
let handoff: Handoff

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'how-'))
  handoff = createHandoff({dir: join(root, 'handoff'), log: createLog('handoff', 'silent'), clock: systemClock})
})
afterAll(() => rmSync(root, {recursive: true, force: true}))

const ansible = (fields: Record<string, unknown>) => ({kind: 'ansible', playbook: 'site.yml', ...fields})
const faultyFields = (config: unknown): string[] => {
  try {
    handoff.validate(config)
  } catch (error) {
    if (!(error instanceof IngotError)) throw error
    expect(error.code).toBe('INVALID_INPUT')
    return (error.errors ?? []).map(one => one.field)
  }
  return []
}

describe('validating a handoff configuration', () => {
  test('nothing at all means that nothing runs', () => {
    expect(handoff.validate(undefined)).toEqual({kind: 'none'})
    expect(handoff.validate(null)).toEqual({kind: 'none'})
  })

  test('defaults are filled in', () => {
    expect(handoff.validate({kind: 'ansible', playbook: 'site.yml'})).toEqual({
      kind: 'ansible',
      playbook: 'site.yml',
      timeout_s: 1800,
      wait_for_ssh_s: 300,
    })
  })

  test.each([
    [{}, ['kind']],
    ['none', ['kind']],
    [{kind: 'puppet'}, ['kind']],
    [{kind: 'none', playbook: 'a.yml'}, ['playbook']],
    [{kind: 'ansible'}, ['playbook', 'playbook_yaml']],
    [ansible({playbook_yaml: '- {hosts: all}'}), ['playbook', 'playbook_yaml']],
    [ansible({colour: 'red', size: 1}), ['colour', 'size']],
    [ansible({timeout_s: 0}), ['timeout_s']],
    [ansible({timeout_s: '60'}), ['timeout_s']],
    [ansible({user: '-oProxyCommand=x'}), ['user']],
    [ansible({user: 'a b'}), ['user']],
    [ansible({extra_vars: [1]}), ['extra_vars']],
    [ansible({extra_vars: {'not a name': 1}}), ['extra_vars.not a name']],
  ])('%j is refused, naming %j', (config, fields) => {
    expect(faultyFields(config)).toEqual(fields)
  })

  test.each([
    '../site.yml',
    'a/b.yml',
    '/etc/x.yml',
    'a\\b.yml',
    '.hidden.yml',
    'a..yml',
    'site',
    'site.yml\n',
    'site.yml\0',
    '-e.yml',
    '%2e%2e.yml',
    'site.sh',
    '',
    `${'a'.repeat(100)}.yml`,
  ])('F26 the playbook name %j is refused', name => {
    expect(faultyFields({kind: 'ansible', playbook: name})).toEqual(['playbook'])
  })

  test.each(['site.yml', 'web-2.prod.yaml', 'A_1.yml'])('the playbook name %j is taken', name => {
    expect(faultyFields({kind: 'ansible', playbook: name})).toEqual([])
  })

  test.each([
    'ansible_host',
    'ansible_ssh_common_args',
    'ansible_connection',
    'ANSIBLE_port',
    'ansible_ssh_private_key_file',
    'ingot',
  ])('the extra variable %s, which would undo what the run is held to, is refused', name => {
    expect(faultyFields(ansible({extra_vars: {[name]: 'x'}}))).toEqual([`extra_vars.${name}`])
  })

  test('extra variables that concern the far side only are taken', () => {
    expect(
      faultyFields(ansible({extra_vars: {ansible_become_password: 'x', ansible_python_interpreter: '/x', a: {b: [1, null]}}})),
    ).toEqual([])
  })

  test('F21 extra variables are bounded in size and depth', () => {
    expect(faultyFields(ansible({extra_vars: {a: 'x'.repeat(64 * 1024)}}))).toEqual(['extra_vars'])
    let deep: unknown = 1
    for (let depth = 0; depth < 100_000; depth += 1) deep = {a: deep}
    expect(faultyFields(ansible({extra_vars: deep}))).toEqual(['extra_vars'])
  })

  test.each([
    ['- hosts: all\n  tasks: [', /line 2/],
    ['hosts: all', /list of plays/],
    ['[]', /list of plays/],
    ['- {hosts: all}\n- {tasks: []}', /play 2 has no/],
    ['- hosts: all\n- nonsense', /play 2 has no/],
    [`- hosts: all\n  vars: {a: "${'x'.repeat(64 * 1024)}"}`, /64 KiB/],
    [
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghi'.replaceAll(/./g, c => `${c}: &${c} [${`*${String.fromCharCode(c.charCodeAt(0) - 1)},`.repeat(9)}]\n`)}`,
      /alias/,
    ],
  ])('the inline playbook %j is refused with a reason', (playbook_yaml, reason) => {
    try {
      handoff.validate({kind: 'ansible', playbook_yaml})
      expect.unreachable()
    } catch (error) {
      expect((error as IngotError).errors).toEqual([
        expect.objectContaining({field: 'playbook_yaml', message: expect.stringMatching(reason)}),
      ])
    }
  })

  test("an inline playbook may use Ansible's own tags", () => {
    expect(faultyFields({kind: 'ansible', playbook_yaml: '- hosts: all\n  vars: {a: !unsafe "{{ b }}"}\n'})).toEqual([])
  })
})

describe('starting a run', () => {
  const machine = {id: 'm1', name: 'node1', address: '192.0.2.1', sshHostKeys: [], facts: {}, parameters: {}}

  test.each([
    [{runId: '../x'}, 'runId'],
    [{runId: ''}, 'runId'],
    [{machine: {...machine, id: 'a/b'}}, 'machine.id'],
    [{machine: {...machine, name: 'node1\nall'}}, 'machine.name'],
    [{machine: {...machine, name: 'all'}}, 'machine.name'],
    [{machine: {...machine, name: 'LOCALHOST'}}, 'machine.name'],
    [{machine: {...machine, name: '-o.example'}}, 'machine.name'],
    [{machine: {...machine, address: '010.0.0.1'}}, 'machine.address'],
    [{machine: {...machine, address: 'node1'}}, 'machine.address'],
    [{machine: {...machine, port: 0}}, 'machine.port'],
    [{machine: {...machine, user: 'root;id'}}, 'machine.user'],
  ])('%j is refused, naming the field', (change, field) => {
    expect(() => handoff.start({runId: 'r1', config: {kind: 'none'}, machine, ...change})).toThrow(
      expect.objectContaining({code: 'INVALID_INPUT', errors: [expect.objectContaining({field})]}),
    )
    expect(handoff.running()).toEqual([])
  })

  test('a directory whose name cannot stand in ssh_config is refused', () => {
    const make = (dir: string) => () => createHandoff({dir, log: createLog('handoff', 'silent'), clock: systemClock})
    for (const dir of ['relative', '/a"b', '/a:b', '/a%b', '/a\nb', '/$HOME', "/a'b"]) expect(make(dir)).toThrow('not usable')
  })
})
