/** The TFTP server on loopback, packet by packet. */
import {spawn} from 'node:child_process'
import {createSocket} from 'node:dgram'
import {once} from 'node:events'
import {join} from 'node:path'
import fc from 'fast-check'
import {afterEach, describe, expect, it} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {decodePacket, encodeAck, encodeError, encodeRequest} from '../../services/tftpd/packet.ts'
import {createTftpServer, type TftpServerOptions} from '../../services/tftpd/server.ts'
import type {TransferReport} from '../../services/tftpd/session.ts'
import {createPeer, numberedFile, settle} from '../support/tftp-peer.ts'

const FILE = numberedFile('a'.repeat(64), 5_000)

const closers: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function serve(overrides: Partial<TftpServerOptions> = {}) {
  const reports: TransferReport[] = []
  const server = await createTftpServer({
    socket: {address: '127.0.0.1', port: 0},
    files: name => (name === 'file' ? FILE : undefined),
    log: silentLog,
    clock: systemClock,
    observe: report => reports.push(report),
    ...overrides,
  })
  closers.push(() => server.close())
  return {server, reports, port: server.address.port}
}

async function peer(address?: string) {
  const made = await createPeer(address)
  closers.push(() => made.close())
  return made
}

describe('TFTP server', () => {
  it('W60 answers each transfer from a new random port, never from its own', async () => {
    const {port} = await serve()
    const clients = await Promise.all(Array.from({length: 24}, () => peer()))
    for (const client of clients) client.read(port, 'file')
    const ports = await Promise.all(clients.map(async client => (await client.hear(1))[0]!.port))
    expect(new Set(ports).size).toBe(24)
    expect(ports).not.toContain(port)
    const steps = ports.slice(1).map((value, index) => value - ports[index]!)
    expect(new Set(steps).size).toBeGreaterThan(5)
  })

  it('W60 answers refusals from another port too', async () => {
    const {port} = await serve()
    const client = await peer()
    client.read(port, 'nothing')
    expect((await client.hear(1))[0]!.port).not.toBe(port)
  })

  it('W60 answers from its own port in single-port mode, and transfers there end well', async () => {
    const {port, reports} = await serve({singlePort: true})
    const client = await peer()
    client.read(port, 'file', [['blksize', '1024']])
    await client.hear(1)
    for (let block = 0; block <= 5; block++) {
      client.ack(block, port)
      if (block < 5) await client.hear(block + 2)
    }
    await expect.poll(() => reports.map(({end}) => end), {timeout: 10_000}).toEqual(['complete'])
    expect(new Set(client.heard.map(({port: from}) => from))).toEqual(new Set([port]))
    client.ack(3, port)
    expect((await client.hear(7))[6]!.packet).toMatchObject({kind: 'error', code: 5})
  })

  it('W61 a wrong source port gets ERROR 5 and the transfer goes on', async () => {
    const {port, server} = await serve()
    const [client, stranger] = [await peer(), await peer()]
    client.read(port, 'file')
    const [first] = await client.hear(1)
    stranger.ack(1, first!.port)
    expect((await stranger.hear(1))[0]).toMatchObject({port: first!.port, packet: {kind: 'error', code: 5}})
    await settle()
    expect(client.heard).toHaveLength(1)
    client.ack(1, first!.port)
    expect((await client.hear(2))[1]).toMatchObject({port: first!.port, packet: {kind: 'data', block: 2}})
    expect(server.counters()).toMatchObject({unknown_transfer: 1})
  })

  it('W61 W68 the ERROR of a stranger is not answered and ends nothing', async () => {
    const {port, server} = await serve()
    const [client, stranger] = [await peer(), await peer()]
    client.read(port, 'file')
    const [first] = await client.hear(1)
    stranger.send(encodeError(0, 'die'), first!.port)
    await expect.poll(() => server.counters().unknown_transfer, {timeout: 10_000}).toBe(1)
    await settle()
    expect(stranger.heard).toEqual([])
    expect(server.active().transfers).toBe(1)
  })

  it('W62 a duplicate RRQ does not disturb the first', async () => {
    const {port, server} = await serve()
    const client = await peer()
    for (let copy = 0; copy < 3; copy++) client.read(port, 'file')
    await expect.poll(() => server.counters().duplicate_request, {timeout: 10_000}).toBe(2)
    await settle()
    expect(client.heard).toHaveLength(1)
    expect(server.active().transfers).toBe(1)
  })

  it('W62 a late duplicate gets a transfer of its own and the first goes on', async () => {
    const {port} = await serve()
    const client = await peer()
    client.read(port, 'file')
    const [first] = await client.hear(1)
    client.ack(1, first!.port)
    await client.hear(2)
    client.read(port, 'file')
    const second = (await client.hear(3))[2]!
    expect(second.port).not.toBe(first!.port)
    client.send(encodeError(5, 'unknown transfer id'), second.port)
    client.ack(2, first!.port)
    expect((await client.hear(4))[3]).toMatchObject({port: first!.port, packet: {kind: 'data', block: 3}})
  })

  it('W65 names lead only to the manifest', async () => {
    const {port} = await serve()
    const client = await peer()
    const names = ['../file', '/../file', '..\\file', '/etc/passwd', './file', '%2e%2e/file', 'FILE', 'file/', '\u00ff']
    for (const name of names) client.read(port, name)
    const heard = await client.hear(names.length)
    expect(heard.map(({packet}) => packet)).toEqual(names.map(() => ({kind: 'error', code: 1, message: 'file not found'})))
  })

  it('takes leading slashes and the 0xFF that ends a DHCP option off a name', async () => {
    const {port} = await serve()
    for (const name of ['/file', '//file', 'file\u00ff', 'file\u00ff\u00ff']) {
      const client = await peer()
      client.read(port, name)
      expect((await client.hear(1))[0]!.packet, name).toMatchObject({kind: 'data', block: 1})
    }
  })

  it('W65 a request that was broadcast is not served', async () => {
    const {port, server} = await serve()
    const client = await peer('0.0.0.0')
    client.broadcast()
    client.send(encodeRequest('rrq', 'file', 'octet'), port, '127.255.255.255')
    await settle()
    expect(client.heard).toEqual([])
    expect(server.counters()).toEqual({})
    client.send(encodeRequest('rrq', 'file', 'octet'), port, '127.0.0.1')
    expect(await client.hear(1)).toHaveLength(1)
    const deaf = await serve({socket: {address: '0.0.0.0', port: 0}})
    client.send(encodeRequest('rrq', 'file', 'octet'), deaf.port, '127.255.255.255')
    await expect.poll(() => deaf.server.counters().requests, {message: 'the broadcast does travel', timeout: 10_000}).toBe(1)
  })

  it('W66 octet in any case is served; netascii and mail are refused with ERROR 4', async () => {
    const {port} = await serve()
    for (const [mode, expected] of [
      ['OCTET', {kind: 'data'}],
      ['Octet', {kind: 'data'}],
      ['netascii', {kind: 'error', code: 4}],
      ['NetASCII', {kind: 'error', code: 4}],
      ['mail', {kind: 'error', code: 4}],
      ['x', {kind: 'error', code: 4}],
    ] as const) {
      const client = await peer()
      client.read(port, 'file', [], mode)
      expect((await client.hear(1))[0]!.packet, mode).toMatchObject(expected)
    }
  })

  it('W68 an ERROR is neither acknowledged nor sent again', async () => {
    const {port, server} = await serve()
    const client = await peer()
    client.read(port, 'nothing')
    client.send(encodeError(0, 'stray'), port)
    await client.hear(1)
    client.read(port, 'file')
    const data = (await client.hear(2))[1]!
    client.send(encodeError(3, 'disk full'), data.port)
    await expect.poll(() => server.counters().aborted, {timeout: 10_000}).toBe(1)
    await new Promise(resolve => setTimeout(resolve, 1_300))
    expect(client.heard).toHaveLength(2)
  })

  it('W71 the probe that edk2 makes ends at once and costs nothing', async () => {
    const {port, server, reports} = await serve()
    const client = await peer()
    client.read(port, 'file', [
      ['tsize', '0'],
      ['blksize', '1468'],
      ['windowsize', '4'],
    ])
    const [oack] = await client.hear(1)
    expect(oack!.packet).toEqual({
      kind: 'oack',
      options: [
        ['tsize', '5000'],
        ['blksize', '1468'],
        ['windowsize', '4'],
      ],
    })
    client.send(encodeError(8, 'User aborted the transfer'), oack!.port)
    await expect.poll(() => reports.map(({end}) => end), {timeout: 10_000}).toEqual(['declined'])
    expect(server.active()).toEqual({transfers: 0, halfOpen: 0})
  })

  it('W76 a client that went away is given up, and its socket with it', async () => {
    const {port, server, reports} = await serve({limits: {leastTimeoutMs: 5, greatestTimeoutMs: 20, tries: 4}})
    const client = await peer()
    client.read(port, 'file', [['blksize', '1000']])
    const [oack] = await client.hear(1)
    client.ack(0, oack!.port)
    await expect.poll(() => reports.map(({end}) => end), {timeout: 10_000}).toEqual(['timed_out'])
    expect(client.heard.map(({packet}) => packet.kind)).toEqual(['oack', 'data', 'data', 'data', 'data'])
    expect(server.active()).toEqual({transfers: 0, halfOpen: 0})
  })

  it('W78 a WRQ gets ERROR 2', async () => {
    const {port} = await serve()
    const client = await peer()
    client.send(encodeRequest('wrq', 'file', 'octet'), port)
    expect((await client.hear(1))[0]!.packet).toMatchObject({kind: 'error', code: 2})
  })

  it('W79 a missing file gets ERROR 1 at once, never silence', async () => {
    const {port, server} = await serve()
    const client = await peer()
    client.read(port, 'revocations_sku.efi', [['tsize', '0']])
    expect((await client.hear(1))[0]!.packet).toMatchObject({kind: 'error', code: 1})
    expect(server.counters()).toEqual({missing: 1})
  })

  it('tells the client and the log when the bytes cannot be read', async () => {
    const broken = {...FILE, digest: 'b'.repeat(64), read: () => Promise.reject(new Error('disk gone'))}
    const {port, reports} = await serve({files: () => broken})
    const client = await peer()
    client.read(port, 'file')
    expect((await client.hear(1))[0]!.packet).toMatchObject({kind: 'error', code: 0})
    expect(reports).toMatchObject([{end: 'read_failed', name: 'file'}])
  })

  it('reports what each transfer came to', async () => {
    const {port, reports} = await serve()
    const client = await peer()
    client.read(
      port,
      'file',
      [['blksize', '4096']].map(([name, value]) => [name!, value!] as const),
    )
    const [oack] = await client.hear(1)
    for (const block of [0, 1, 2, 3, 4]) {
      client.ack(block, oack!.port)
      if (block < 4) await client.hear(block + 2)
    }
    await expect.poll(() => reports, {timeout: 10_000}).toHaveLength(1)
    expect(reports[0]).toMatchObject({
      end: 'complete',
      name: 'file',
      digest: FILE.digest,
      client: {address: '127.0.0.1', port: client.port},
      sizeBytes: 5_000,
      ackedBytes: 5_000,
      resentBlocks: 0,
    })
  })

  it('reads a file once for many clients, and no further ahead than a chunk', async () => {
    const reads: number[] = []
    const bytes = Buffer.alloc(1_000_000, 7)
    const counted = {
      digest: 'c'.repeat(64),
      sizeBytes: bytes.length,
      read: async (position: number, length: number) => {
        reads.push(position)
        return bytes.subarray(position, position + length)
      },
    }
    const {port} = await serve({files: () => counted})
    const clients = await Promise.all(Array.from({length: 8}, () => peer()))
    for (const client of clients) client.read(port, 'file')
    await Promise.all(clients.map(client => client.hear(1)))
    expect(reads).toEqual([0])
  })

  it('serves on a socket that another process bound, and replies from the address it was told', async () => {
    const bound = createSocket('udp4')
    await new Promise<void>(resolve => bound.bind(0, '0.0.0.0', resolve))
    const {port} = bound.address()
    const handle = (bound as unknown as {_handle: {fd: number; recvStop(): void}})._handle
    handle.recvStop()
    const script = join(import.meta.dirname, '../support/tftp-adopter.ts')
    const child = spawn(process.execPath, [script, '127.0.0.2'], {stdio: ['pipe', 'pipe', 'inherit', handle.fd]})
    const left = once(child, 'exit')
    try {
      await once(child.stdout!, 'data')
      bound.close()
      const client = await peer()
      client.read(port, 'anything')
      expect((await client.hear(1))[0]).toMatchObject({address: '127.0.0.2', packet: {kind: 'data', block: 1}})
      client.send(encodeRequest('wrq', 'anything', 'octet'), port)
      expect((await client.hear(2))[1]).toMatchObject({address: '127.0.0.2', packet: {kind: 'error', code: 2}})
    } finally {
      child.stdin!.end()
    }
    expect(await left).toEqual([0, null])
  })

  it('ends every transfer when it is closed', async () => {
    const {server, port, reports} = await serve()
    const client = await peer()
    client.read(port, 'file')
    await client.hear(1)
    closers.shift()
    await server.close()
    expect(reports.map(({end}) => end)).toEqual(['shutdown'])
  })

  it('F12 survives two hundred thousand mutated packets on its own port and on a transfer, and still serves', {
    timeout: 300_000,
  }, async () => {
    const {port, server} = await serve({limits: {halfOpenMs: 200, firstTimeoutMs: 50, greatestTimeoutMs: 50}})
    const [noise, honest] = [await peer(), await peer()]
    honest.read(port, 'file')
    const transfer = (await honest.hear(1))[0]!.port
    const seeds = [
      encodeRequest('rrq', 'file', 'octet', [['blksize', '1432']]),
      encodeRequest('wrq', 'x', 'octet'),
      encodeAck(1),
      encodeError(0, 'x'),
    ]
    const mutations = fc.sample(
      fc.record({
        base: fc.constantFrom(...seeds),
        edits: fc.array(fc.tuple(fc.nat(60), fc.nat(255)), {maxLength: 6}),
        cut: fc.nat(64),
        tail: fc.uint8Array({maxLength: 40}),
      }),
      {seed: 1201, numRuns: 20_000},
    )
    let sent = 0
    for (let round = 0; round < 10; round++) {
      for (const {base, edits, cut, tail} of mutations) {
        const bytes = Buffer.concat([base, tail])
        for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value
        noise.send(bytes.subarray(0, Math.max(1, bytes.length - cut)), sent % 2 ? port : transfer)
        if (++sent % 50 === 0) await new Promise(resolve => setImmediate(resolve))
      }
    }
    expect(sent).toBe(200_000)
    expect(server.counters().fault).toBeUndefined()
    const client = await peer()
    client.read(port, 'file')
    expect((await client.hear(1))[0]!.packet).toMatchObject({kind: 'data', block: 1})
    await expect.poll(() => server.active().transfers, {timeout: 60_000}).toBe(0)
    const seen = Object.values(server.counters()).reduce((sum, value) => sum + value, 0)
    expect(seen).toBeGreaterThan(10_000)
    expect(decodePacket(Buffer.alloc(0))).toEqual({ignored: 'too_short'})
  })
})
