/** The boot listener against what a hostile boot network sends it, and against a database that hangs. */
import {request as httpRequest} from 'node:http'
import {type AddressInfo, connect} from 'node:net'
import {sql} from 'kysely'
import {afterAll, beforeAll, describe, expect, it, onTestFinished} from 'vitest'
import type {Mac} from '../../lib/addresses.ts'
import {sleep, systemClock} from '../../lib/clock.ts'
import {createDb, withTx} from '../../lib/db.ts'
import {createLog} from '../../lib/log.ts'
import {createBoot} from '../../services/boot/index.ts'
import {attemptToken, windowToken} from '../../services/boot/token.ts'
import {createEvidence} from '../../services/evidence/index.ts'
import {createClaims} from '../../services/lifecycle/index.ts'
import {createLifecycleWorld, type LifecycleWorld} from '../support/lifecycle-world.ts'

const MAC = '52:54:00:b0:00:01' as Mac
const log = createLog('test', 'silent')

let world: LifecycleWorld
let port: number
beforeAll(async () => {
  world = await createLifecycleWorld({worker: false})
  port = Number(new URL(world.bootUrl).port)
  await world.declare(MAC)
})
afterAll(() => world.close())

type Answer = {status: number; headers: Record<string, unknown>; text: string}

/** As it is written: no URL is tidied up on the way. */
function ask(
  method: string,
  path: string,
  how: {headers?: Record<string, string>; body?: string | Uint8Array; to?: number} = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({host: '127.0.0.1', port: how.to ?? port, method, path, headers: how.headers ?? {}, agent: false})
    sent.on('error', reject)
    sent.on('response', response => {
      const chunks: Buffer[] = []
      response.on('data', chunk => chunks.push(chunk as Buffer))
      response.on('error', reject)
      response.on('end', () =>
        resolve({status: response.statusCode ?? 0, headers: response.headers, text: Buffer.concat(chunks).toString('latin1')}),
      )
    })
    sent.end(how.body)
  })
}

/** Sends bytes and never ends. Resolves with what came back, once the other side has closed. */
function hang(head: string, drip?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(head))
    const timer = setInterval(() => drip && socket.write(drip), 500)
    const limit = setTimeout(() => {
      socket.destroy()
      reject(new Error('it was never closed'))
    }, 60_000)
    socket.on('data', chunk => {
      got += chunk.toString('latin1')
    })
    // A reset is a close like any other.
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      clearInterval(timer)
      clearTimeout(limit)
      resolve(got)
    })
  })
}

const key = async () => {
  await world.netboot(MAC)
  await sql`INSERT INTO boot_keys (id, key) VALUES (1, ${Buffer.alloc(32, 1)}) ON CONFLICT DO NOTHING`.execute(world.db)
  return (await world.db.selectFrom('boot_keys').select('key').executeTakeFirstOrThrow()).key
}

/** A machine whose job has powered it and waits for it to fetch its installer. */
async function aboutToInstall(mac: string) {
  const machine = await world.declare(mac, {silent: true})
  await world.place(machine.id, 'available')
  const job = await withTx(world.db, tx =>
    world.lifecycle.provision(tx, machine.id, {template: 'debian/12', image: 'debian-12'}, 'test'),
  )
  await world.db.updateTable('attempts').set({powered_at: new Date()}).where('fence', '=', job.fence).execute()
  return {machine, job}
}

const served = async (fence: number) =>
  (await world.db.selectFrom('attempts').select('served_at').where('fence', '=', fence).executeTakeFirstOrThrow()).served_at

describe('the boot listener', () => {
  it('F26 gives no byte that is not named by the manifest', async () => {
    for (const path of [
      '/artefacts/../../../../etc/passwd',
      '/artefacts/..%2f..%2f..%2fetc%2fpasswd',
      '/artefacts/%2e%2e/%2e%2e/etc/passwd',
      '/artefacts/..\\..\\etc\\passwd',
      '/artefacts/%00',
      `/artefacts/${'0'.repeat(64)}`,
      `/artefacts/${'0'.repeat(64)}/../manifest.json`,
      '/artefacts/manifest.json',
      '/artefacts/',
      '/artefacts/__proto__',
      '/loaders/../ramdisk/vmlinuz',
      '/loaders/..%2framdisk%2fvmlinuz',
      '/loaders/constructor',
      '/loaders/',
      '//artefacts/x',
      'http://other/etc/passwd',
    ]) {
      const answer = await ask('GET', path)
      expect([path, answer.status]).toEqual([path, 404])
      expect(answer.text).not.toContain('root:')
    }
    const {sha256} = world.services.artefacts.lookup('ramdisk/vmlinuz')!
    expect(await ask('GET', `/artefacts/${sha256}`)).toMatchObject({status: 200, text: 'content of ramdisk/vmlinuz'})
    expect(await ask('HEAD', `/artefacts/${sha256}`)).toMatchObject({status: 200, text: ''})
    expect(await ask('GET', `/artefacts/${sha256}`, {headers: {range: 'bytes=0-6'}})).toMatchObject({
      status: 206,
      text: 'content',
    })
    expect((await ask('GET', `/artefacts/${sha256}`, {headers: {range: 'bytes=999-'}})).status).toBe(416)
  })

  it('serves one machine by each way of writing its MAC, and refuses what is none', async () => {
    for (const text of ['52-54-00-b0-00-01', '52:54:00:b0:00:01', '52:54:00:B0:00:01', '525400b00001'])
      expect([text, (await ask('GET', `/ipxe/${text}`)).status]).toEqual([text, 200])
    for (const text of [
      '',
      '52-54-00',
      '52:54-00:b0:00:01',
      '00-00-00-00-00-00',
      'ff-ff-ff-ff-ff-ff',
      'x',
      '52-54-00-b0-00-01/..',
      '%35%32',
    ])
      expect([text, (await ask('GET', `/ipxe/${text}`)).status]).toEqual([text, 400])
    expect((await ask('GET', '/ipxe/52-54-00-b0-ff-ff?uuid=%00&product=%0a')).status).toBe(404)
  })

  it('answers no method but those of its routes', async () => {
    for (const [method, path] of [
      ['POST', '/boot.ipxe'],
      ['PUT', '/artefacts/x'],
      ['DELETE', '/ramdisk/claim'],
      ['GET', '/ramdisk/claim'],
      ['GET', '/first-boot'],
      ['TRACE', '/boot.ipxe'],
      ['OPTIONS', '/healthz'],
    ] as const) {
      const answer = await ask(method, path)
      expect([method, path, answer.status]).toEqual([method, path, 405])
      expect(answer.headers.allow).toBeDefined()
    }
    expect((await ask('GET', '/v1/machines')).status).toBe(404)
    expect(await hang('CONNECT other:80 HTTP/1.1\r\nhost: x\r\n\r\n')).toBe('')
  })

  it('uses up no installer for a HEAD, and serves it once for a GET', async () => {
    const {job} = await aboutToInstall('52:54:00:b0:00:02')
    expect((await ask('HEAD', '/ipxe/52-54-00-b0-00-02')).status).toBe(405)
    expect(await served(job.fence)).toBeNull()
    expect((await ask('GET', '/ipxe/52-54-00-b0-00-02')).text).toContain('kernel')
    expect(await served(job.fence)).not.toBeNull()
    expect((await ask('GET', '/ipxe/52-54-00-b0-00-02')).text).not.toContain('kernel')
  })

  it('puts into a script no host that is none, and no line of a client’s', async () => {
    expect((await ask('GET', '/boot.ipxe', {headers: {host: 'ingot.example:8480'}})).text).toContain(
      'http://ingot.example:8480/ipxe/',
    )
    for (const host of ['a b', 'a\tkernel', '$(x)', '${net0/mac}', 'x||y', 'a"b', `${'h'.repeat(300)}`])
      expect((await ask('GET', '/boot.ipxe', {headers: {host}})).text).toContain(`http://127.0.0.1:${port}/ipxe/`)
  })

  it('F21 refuses a body that is too large, too deep or no JSON before anything is kept of it', async () => {
    const window = await withTx(world.db, tx =>
      world.inventory.openWindow(tx, {
        prefixId: world.prefix.id,
        until: new Date(Date.now() + 600_000),
        clean: false,
        createdBy: 'test',
      }),
    )
    const headers = {authorization: `Bearer ${windowToken(await key(), window.id, '52:54:00:b0:00:09')}`}
    const bodies: [string, number, string][] = [
      ['x'.repeat(1024 * 1024 + 1), 413, 'BODY_TOO_LARGE'],
      [`${'{"a":'.repeat(40)}1${'}'.repeat(40)}`, 400, 'BODY_TOO_DEEP'],
      ['['.repeat(1_000_000), 400, 'BODY_TOO_DEEP'],
      ['{"a":', 400, 'INVALID_INPUT'],
      ['[]', 400, 'INVALID_INPUT'],
      ['null', 400, 'INVALID_INPUT'],
      ['', 400, 'INVALID_INPUT'],
    ]
    for (const [body, status, cause] of bodies) {
      const answer = await ask('POST', '/ramdisk/facts', {headers, body})
      expect([body.slice(0, 20), answer.status, answer.text]).toEqual([body.slice(0, 20), status, `refused ${cause}\n`])
    }
    const chunked = await ask('POST', '/ramdisk/facts', {
      headers: {...headers, 'transfer-encoding': 'chunked'},
      body: 'y'.repeat(2_000_000),
    }).catch(error => ({status: (error as NodeJS.ErrnoException).code}))
    // Whoever still sends when the socket closes may see that before the answer.
    expect([413, 'ECONNRESET', 'EPIPE']).toContain(chunked.status)
    expect((await ask('POST', '/ramdisk/hello', {headers, body: '{"mac":"no","firmware":"bios"}'})).status).toBe(400)
    expect((await ask('POST', '/ramdisk/hello', {headers, body: '{"mac":"52:54:00:b0:00:08","firmware":"bios"}'})).text).toBe(
      'refused WRONG_MACHINE\n',
    )
    expect(await world.db.selectFrom('evidence').select('kind').where('mac', '=', '52:54:00:b0:00:09').execute()).toEqual([])
    await withTx(world.db, tx => world.inventory.closeWindow(tx, window.id, new Date()))
  })

  it('refuses whoever has no token before reading what he sends, and closes', async () => {
    for (const authorization of [
      '',
      'Bearer',
      'Bearer x',
      'Basic YTpi',
      `Bearer ${attemptToken(Buffer.alloc(32, 9), 1, 'install')}`,
    ])
      expect((await ask('POST', '/ramdisk/facts', {headers: {authorization}, body: '{}'})).status).toBe(401)
    expect(await hang('POST /ramdisk/facts HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n', 'x')).toContain('401')
  })

  it('F13 closes on clients that send nothing, a head without end, a head that is too large, or half a body', async () => {
    const window = await withTx(world.db, tx =>
      world.inventory.openWindow(tx, {
        prefixId: world.prefix.id,
        until: new Date(Date.now() + 600_000),
        clean: false,
        createdBy: 'test',
      }),
    )
    const token = windowToken(await key(), window.id, '52:54:00:b0:00:09')
    const loris = Array.from({length: 100}, () => hang('GET /boot.ipxe HTTP/1.1\r\nhost: x\r\n', 'x-more: 1\r\n'))
    const others = [
      hang(''),
      hang(`GET /boot.ipxe HTTP/1.1\r\nhost: x\r\nx-large: ${'y'.repeat(20_000)}\r\n\r\n`),
      hang('not http at all\r\n\r\n'),
      hang(`POST /ramdisk/facts HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-length: 900000\r\n\r\n{`),
    ]
    expect((await ask('GET', '/healthz')).text).toBe('ok\n')
    await Promise.all([...loris, ...others])
    await withTx(world.db, tx => world.inventory.closeWindow(tx, window.id, new Date()))
  })

  it('says nothing of a client that went away in the middle of its body', async () => {
    const said: string[] = []
    const listening = createBoot({
      ...world.services,
      claims: world.claims,
      log: {
        ...log,
        warn: (...line: unknown[]) => said.push(JSON.stringify(line)),
        error: (...line: unknown[]) => said.push(JSON.stringify(line)),
        info: () => undefined,
        debug: () => undefined,
      } as never,
    })
    await new Promise<void>(resolve => listening.server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      listening.server.closeAllConnections()
      listening.server.close()
    })
    const {job} = await aboutToInstall('52:54:00:b0:00:03')
    const token = attemptToken(await key(), job.fence, 'install')
    const socket = connect((listening.server.address() as AddressInfo).port, '127.0.0.1')
    socket.write(
      `POST /ramdisk/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-length: 50\r\n\r\n{"kind"`,
    )
    await sleep(300)
    socket.destroy()
    await sleep(300)
    expect(said).toEqual([])
  })
})

describe('a database that hangs', () => {
  it('sends a machine to its disk, promptly, and leaves its installer unserved', async () => {
    const db = createDb({url: world.url, applicationName: 'test-slow-boot', statementTimeoutMs: 5_000, log})
    const evidence = createEvidence({db})
    const boot = createBoot({
      db,
      evidence,
      claims: createClaims({db, evidence}),
      artefacts: world.services.artefacts,
      clock: systemClock,
      log,
    })
    await new Promise<void>(resolve => boot.server.listen(0, '127.0.0.1', resolve))
    onTestFinished(async () => {
      boot.server.closeAllConnections()
      boot.server.close()
      await db.destroy()
    })
    const to = (boot.server.address() as AddressInfo).port
    const {job} = await aboutToInstall('52:54:00:b0:00:04')
    await key()
    const release = Promise.withResolvers<void>()
    const locked = Promise.withResolvers<void>()
    const hanging = world.db.transaction().execute(async tx => {
      await sql`LOCK TABLE machine_states IN ACCESS EXCLUSIVE MODE`.execute(tx)
      locked.resolve()
      await release.promise
    })
    await locked.promise
    const answers = await Promise.all([ask('GET', '/ipxe/52-54-00-b0-00-04', {to}), ask('GET', '/ipxe/52-54-00-b0-00-01', {to})])
    release.resolve()
    await hanging
    for (const answer of answers) {
      expect(answer.status).toBe(200)
      expect(answer.text).toMatch(/the database does not answer[^\n]*\nexit 1\n$/)
    }
    expect(await served(job.fence)).toBeNull()
    expect((await ask('GET', '/ipxe/52-54-00-b0-00-04', {to})).text).toContain('kernel')
  })
})
