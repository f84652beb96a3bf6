/** The supervisor and its children as processes: what they get, what they may, and what is left when one is killed. */
import {execFileSync, spawn} from 'node:child_process'
import {createHash} from 'node:crypto'
import {once} from 'node:events'
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import {get} from 'node:http'
import {type AddressInfo, createServer} from 'node:net'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {setTimeout as pause} from 'node:timers/promises'
import {afterAll, afterEach, beforeAll, describe, expect, it} from 'vitest'
import {silentLog} from '../../lib/log.ts'
import {startEmbeddedPostgres} from '../../services/supervisor/embedded-postgres.ts'
import {testAccount} from '../support/database.ts'
import {eventually, isRunning, type Started, startScript} from '../support/processes.ts'
import {createStateDirs, type StateDirs} from '../support/state-dir.ts'

type Report = {
  role: string
  services: string[]
  pid: number
  preparedAs: number
  uid: number
  gid: number
  groups: number[]
  environment: string[]
  sockets: {kind: string; fd: number}[]
  sealingKey?: string
  readsKeys: boolean
}
type Told = {ready?: boolean; postgres: number; adopted: boolean; code?: string; detail?: string; mend?: string}

const root = process.getuid?.() === 0
const account = testAccount()
const supervisorScript = path('run-supervisor.ts')
const cleanups: (() => Promise<unknown> | unknown)[] = []
let states: StateDirs

beforeAll(async () => {
  states = await createStateDirs()
})

afterEach(async () => {
  // All of them, whatever one throws: a process that is left behind spoils the next test.
  const outcomes: PromiseSettledResult<unknown>[] = []
  for (const clean of cleanups.splice(0).reverse()) outcomes.push(...(await Promise.allSettled([(async () => await clean())()])))
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
})

afterAll(() => states.remove())

describe('children', () => {
  it.skipIf(!root)('load their code as root, then serve as an unprivileged user without any capability', async () => {
    const place = await makePlace()
    await ready(startSupervisor(place))
    for (const report of [await ask(place.boot), await ask(place.api)]) {
      expect(report).toMatchObject({preparedAs: 0, uid: account.uid, gid: account.gid, readsKeys: false})
      expect(report.groups.filter(group => group !== account.gid)).toEqual([])
      const status = readFileSync(`/proc/${report.pid}/status`, 'utf8')
      expect(status).toMatch(/^CapEff:\s+0+$/m)
      expect(status).toMatch(/^CapPrm:\s+0+$/m)
      expect(status).toMatch(/^NoNewPrivs:\s+1$/m)
    }
  })

  it.skipIf(!root)('get PATH, LANG and INGOT_LOG of the environment, and nothing else', async () => {
    const place = await makePlace()
    const canary = {SECRET_CANARY: 'never-to-be-seen', LANG: 'C.UTF-8', INGOT_LOG: 'info', NODE_OPTIONS: '--no-warnings'}
    await ready(startSupervisor(place, {env: canary}))
    for (const report of [await ask(place.boot), await ask(place.api)]) {
      expect([...report.environment].sort()).toEqual(['INGOT_LOG', 'LANG', 'PATH'])
      expect(readFileSync(`/proc/${report.pid}/environ`, 'latin1')).not.toContain('never-to-be-seen')
    }
  })

  it.skipIf(!root)(
    'F24 hold the sealing key in control alone: wire has it in no argument, environment, descriptor or memory',
    async () => {
      const place = await makePlace()
      await ready(startSupervisor(place))
      const key = readFileSync(join(place.state, 'keys', 'sealing.key'))
      expect(key.length).toBe(32)
      expect(statSync(join(place.state, 'keys', 'sealing.key'))).toMatchObject({uid: 0, mode: 0o100600})
      const [wire, control] = [await ask(place.boot), await ask(place.api)]
      expect(wire.sealingKey).toBeUndefined()
      expect(control.sealingKey).toBe(createHash('sha256').update(key).digest('hex'))
      expect(memoryHolds(control.pid, key)).toBe(true)
      expect(memoryHolds(wire.pid, key)).toBe(false)
      for (const {pid} of [wire, control]) {
        const shown = readFileSync(`/proc/${pid}/cmdline`, 'latin1') + readFileSync(`/proc/${pid}/environ`, 'latin1')
        expect(shown).not.toContain(key.toString('latin1'))
        expect(shown).not.toContain(key.toString('hex'))
      }
      // The same user must not be able to read it out of the other process either.
      expect(statSync(`/proc/${control.pid}/mem`).uid).toBe(0)
    },
  )

  it.skipIf(!root)('get exactly the sockets of their services', async () => {
    const place = await makePlace()
    await ready(startSupervisor(place))
    const [wire, control] = [await ask(place.boot), await ask(place.api)]
    expect(wire.sockets.map(socket => socket.kind)).toEqual(['boot'])
    expect(control.sockets.map(socket => socket.kind)).toEqual(['api', 'api'])
    const listening = (pid: number) => inodesOfListeners(pid, [place.boot, place.api])
    expect([listening(wire.pid), listening(control.pid)]).toEqual([[place.boot], [place.api]])
  })

  it.skipIf(!root)('do not get what the one who started Ingot left open', async () => {
    const place = await makePlace()
    const leaked = openSync('/dev/zero', 'r')
    cleanups.push(() => closeSync(leaked))
    const started = startScript(supervisorScript, [place.state], {
      through: ['/bin/sh', '-c', `exec 7</dev/zero; exec "$@"`, 'sh'],
    })
    stopAfterwards(started, place)
    await ready(started)
    expect(linksOf(started.pid)).toContain('/dev/zero')
    const wire = await ask(place.boot)
    expect(linksOf(wire.pid)).not.toContain('/dev/zero')
  })

  it('exist only for the services that are asked for', async () => {
    const place = await makePlace()
    const started = startSupervisor(place, {services: 'boot'})
    await ready(started)
    expect((await ask(place.boot)).services).toEqual(['boot'])
    await expect(ask(place.api)).rejects.toThrow('ECONNREFUSED')
    expect(childrenOf(started.pid).filter(name => name.startsWith('ingot'))).toEqual(['ingot wire'])
  })

  it.skipIf(!root)('run code that their user may not read: a checkout under /root', async () => {
    const place = await makePlace()
    const closed = mkdtempSync(join(tmpdir(), 'ingot-closed-'))
    cleanups.push(() => rmSync(closed, {recursive: true, force: true}))
    mkdirSync(join(closed, 'inside'))
    writeFileSync(join(closed, 'inside', 'part.ts'), `export const word: string = 'part'\n`)
    writeFileSync(
      join(closed, 'inside', 'role.ts'),
      `import {word} from './part.ts'
       import {createServer} from 'node:http'
       import {accessSync} from 'node:fs'
       export async function prepare(start: {sockets: {kind: string; fd: number}[]}) {
         return {async start() {
           let readable = true
           try { accessSync(${JSON.stringify(join(closed, 'inside'))}) } catch { readable = false }
           const server = createServer((_, response) => response.end(JSON.stringify({word, readable})))
           for (const {fd} of start.sockets.filter(({kind}) => kind === 'boot')) await new Promise(done => server.listen({fd}, done as () => void))
           return {stop: async () => undefined}
         }}
       }\n`,
    )
    chmodSync(closed, 0o700)
    await ready(startSupervisor(place, {services: 'boot', module: `file://${closed}/inside/role.ts`}))
    expect(await ask(place.boot)).toEqual({word: 'part', readable: false})
  })
})

describe('a child that dies', () => {
  it('is started again, and a connection that was made meanwhile is answered by the next', async () => {
    const place = await makePlace()
    await ready(startSupervisor(place))
    const before = await ask(place.boot)
    process.kill(before.pid, 'SIGKILL')
    await eventually('its end', () => !isRunning(before.pid))
    const after = await ask(place.boot)
    expect(after.pid).not.toBe(before.pid)
    expect(after.uid).toBe(before.uid)
  })

  it('by an unexpected fault of its own is started again, and the other one never notices', async () => {
    const place = await makePlace()
    const started = startSupervisor(place)
    await ready(started)
    const [wire, control] = [await ask(place.boot), await ask(place.api)]
    await ask(place.boot, '/crash').catch(() => undefined)
    const after = await eventually('another wire', async () => {
      const report = await ask(place.boot).catch(() => undefined)
      return report?.pid !== wire.pid && report
    })
    expect(after.role).toBe('wire')
    expect((await ask(place.api)).pid).toBe(control.pid)
    expect(started.output()).toContain('asked to')
  })
})

describe('a supervisor', () => {
  it('F1 killed by SIGKILL leaves no child behind; the next one takes over its database', async () => {
    const place = await makePlace()
    const first = startSupervisor(place)
    const told = await ready(first)
    const pids = [(await ask(place.boot)).pid, (await ask(place.api)).pid]
    await first.kill()
    for (const pid of pids) await eventually(`the end of ${pid}`, () => !isRunning(pid))
    expect(isRunning(told.postgres)).toBe(true)
    const second = await ready(startSupervisor(place))
    expect(second).toMatchObject({postgres: told.postgres, adopted: true})
    expect((await ask(place.boot)).role).toBe('wire')
  })

  it('killed by SIGKILL takes even a child with it that hears nothing any more', async () => {
    const place = await makePlace()
    const started = startSupervisor(place)
    await ready(started)
    const {pid} = await ask(place.boot)
    process.kill(pid, 'SIGSTOP')
    await started.kill()
    await eventually('the end of the stopped child', () => !isRunning(pid))
  })

  it('stops everything in order at SIGTERM', async () => {
    const place = await makePlace()
    const started = startSupervisor(place)
    const told = await ready(started)
    const pids = [(await ask(place.boot)).pid, (await ask(place.api)).pid, told.postgres]
    started.child.kill('SIGTERM')
    expect(await started.exited).toEqual({code: 0, signal: null})
    expect(pids.filter(isRunning)).toEqual([])
  })

  it('F28 refuses a state directory that another one holds, names it, and does it no harm', async () => {
    const place = await makePlace()
    const first = startSupervisor(place)
    await ready(first)
    const second = startSupervisor({...place, ...(await freePorts())})
    expect(await second.json<Told>()).toMatchObject({
      code: 'DATABASE_LOCKED',
      detail: expect.stringContaining(`pid ${first.pid}`),
    })
    expect((await second.exited).code).toBe(1)
    expect((await ask(place.boot)).role).toBe('wire')
    expect((await ask(place.api)).role).toBe('control')
  })

  it('refuses a busy port, names its holder, and leaves nothing running', async () => {
    const place = await makePlace()
    const holder = createServer()
    await new Promise<void>(resolve => holder.listen(place.boot, '127.0.0.1', resolve))
    cleanups.push(() => new Promise(resolve => holder.close(resolve)))
    const told = await startSupervisor(place).json<Told>()
    expect(told.code).toBe('PREFLIGHT_FAILED')
    expect(told.detail).toContain(`127.0.0.1:${place.boot}`)
    expect(told.detail).toContain(`(pid ${process.pid})`)
    // Refused before the database was touched, and without the lock.
    await ready(startSupervisor({...place, ...(await freePorts(place))}))
  })

  it('refuses a network interface that does not exist, and tells which there are', async () => {
    const place = await makePlace({interfaces: [{name: 'nowhere0'}]})
    const told = await startSupervisor(place).json<Told>()
    expect(told).toMatchObject({
      code: 'PREFLIGHT_FAILED',
      detail: expect.stringContaining('nowhere0'),
      mend: expect.stringContaining('lo'),
    })
  })

  it('refuses a sealing key that others may read', async () => {
    const place = await makePlace()
    mkdirSync(join(place.state, 'keys'))
    writeFileSync(join(place.state, 'keys', 'sealing.key'), Buffer.alloc(32), {mode: 0o644})
    expect(await startSupervisor(place).json<Told>()).toMatchObject({
      code: 'PREFLIGHT_FAILED',
      detail: expect.stringContaining('read by others'),
    })
  })
})

describe.skipIf(!root)('the DHCP socket', () => {
  it('is answered by an unprivileged child, by broadcast, on its own interface only', async () => {
    const [server, client] = makeNetwork()
    const place = await makePlace({interfaces: [{name: 'served0'}]})
    const started = startSupervisor(place, {services: 'dhcpd,boot', through: ['ip', 'netns', 'exec', server]})
    await ready(started)
    const inside = {through: ['ip', 'netns', 'exec', client]}
    const asking = startScript(path('broadcast.ts'), ['served0', 'hello'], inside)
    cleanups.push(() => asking.kill())
    expect(await asking.json()).toEqual({answer: `hello to uid ${account.uid}`, from: '10.99.0.1', port: 67})
    const aside = startScript(path('broadcast.ts'), ['aside0', 'hello'], inside)
    cleanups.push(() => aside.kill())
    // Evidence rather than a pause: by the time a second exchange is over, the first packet of the other interface was long there.
    const again = startScript(path('broadcast.ts'), ['served0', 'again'], inside)
    cleanups.push(() => again.kill())
    await again.json()
    await pause(500)
    expect(aside.output()).toBe('')
    expect(receivedPackets(server, 'aside0')).toBeGreaterThan(0)
  })

  it('is refused, naming the holder, when another DHCP server has the interface', async () => {
    const [server] = makeNetwork()
    const place = await makePlace({interfaces: [{name: 'served0'}]})
    const options = {services: 'dhcpd', through: ['ip', 'netns', 'exec', server]}
    const first = startSupervisor(place, options)
    await ready(first)
    const other = await makePlace({interfaces: [{name: 'served0'}]})
    const told = await startSupervisor(other, options).json<Told>()
    expect(told.code).toBe('PREFLIGHT_FAILED')
    expect(told.detail).toMatch(/udp 0\.0\.0\.0:67 on served0 is held by .*\(pid \d+\)/)
    expect(told.detail).toContain(`pid ${first.pid}`)
  })
})

describe.skipIf(!root)('the proxyDHCP socket', () => {
  it('W48 is refused, naming the holder, when another has port 4011, with or without the interface', async () => {
    const [server] = makeNetwork()
    const hold = "require('dgram').createSocket('udp4').bind(4011, () => console.log('held'))"
    const holder = spawn('ip', ['netns', 'exec', server, process.execPath, '-e', hold], {stdio: ['ignore', 'pipe', 'inherit']})
    cleanups.push(() => holder.kill('SIGKILL'))
    await once(holder.stdout, 'data')
    const place = await makePlace({interfaces: [{name: 'served0'}]})
    const started = startSupervisor(place, {services: 'dhcpd', through: ['ip', 'netns', 'exec', server]})
    const told = await started.json<Told>()
    expect(told.code).toBe('PREFLIGHT_FAILED')
    expect(told.detail).toMatch(new RegExp(`udp 0\\.0\\.0\\.0:4011 on served0 is held by .*\\(pid ${holder.pid}\\)`))
  })
})

describe.skipIf(!root)('the router advertisement socket', () => {
  it('sends what is written to it to all nodes of its link, with hop limit 255 and a right checksum', async () => {
    const [server, client] = makeNetwork()
    const seen = spawn(
      'ip',
      ['netns', 'exec', client, 'tcpdump', '-i', 'served0', '-nvv', '-l', '-c', '1', 'icmp6 and ip6[40] = 134'],
      {
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    )
    cleanups.push(() => seen.kill('SIGKILL'))
    let packet = ''
    seen.stdout.on('data', chunk => {
      packet += chunk
    })
    execFileSync('ip', ['-n', server, 'addr', 'add', 'fe80::77/64', 'dev', 'served0', 'nodad'])
    const sending = startScript(path('advertise.ts'), ['served0'], {through: ['ip', 'netns', 'exec', server]})
    cleanups.push(() => sending.kill())
    expect(await sending.json()).toEqual({opened: true})
    await eventually('the advertisement', () => packet.includes('router advertisement'))
    expect(packet).toMatch(/hlim 255/)
    expect(packet).toMatch(/> ff02::1: /)
    expect(packet).toMatch(/\[icmp6 sum ok\]/)
  })

  it('is not there, rather than an error, where IPv6 is off', async () => {
    const [server] = makeNetwork()
    const inside = ['ip', 'netns', 'exec', server]
    execFileSync('ip', [...inside.slice(1), 'sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/served0/disable_ipv6'])
    const asking = startScript(path('advertise.ts'), ['served0'], {through: inside})
    expect(await asking.json()).toEqual({opened: false})
    expect((await asking.exited).code).toBe(0)
  })
})

describe('ingot db', () => {
  it('backs up beside a running Ingot, and restores only while none runs', async () => {
    const place = await makePlace()
    const running = startSupervisor(place)
    await ready(running)
    const file = join(place.state, 'backup')
    expect(await runIngot('db', 'backup', file, '--state', place.state)).toMatchObject({
      code: 0,
      output: expect.stringContaining('Backed up'),
    })
    const refused = await runIngot('db', 'restore', file, '--state', place.state)
    expect(refused.code).not.toBe(0)
    expect(refused.output).toContain(`pid ${running.pid}`)
    const other = await makePlace()
    const restored = await runIngot('db', 'restore', file, '--state', other.state)
    expect(restored).toMatchObject({code: 0, output: expect.stringMatching(/Restored \d+ rows/)})
    // It started a server for itself, and stopped it.
    expect(readdirSync(join(other.state, 'data'))).not.toContain('postmaster.pid')
    await ready(startSupervisor(other))
  })
})

describe('ingot serve', () => {
  it('answers on both listeners with the real roles, says so, and ends with exit code 0 at SIGTERM', async () => {
    const place = await makePlace()
    const started = startScript(path('run-serve.ts'), ['--state', place.state, '--services', 'boot,api'])
    stopAfterwards(started, place)
    await eventually(
      'what it says',
      () => started.output().includes('Ingot serves') || (!isRunning(started.pid) && fail(started)),
    )
    expect(await text(place.boot, '/healthz')).toMatch(/ok/)
    expect(await text(place.api, '/healthz')).toMatch(/ok/)
    expect(started.output()).toContain(`HTTP boot on 127.0.0.1:${place.boot}`)
    started.child.kill('SIGTERM')
    expect(await started.exited).toEqual({code: 0, signal: null})
  })

  it('waits for a database that is away instead of giving up, and ends when told to', async () => {
    const place = await makePlace({database_url: 'postgresql://ingot@127.0.0.1:1/ingot', sealing: true})
    const started = startScript(path('run-serve.ts'), ['--state', place.state, '--services', 'boot'])
    stopAfterwards(started, place)
    await eventually(
      'that it waits',
      () => started.output().includes('waiting for it') || (!isRunning(started.pid) && fail(started)),
    )
    started.child.kill('SIGTERM')
    await started.exited
    expect(isRunning(started.pid)).toBe(false)
  })
})

type Place = {state: string; boot: number; api: number}
type FileParts = {interfaces?: {name: string}[]; database_url?: string; sealing?: boolean}
const parts = new Map<string, FileParts>()

async function makePlace(file: FileParts = {}): Promise<Place> {
  const place = {state: states.make(), ...(await freePorts())}
  parts.set(place.state, file)
  writeConfig(place)
  return place
}

function writeConfig(place: Place): void {
  const {sealing: _, ...file} = parts.get(place.state) ?? {}
  const listen = {boot: {listen: `127.0.0.1:${place.boot}`}, api: {listen: `127.0.0.1:${place.api}`}}
  writeFileSync(join(place.state, 'ingot.json'), JSON.stringify({user: account.name, ...listen, ...file}))
}

function startSupervisor(
  place: Place,
  options: {services?: string; module?: string; env?: Record<string, string>; through?: string[]} = {},
): Started {
  writeConfig(place)
  const words = [place.state, options.services ?? 'dhcpd,boot,api,worker', ...(options.module ? [options.module] : [])]
  const started = startScript(supervisorScript, words, {
    ...(options.env && {env: options.env}),
    ...(options.through && {through: options.through}),
  })
  stopAfterwards(started, place)
  return started
}

/** Whatever a test does, neither the supervisor nor a database it left may outlive it. */
function stopAfterwards(started: Started, place: Place): void {
  cleanups.push(async () => {
    await started.kill()
    if (!readdirSync(join(place.state, 'data')).includes('postmaster.pid')) return
    const left = await startEmbeddedPostgres({stateDir: place.state, user: account.name, log: silentLog}).catch(error => {
      // Another supervisor of the same test holds it, and its own clean-up comes later.
      if (error.code !== 'DATABASE_LOCKED') throw error
    })
    await left?.stop()
  })
}

async function ready(started: Started): Promise<Told> {
  const told = await started.json<Told>()
  if (!told.ready) throw new Error(`${JSON.stringify(told)}\n${started.output()}`)
  return told
}

async function ask(port: number, url = '/'): Promise<Report> {
  return JSON.parse(await text(port, url)) as Report
}

/** On a connection of its own: no pool that remembers a dead child. */
function text(port: number, url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get({host: '127.0.0.1', port, path: url, agent: false}, response => {
      let all = ''
      response.on('data', chunk => {
        all += chunk
      })
      response.on('end', () => resolve(all))
      response.on('error', reject)
    })
    request.on('error', reject)
  })
}

async function freePorts(taken: Partial<Place> = {}): Promise<{boot: number; api: number}> {
  const servers = [createServer(), createServer()]
  for (const server of servers) await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const [boot = 0, api = 0] = servers.map(server => (server.address() as AddressInfo).port)
  for (const server of servers) await new Promise(resolve => server.close(resolve))
  return taken.boot === boot || taken.api === api ? await freePorts(taken) : {boot, api}
}

function linksOf(pid: number): string[] {
  return execFileSync('find', [`/proc/${pid}/fd`, '-type', 'l', '-printf', '%l\\n'], {encoding: 'utf8'}).split('\n')
}

function inodesOfListeners(pid: number, ports: number[]): number[] {
  const links = linksOf(pid)
  const rows = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map(line => line.trim().split(/\s+/))
  return ports.filter(port => {
    const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
    return rows.some(row => row[1]?.endsWith(suffix) && row[3] === '0A' && links.includes(`socket:[${row[9]}]`))
  })
}

function childrenOf(pid: number): string[] {
  const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
  return pids.map(child => readFileSync(`/proc/${child}/cmdline`, 'latin1').replaceAll('\0', ' ').trim())
}

/** Whether the bytes are anywhere in the writable memory of a process. */
function memoryHolds(pid: number, bytes: Buffer): boolean {
  const memory = openSync(`/proc/${pid}/mem`, 'r')
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? []
      if (from === undefined || to === undefined) continue
      if (regionHolds(memory, Number.parseInt(from, 16), Number.parseInt(to, 16), bytes)) return true
    }
    return false
  } finally {
    closeSync(memory)
  }
}

function regionHolds(memory: number, from: number, to: number, bytes: Buffer): boolean {
  const piece = Buffer.alloc(4 * 1024 * 1024)
  for (let at = from; at < to; at += piece.length - bytes.length) {
    const length = Math.min(piece.length, to - at)
    try {
      if (piece.subarray(0, readSync(memory, piece, 0, length, at)).includes(bytes)) return true
    } catch {
      // A guard page or a mapping that went away.
      return false
    }
  }
  return false
}

/** Two namespaces with two cables between them: served0 and aside0, 10.99.0.0/24 and 10.98.0.0/24. */
function makeNetwork(): [server: string, client: string] {
  const names: [string, string] = [`ingot-sv${process.pid}-s`, `ingot-sv${process.pid}-c`]
  const ip = (...words: string[]) => execFileSync('ip', words, {stdio: 'pipe'})
  for (const name of names) {
    ip('netns', 'add', name)
    cleanups.push(() => ip('netns', 'del', name))
    ip('-n', name, 'link', 'set', 'lo', 'up')
  }
  for (const [link, network] of [
    ['served0', '10.99.0'],
    ['aside0', '10.98.0'],
  ] as const) {
    ip('link', 'add', link, 'netns', names[0], 'type', 'veth', 'peer', 'name', link, 'netns', names[1])
    for (const [index, name] of names.entries()) {
      ip('-n', name, 'addr', 'add', `${network}.${index + 1}/24`, 'dev', link)
      ip('-n', name, 'link', 'set', link, 'up')
    }
  }
  return names
}

function receivedPackets(namespace: string, link: string): number {
  const text = execFileSync('ip', ['netns', 'exec', namespace, 'cat', '/proc/net/dev'], {encoding: 'utf8'})
  return Number(new RegExp(`${link}:\\s*\\d+\\s+(\\d+)`).exec(text)?.[1])
}

async function runIngot(...words: string[]): Promise<{code: number | null; output: string}> {
  const started = startScript(new URL('../../bin/ingot.ts', import.meta.url).pathname, words)
  const {code} = await started.exited
  return {code, output: started.output()}
}

function path(name: string): string {
  return new URL(`../support/${name}`, import.meta.url).pathname
}

function fail(started: Started): never {
  throw new Error(`it ended:\n${started.output()}`)
}
