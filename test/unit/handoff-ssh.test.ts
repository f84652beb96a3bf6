import {createPrivateKey, createPublicKey} from 'node:crypto'
import {mkdtempSync, readFileSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {createServer, type Server, type Socket} from 'node:net'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {afterEach, beforeEach, describe, expect, test} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {renderKnownHosts} from '../../services/handoff/known-hosts.ts'
import {waitForSsh} from '../../services/handoff/ssh-banner.ts'
import {ensureKeyPair, generatePrivateKey, publicKeyOf} from '../../services/handoff/ssh-key.ts'
import {classifySshFailure, renderSshConfig} from '../../services/handoff/ssh-master.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'how-'))
})
afterEach(() => rmSync(root, {recursive: true, force: true}))

describe("Ingot's own key", () => {
  test('is made once, readable by its owner alone', () => {
    const path = join(root, 'handoff', 'id_ed25519')
    const first = ensureKeyPair(path)
    expect(first.publicKey).toMatch(/^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43} ingot$/)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const text = readFileSync(path, 'utf8')
    expect(ensureKeyPair(path)).toEqual(first)
    expect(readFileSync(path, 'utf8')).toBe(text)
  })

  test('its public half belongs to its private half', () => {
    const text = generatePrivateKey()
    const file = Buffer.from(text.split('\n').slice(1, -2).join(''), 'base64')
    // The last string but the comment: 64 bytes, the seed and the public key again.
    const at = file.lastIndexOf(Buffer.from([0, 0, 0, 64]))
    const seed = file.subarray(at + 4, at + 36)
    const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed])
    const x = createPublicKey(createPrivateKey({key: pkcs8, format: 'der', type: 'pkcs8'})).export({format: 'jwk'}).x!
    const blob = Buffer.from(publicKeyOf(text).split(' ')[1]!, 'base64')
    expect(blob.subarray(-32)).toEqual(Buffer.from(x, 'base64url'))
    expect(file.subarray(at + 36, at + 68)).toEqual(Buffer.from(x, 'base64url'))
  })

  test('a key that it cannot use is refused instead of replaced', () => {
    const path = join(root, 'id_ed25519')
    writeFileSync(path, 'something else')
    expect(() => ensureKeyPair(path)).toThrow('not a private key in OpenSSH format')
    expect(readFileSync(path, 'utf8')).toBe('something else')
    const locked = Buffer.concat([Buffer.from('openssh-key-v1\0'), Buffer.from([0, 0, 0, 10]), Buffer.from('aes256-ctr')])
    const armour = (bytes: Buffer) =>
      `-----BEGIN OPENSSH PRIVATE KEY-----\n${bytes.toString('base64')}\n-----END OPENSSH PRIVATE KEY-----\n`
    expect(() => publicKeyOf(armour(locked))).toThrow('passphrase')
  })
})

describe('the known_hosts file', () => {
  const key = publicKeyOf(generatePrivateKey())
  const [type, base64] = key.split(' ') as [string, string]

  test('holds the reported keys for this address and port only', () => {
    expect(renderKnownHosts('192.0.2.1', 22, [key]).text).toBe(`192.0.2.1 ${type} ${base64}\n`)
    expect(renderKnownHosts('192.0.2.1', 2222, [key, `  ${key}\n`]).text).toBe(`[192.0.2.1]:2222 ${type} ${base64}\n`.repeat(2))
    expect(renderKnownHosts('2001:db8::1', 2222, [key]).text).toBe(`[2001:db8::1]:2222 ${type} ${base64}\n`)
    expect(renderKnownHosts('192.0.2.1', 22, [key]).fingerprints).toEqual([expect.stringMatching(/^SHA256:[A-Za-z0-9+/]{43}$/)])
  })

  test.each([
    ['with a marker', `@cert-authority * ${key}`],
    ['with a pattern', `* ${key}`],
    ['with a second line', `${key}\n* ${key}`],
    ['with a carriage return', `${key}\r* ${key}`],
    ['whose type is not that of its key', `ssh-rsa ${base64}`],
    ['without a key', type],
    ['that is not base64', `${type} not*base64`],
    ['whose key is all zero', `${type} ${'A'.repeat(68)}`],
    ['of a type long given up', `ssh-dss ${base64}`],
    ['that is empty', ''],
  ])('a reported line %s is left out', (_how, line) => {
    expect(renderKnownHosts('192.0.2.1', 22, [line])).toEqual({text: '', fingerprints: []})
  })
})

describe('the ssh configuration', () => {
  const files = {runDir: '/state/handoff/active/r1', knownHostsPath: '/state/known hosts', privateKeyPath: '/state/id'}

  test('trusts the one file, uses the one key, asks no agent', () => {
    const text = renderSshConfig(files)
    expect(text).toContain(
      'StrictHostKeyChecking yes\n  UserKnownHostsFile "/state/known hosts"\n  GlobalKnownHostsFile /dev/null',
    )
    expect(text).toContain('IdentityFile "/state/id"\n  IdentitiesOnly yes\n  IdentityAgent none')
    expect(text).toContain('ControlPath "/state/handoff/active/r1/m"')
  })

  test('goes without a shared connection where its socket would have too long a name', () => {
    expect(renderSshConfig({...files, runDir: `/${'x'.repeat(88)}`})).toContain('ControlPath none')
    expect(renderSshConfig({...files, runDir: `/${'x'.repeat(87)}`})).toContain('/m"')
  })

  test.each([
    [
      'No ED25519 host key is known for [127.0.0.1]:22 and you have requested strict checking.\r\nHost key verification failed.',
      'host_key',
    ],
    ['@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.', 'host_key'],
    ['root@127.0.0.1: Permission denied (publickey).', 'auth'],
    ['kex_exchange_identification: Connection closed by remote host', 'connection'],
    ['', 'connection'],
  ])('the words %j of ssh are understood as %s', (said, meaning) => {
    expect(classifySshFailure(said)).toBe(meaning)
  })
})

describe('waiting for sshd', () => {
  let server: Server
  afterEach(() => new Promise(resolve => server.close(resolve)))
  const listen = (onSocket: (socket: Socket) => void): Promise<number> =>
    new Promise(resolve => {
      server = createServer(socket => {
        socket.on('error', () => socket.destroy())
        onSocket(socket)
      }).listen(0, '127.0.0.1', () => resolve((server.address() as {port: number}).port))
    })
  const wait = (port: number, ms: number, signal = new AbortController().signal) =>
    waitForSsh({address: '127.0.0.1', port, deadlineMs: systemClock.monotonicMs() + ms, clock: systemClock, signal})

  test('a version line that comes in pieces after other lines is an answer', async () => {
    const port = await listen(socket => {
      socket.write('welcome\r\nSSH-2.')
      socket.write('0-Test_1\r\n')
    })
    expect(await wait(port, 30_000)).toEqual({answers: true})
  })

  test('a server that refuses the first calls is called again', async () => {
    let calls = 0
    const port = await listen(socket => {
      calls += 1
      if (calls < 3) socket.destroy()
      else socket.write('SSH-2.0-x\r\n')
    })
    expect(await wait(port, 30_000)).toEqual({answers: true})
    expect(calls).toBe(3)
  })

  test('what speaks something else is no answer', async () => {
    const port = await listen(socket => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    expect(await wait(port, 500)).toEqual({answers: false, because: 'what answers does not speak SSH'})
    const endless = await new Promise<number>(resolve => {
      server.close()
      resolve(listen(socket => socket.write('x'.repeat(10_000))))
    })
    expect(await wait(endless, 500)).toEqual({answers: false, because: 'what answers does not speak SSH'})
  })

  test('ends at once when stopped, even while a server says nothing', async () => {
    const stop = new AbortController()
    const port = await listen(() => stop.abort())
    expect(await wait(port, 600_000, stop.signal)).toEqual({answers: false, because: 'stopped'})
  })
})
