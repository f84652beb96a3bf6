/** The ansible handoff against a real sshd on loopback, with the real ansible-playbook. */
import {type ChildProcess, execFileSync, spawn} from 'node:child_process'
import {existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {createServer} from 'node:net'
import {tmpdir, userInfo} from 'node:os'
import {join} from 'node:path'
import {afterAll, beforeAll, describe, expect, test} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {createLog} from '../../lib/log.ts'
import {createHandoff, type Handoff, type HandoffMachine} from '../../services/handoff/index.ts'
import {processesOf} from '../../services/handoff/processes.ts'

const SSHD = '/usr/sbin/sshd'
const CANARY = 'canary-5f0c"é-in-extra-vars'
const missing = [SSHD, '/usr/bin/ssh', '/usr/bin/ssh-keygen', '/usr/bin/ansible-playbook'].filter(path => !existsSync(path))

// Skipped only where the programs are not installed: openssh-server, openssh-client and ansible-core.
describe.skipIf(missing.length > 0)('the ansible handoff', () => {
  let root: string
  let handoff: Handoff
  let sshd: ChildProcess
  let port: number
  let hostKey: string

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), 'how-'))
    handoff = createHandoff({dir: join(root, 'handoff'), log: createLog('handoff', 'silent'), clock: systemClock})
    writeFileSync(join(root, 'authorized_keys'), `${handoff.publicKeys({kind: 'ansible', playbook: 'a.yml'})[0]}\n`)
    hostKey = makeHostKey(root, 'host_key')
    port = await freePort()
    sshd = await startSshd(root, port)
  })

  afterAll(async () => {
    await Promise.all(handoff.running().map(runId => handoff.stop(runId)))
    sshd.kill()
    rmSync(root, {recursive: true, force: true})
  })

  const machine = (change: Partial<HandoffMachine> = {}): HandoffMachine => ({
    id: 'machine-1',
    name: 'node1.example',
    address: '127.0.0.1',
    port,
    sshHostKeys: [hostKey],
    facts: {dmi: {serial: 'ABC-123'}},
    parameters: {tier: 'front'},
    user: userInfo().username,
    ...change,
  })
  const run = (config: Record<string, unknown>, change: Partial<HandoffMachine> = {}) => {
    const started = handoff.start({runId: nextRunId(), config: {kind: 'ansible', ...config}, machine: machine(change)})
    return {...started, runDir: join(root, 'handoff', 'active', started.runId)}
  }
  const folder = () => mkdtempSync(join(root, 'out-'))

  test('a playbook writes a file, reads facts, and sees what Ingot knows of the machine', async () => {
    const out = folder()
    const playbook_yaml = `
- hosts: ingot
  tasks:
    - name: Write what is known
      ansible.builtin.copy:
        dest: "{{ out }}/report"
        content: "{{ ansible_facts['kernel'] }}|{{ ingot.name }}|{{ ingot.facts.dmi.serial }}|{{ ingot.parameters.tier }}"
    - name: Look again
      ansible.builtin.command: test -s {{ out }}/report
      changed_when: false
`
    const started = run({playbook_yaml, extra_vars: {out}})
    const result = await started.done
    expect(result).toMatchObject({
      outcome: 'done',
      summary: {hosts: {'node1.example': {ok: 3, changed: 1, failed: 0, unreachable: 0}}},
    })
    const kernel = execFileSync('uname', ['-r'], {encoding: 'utf8'}).trim()
    expect(readFileSync(join(out, 'report'), 'utf8')).toBe(`${kernel}|node1.example|ABC-123|front`)
    expectNothingLeft(started.runDir)
  })

  test('a playbook named in the configuration is taken from the folder of playbooks, with the roles beside it', async () => {
    const out = folder()
    const tasks = join(root, 'handoff', 'ansible', 'roles', 'greet', 'tasks')
    mkdirSync(tasks, {recursive: true})
    writeFileSync(join(tasks, 'main.yml'), '- ansible.builtin.copy: {dest: "{{ out }}/greeting", content: hello}\n')
    writeFileSync(join(root, 'handoff', 'ansible', 'site.yml'), '- {hosts: all, gather_facts: false, roles: [greet]}\n')
    expect(await run({playbook: 'site.yml', extra_vars: {out}}).done).toMatchObject({outcome: 'done'})
    expect(readFileSync(join(out, 'greeting'), 'utf8')).toBe('hello')
  })

  test('F22 a fact that is a template stays a text on the control host', async () => {
    const out = folder()
    const hostile = `{{ lookup('pipe', 'touch ${out}/owned') }}`
    const bare = `lookup('pipe', 'touch ${out}/owned')`
    const playbook_yaml = `
- hosts: ingot
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        dest: "{{ out }}/fact"
        content: "{{ ingot.facts.dmi.serial }} and {{ note }}"
    - ansible.builtin.debug: {msg: "{{ ingot.parameters }}"}
    - ansible.builtin.debug: {msg: matched}
      when: "{{ ingot.facts.bare }}"
      ignore_errors: true
`
    const facts = {dmi: {serial: hostile}, bare, __ansible_unsafe: hostile}
    const result = await run({playbook_yaml, extra_vars: {out, note: hostile}}, {facts, parameters: {p: [hostile]}}).done
    expect(result.outcome).toBe('done')
    expect(readFileSync(join(out, 'fact'), 'utf8')).toBe(`${hostile} and ${hostile}`)
    expect(readdirSync(out)).toEqual(['fact'])
  })

  test('a machine with another host key than it reported gets nothing', async () => {
    const out = folder()
    const other = makeHostKey(root, 'other_key')
    const playbook_yaml = `
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy: {dest: "${out}/touched", content: x}
    - ansible.builtin.copy: {dest: "${out}/touched-here", content: x}
      delegate_to: localhost
`
    const result = await run({playbook_yaml}, {sshHostKeys: [other]}).done
    expect(result).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_HOST_KEY'}})
    expect(result.cause?.detail).toContain('node1.example')
    expect(result.cause?.mend).not.toBe('')
    expect(readdirSync(out)).toEqual([])
    expect(await run({playbook_yaml}, {sshHostKeys: []}).done).toMatchObject({cause: {code: 'HANDOFF_HOST_KEY'}})
    expect(readdirSync(out)).toEqual([])
  })

  test('a machine whose host key changes in the middle is not spoken to again, even if the playbook asks for no check', async () => {
    const out = folder()
    const own = await freePort()
    const first = await startSshd(root, own)
    const playbook_yaml = `
- hosts: all
  gather_facts: false
  vars:
    ansible_host_key_checking: false
    ansible_ssh_common_args: -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null
  tasks:
    - ansible.builtin.copy: {dest: "${out}/here", content: x}
    - ansible.builtin.wait_for: {path: "${out}/go", timeout: 60}
      delegate_to: localhost
      vars: {ansible_connection: local}
    - ansible.builtin.meta: reset_connection
    - name: After the change
      ansible.builtin.copy: {dest: "${out}/touched", content: x}
`
    const started = run({playbook_yaml}, {port: own})
    await until(() => existsSync(join(out, 'here')))
    const gone = new Promise(resolve => first.once('exit', resolve))
    first.kill()
    await gone
    makeHostKey(root, 'changed_key')
    const second = await startSshd(root, own, 'changed_key')
    try {
      writeFileSync(join(out, 'go'), '')
      const result = await started.done
      expect(result).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_HOST_KEY'}})
      expect(result.cause?.detail).toContain('After the change')
      expect(existsSync(join(out, 'touched'))).toBe(false)
    } finally {
      second.kill()
    }
  })

  test('a failing task is named, with what it said', async () => {
    const playbook_yaml = `
- hosts: all
  gather_facts: false
  tasks:
    - name: Rescued before
      block:
        - {name: Fails first, ansible.builtin.fail: {msg: not this one}}
      rescue:
        - ansible.builtin.debug: {msg: rescued}
    - name: Ignored
      ansible.builtin.fail: {msg: nor this}
      ignore_errors: true
    - name: Break here
      ansible.builtin.fail: {msg: the disk is too small}
    - name: Never reached
      ansible.builtin.debug: {msg: x}
`
    const result = await run({playbook_yaml}).done
    expect(result).toMatchObject({
      outcome: 'failed',
      cause: {code: 'HANDOFF_FAILED', detail: 'node1.example failed in task "Break here": the disk is too small'},
      summary: {hosts: {'node1.example': {failed: 1, rescued: 1, ignored: 1, unreachable: 0}}},
    })
    expect(result.outputTail).toContain('PLAY RECAP')
    expect(result.outputTail).not.toContain('Never reached')
  })

  test('a playbook that addresses no task to the machine is not taken for done', async () => {
    const result = await run({playbook_yaml: '- {hosts: webservers, gather_facts: false}\n'}).done
    expect(result).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_PLAYBOOK'}})
    expect(result.cause?.detail).toContain('no play addresses node1.example')
  })

  test('a playbook that Ansible cannot read, or that is not there, is said so', async () => {
    const unreadable = await run({playbook_yaml: '- {hosts: all, tasks: [{no_such_module_anywhere: {}}]}\n'}).done
    expect(unreadable).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_PLAYBOOK'}})
    expect(unreadable.cause?.detail).toContain('no_such_module_anywhere')
    const absent = await run({playbook: 'absent.yml'}).done
    expect(absent).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_PLAYBOOK'}})
    expect(absent.cause?.detail).toContain('absent.yml')
  })

  test('a user that has no such key is told apart from a machine that does not answer', async () => {
    const refused = await run({playbook_yaml: '- {hosts: all}\n', user: 'nobody'}).done
    expect(refused).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_AUTH'}})
    const closed = await run({playbook_yaml: '- {hosts: all}\n', wait_for_ssh_s: 1}, {port: await freePort()}).done
    expect(closed).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_UNREACHABLE'}})
    expect(closed.cause?.detail).toContain('ECONNREFUSED')
  })

  test('waits for an sshd that comes up later', async () => {
    const late = await freePort()
    const started = run({playbook_yaml: '- {hosts: all, tasks: [{ansible.builtin.ping: {}}]}\n'}, {port: late})
    await until(() => existsSync(join(started.runDir, 'inventory.json')))
    const second = await startSshd(root, late)
    try {
      expect(await started.done).toMatchObject({outcome: 'done'})
    } finally {
      second.kill()
    }
  })

  test('ends the whole group at the time limit, names the task it was in, and leaves no process and no directory', async () => {
    const out = folder()
    const started = run({playbook_yaml: waitingPlaybook(out), timeout_s: 30})
    try {
      await until(() => existsSync(join(out, 'here')))
      const during = processesOf(started.runDir)
      expect(during.length).toBeGreaterThan(1)
      const result = await started.done
      expect(result).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_TIMEOUT'}})
      expect(result.cause?.detail).toContain('in task "Wait for the end"')
      expect(during.filter(pid => isRunning(pid))).toEqual([])
      expectNothingLeft(started.runDir)
    } finally {
      writeFileSync(join(out, 'go'), '')
    }
  })

  test('a stopped run ends as stopped, and a daemon that it left on the control host ends with it', async () => {
    const out = folder()
    const started = run({playbook_yaml: waitingPlaybook(out)})
    try {
      await until(() => existsSync(join(out, 'here')))
      expect(handoff.running()).toEqual([started.runId])
      const daemon = Number(readFileSync(join(out, 'daemon'), 'utf8'))
      expect(isRunning(daemon)).toBe(true)
      await handoff.stop(started.runId)
      expect(await started.done).toMatchObject({outcome: 'failed', cause: {code: 'HANDOFF_STOPPED'}})
      expect(handoff.running()).toEqual([])
      expect(isRunning(daemon)).toBe(false)
      expectNothingLeft(started.runDir)
    } finally {
      writeFileSync(join(out, 'go'), '')
    }
  })

  test('I5 no extra variable and no key is in an argument, an environment, the result or what is kept', async () => {
    const out = folder()
    const printing = waitingPlaybook(out).concat(`
    - ansible.builtin.debug: {msg: "it is {{ nested.password }}"}
    - ansible.builtin.debug: {msg: "{{ lookup('file', '${join(root, 'handoff', 'id_ed25519')}') }}"}
    - ansible.builtin.debug: {msg: "{{ (nested.password | b64encode) ~ ingot.parameters.api_token }}"}
    - name: Fail with {{ nested.password }}
      ansible.builtin.fail: {msg: "cannot log in with {{ nested.password }}"}
`)
    const config = {playbook_yaml: printing, extra_vars: {nested: {password: CANARY}}}
    const started = run(config, {id: 'canary-machine', parameters: {api_token: 'canary-in-parameters'}})
    await until(() => existsSync(join(out, 'here')))
    const keyLine = readFileSync(join(root, 'handoff', 'id_ed25519'), 'utf8').split('\n')[2]!
    const seen = readdirSync('/proc')
      .filter(name => /^\d+$/.test(name) && Number(name) !== process.pid)
      .flatMap(name => [readIfThere(`/proc/${name}/cmdline`), readIfThere(`/proc/${name}/environ`)])
      .join('\n')
    expect(seen).toContain(started.runDir)
    expect(canariesIn(seen, keyLine)).toEqual([])
    expect(canariesIn(readFileSync(join(started.runDir, 'extra-vars.json'), 'utf8'), keyLine)).not.toEqual([])
    writeFileSync(join(out, 'go'), '')

    const result = await started.done
    expect(result.cause?.code).toBe('HANDOFF_FAILED')
    expect(result.cause?.detail).toContain('cannot log in with [redacted]')
    expect(result.outputTail).toContain('it is [redacted]')
    expect(canariesIn(JSON.stringify(result), keyLine)).toEqual([])
    const kept = join(root, 'handoff', 'kept', 'canary-machine')
    const files = readdirSync(kept, {recursive: true, withFileTypes: true}).filter(entry => entry.isFile())
    expect(files.map(file => file.name).sort()).toEqual(['output.txt', 'result.json'])
    for (const file of files) expect(canariesIn(readFileSync(join(file.parentPath, file.name), 'utf8'), keyLine)).toEqual([])
    expectNothingLeft(started.runDir)
  })

  test('the inventory script answers --list and --host', async () => {
    const out = folder()
    const started = run({playbook_yaml: waitingPlaybook(out)})
    await until(() => existsSync(join(out, 'here')))
    const ask = (...args: string[]) => JSON.parse(execFileSync(join(started.runDir, 'inventory'), args, {encoding: 'utf8'}))
    const list = ask('--list')
    expect(list.ingot).toEqual({hosts: ['node1.example']})
    expect(ask('--host', 'node1.example')).toEqual(list._meta.hostvars['node1.example'])
    expect(ask('--host', 'another')).toEqual({})
    expect(ask('--host', '../../inventory')).toEqual({})
    writeFileSync(join(out, 'go'), '')
    expect(await started.done).toMatchObject({outcome: 'done'})
  })

  test('a run whose Ingot was killed is ended and removed when the next one starts', async () => {
    const out = folder()
    const dir = join(root, 'orphans')
    mkdirSync(dir)
    writeFileSync(
      join(dir, 'order.json'),
      JSON.stringify({config: {kind: 'ansible', playbook_yaml: waitingPlaybook(out)}, machine: machine()}),
    )
    mkdirSync(join(dir, 'handoff'), {mode: 0o700})
    writeFileSync(join(dir, 'handoff', 'id_ed25519'), readFileSync(join(root, 'handoff', 'id_ed25519')), {mode: 0o600})
    const ingot = spawn(process.execPath, ['--input-type=module', '-e', childProgram(dir)], {stdio: 'inherit'})
    try {
      await until(() => existsSync(join(out, 'here')))
      const runDir = join(dir, 'handoff', 'active', 'orphan')
      const ended = new Promise(resolve => ingot.once('exit', resolve))
      ingot.kill('SIGKILL')
      await ended
      expect(processesOf(runDir)).not.toEqual([])
      const next = createHandoff({dir: join(dir, 'handoff'), log: createLog('handoff', 'silent'), clock: systemClock})
      expect(await next.reclaim()).toEqual(['orphan'])
      expectNothingLeft(runDir)
      expect(readdirSync(join(dir, 'handoff', 'active'))).toEqual([])
    } finally {
      ingot.kill('SIGKILL')
      writeFileSync(join(out, 'go'), '')
    }
  })
})

let runs = 0
function nextRunId(): string {
  runs += 1
  return `run-${runs}`
}

/** Leaves a daemon on the control host, says that it is there, and waits until told to go on. */
function waitingPlaybook(out: string): string {
  const loop = `while [ -d ${out} ] && [ ! -e ${out}/go ]; do sleep 0.1; done`
  return `
- hosts: all
  gather_facts: false
  tasks:
    - name: Leave a daemon
      ansible.builtin.shell: "setsid sh -c 'echo $$ > ${out}/daemon; ${loop}' > /dev/null 2>&1 < /dev/null & until test -s ${out}/daemon; do sleep 0.1; done"
      delegate_to: localhost
      vars: {ansible_connection: local}
    - name: Say so
      ansible.builtin.copy: {dest: "${out}/here", content: x}
    - name: Wait for the end
      ansible.builtin.shell: "${loop}"
`
}

function childProgram(dir: string): string {
  const at = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)
  return `
import {readFileSync} from 'node:fs'
import {createHandoff} from ${at('../../services/handoff/index.ts')}
import {systemClock} from ${at('../../lib/clock.ts')}
import {createLog} from ${at('../../lib/log.ts')}
const order = JSON.parse(readFileSync(${JSON.stringify(join(dir, 'order.json'))}, 'utf8'))
const handoff = createHandoff({dir: ${JSON.stringify(join(dir, 'handoff'))}, log: createLog('handoff', 'silent'), clock: systemClock})
await handoff.start({runId: 'orphan', ...order}).done
`
}

function makeHostKey(root: string, name: string): string {
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'host', '-f', join(root, name)])
  return readFileSync(join(root, `${name}.pub`), 'utf8').trim()
}

async function startSshd(root: string, port: number, hostKey = 'host_key'): Promise<ChildProcess> {
  // sshd wants its privilege separation directory even when it runs aside of the system's.
  if (userInfo().uid === 0) mkdirSync('/run/sshd', {recursive: true, mode: 0o755})
  const config = join(root, `sshd_config.${port}`)
  writeFileSync(
    config,
    `ListenAddress 127.0.0.1\nPort ${port}\nHostKey ${root}/${hostKey}\nAuthorizedKeysFile ${root}/authorized_keys\nStrictModes no
UsePAM no\nPasswordAuthentication no\nPidFile none\nSubsystem sftp internal-sftp\nLogLevel FATAL\n`,
  )
  const sshd = spawn(SSHD, ['-D', '-e', '-f', config], {stdio: ['ignore', 'ignore', 'inherit']})
  await until(() => {
    if (sshd.exitCode !== null) throw new Error(`sshd ended with ${sshd.exitCode}`)
    return readFileSync('/proc/net/tcp', 'latin1').includes(
      `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A`,
    )
  })
  return sshd
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const {port} = server.address() as {port: number}
      server.close(() => resolve(port))
    })
  })
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited in vain: ${holds}`)
    await new Promise(resolve => setTimeout(resolve, 25))
  }
}

function expectNothingLeft(runDir: string): void {
  expect(processesOf(runDir)).toEqual([])
  expect(existsSync(runDir)).toBe(false)
  expect(existsSync(`${runDir}.owner`)).toBe(false)
}

function isRunning(pid: number): boolean {
  return !/^$|\) [ZX] /.test(readIfThere(`/proc/${pid}/stat`))
}

function canariesIn(text: string, keyLine: string): string[] {
  const ascii = CANARY.slice(0, 11)
  return [ascii, CANARY, 'canary-in-parameters', keyLine, Buffer.from(CANARY).toString('base64')].filter(one =>
    text.includes(one),
  )
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
