/** Real TFTP clients against the server on loopback: whole files, odd sizes, block numbers past 65535, and a network that loses packets. */
import {mkdtemp, readFile, rm, writeFile} from 'node:fs/promises'
import {createRequire} from 'node:module'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {createArtefacts} from '../../services/artefacts/index.ts'
import {createTftpd, type Tftpd, type TransferReport} from '../../services/tftpd/index.ts'
import {decodePacket, encodeAck, encodeDataHeader, encodeError, encodeRequest} from '../../services/tftpd/packet.ts'
import {fetchWith, isInstalled, TFTP_CLIENTS} from '../support/tftp-clients.ts'
import {createLossyProxy} from '../support/tftp-loss.ts'
import {numberedFile} from '../support/tftp-peer.ts'

/** 512 × 65 540 and a bit: past the roll-over at the smallest usual block. */
const SIZES = {empty: 0, one: 1, exact: 512 * 40, plain: 74_213, chunks: 600_000, large: 512 * 65_540 + 5}

let dir: string
let tftpd: Tftpd
let port: number
const reports: TransferReport[] = []

const artefactsOf = (root: string) => createArtefacts({dir: join(root, 'artefacts'), log: silentLog})

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ingot-tftp-'))
  const artefacts = artefactsOf(dir)
  for (const [name, size] of Object.entries(SIZES)) {
    await writeFile(join(dir, name), numberedFile(name, size).bytes)
    await artefacts.importFile(`loaders/${name}`, join(dir, name), {kind: 'loader', version: '1', source: 'test'})
  }
  tftpd = await createTftpd({
    sockets: [{address: '127.0.0.1', port: 0}],
    artefacts,
    log: silentLog,
    clock: systemClock,
    observe: report => reports.push(report),
  })
  port = tftpd.addresses[0]!.port
})

afterAll(async () => {
  await tftpd.close()
  await rm(dir, {recursive: true})
})

describe.each(TFTP_CLIENTS)('$name', client => {
  const present = isInstalled(client)

  it.skipIf(!present).each(['one', 'exact', 'plain', 'chunks'])(`fetches "%s" whole (needs ${client.debian})`, async name => {
    const to = join(dir, `fetched-${name}`)
    await fetchWith(client, port, name, to)
    expect((await readFile(to)).equals(await readFile(join(dir, name)))).toBe(true)
    await rm(to)
  })

  it.skipIf(!present)(`W79 is told at once that a file is missing (needs ${client.debian})`, async () => {
    const said = await fetchWith(client, port, 'nowhere', join(dir, 'nowhere')).catch(
      (error: {stderr?: string; message: string}) => {
        return `${error.message} ${error.stderr}`
      },
    )
    // curl 7.88 loses the message and keeps the code: 68 is "file not found on server".
    expect(said).toMatch(/not found|curl: \(68\)/i)
  })

  it.skipIf(!present)(`W77 fetches more than 65535 blocks (needs ${client.debian})`, async () => {
    const to = join(dir, 'fetched-large')
    await fetchWith(client, port, 'large', to)
    expect((await readFile(to)).equals(await readFile(join(dir, 'large')))).toBe(true)
    await rm(to)
  })
})

describe('many clients and bad networks', () => {
  it('the loader has its bare name and its artefact name', async () => {
    const [curl] = TFTP_CLIENTS
    for (const name of ['plain', 'loaders/plain', '/loaders/plain']) {
      await fetchWith(curl!, port, name, join(dir, 'to'))
      expect((await readFile(join(dir, 'to'))).length).toBe(SIZES.plain)
    }
  })

  it('serves an empty file', async () => {
    // Without options: curl refuses an OACK that says tsize 0.
    await fetchWith(TFTP_CLIENTS[1]!, port, 'empty', join(dir, 'to'))
    expect(reports.at(-1)).toMatchObject({end: 'complete', name: 'empty', sizeBytes: 0})
  })

  it('serves sixty-four at once, and nothing stays behind', async () => {
    const clients = TFTP_CLIENTS.filter(isInstalled)
    const fetches = Array.from({length: 64}, async (_, index) => {
      const to = join(dir, `many-${index}`)
      await fetchWith(clients[index % clients.length]!, port, 'chunks', to)
      return (await readFile(to)).length
    })
    expect(new Set(await Promise.all(fetches))).toEqual(new Set([SIZES.chunks]))
    await expect.poll(() => tftpd.active(), {timeout: 30_000}).toEqual({transfers: 0, halfOpen: 0})
    expect(tftpd.counters().fault).toBeUndefined()
  })

  it('W64 every client gets its file over a network that loses one packet in twenty', async () => {
    const server = await createTftpd({
      sockets: [{address: '127.0.0.1', port: 0}],
      artefacts: artefactsOf(dir),
      log: silentLog,
      clock: systemClock,
      singlePort: true,
    })
    // Request, OACK and ACK 0 pass unharmed: atftp 0.8 gives up when it sees an OACK for the second time.
    const proxy = await createLossyProxy({port: server.addresses[0]!.port, seed: 64, loss: 0.05, repeat: 0.02, spare: 3})
    try {
      for (const client of TFTP_CLIENTS.filter(isInstalled)) {
        const to = join(dir, 'lossy')
        await fetchWith(client, proxy.port, 'plain', to)
        expect((await readFile(to)).equals(await readFile(join(dir, 'plain'))), client.name).toBe(true)
      }
      expect(proxy.counts.lost).toBeGreaterThan(20)
      expect(proxy.counts.repeated).toBeGreaterThan(5)
    } finally {
      await proxy.close()
      await server.close()
    }
  })
})

describe('tftp2, the client on npm', () => {
  const tftp2 = createRequire(import.meta.url)('tftp2') as {
    (
      host: string,
      port: number,
    ): {read(name: string, push: (bytes: Buffer) => void, done: () => void): Promise<void>; close(): void}
    Packet: {parse(bytes: Buffer): Record<string, unknown>; createRequest(opcode: number, name: string, mode?: string): Buffer}
  }

  it('fetches a file from us', async () => {
    const client = tftp2('127.0.0.1', port)
    const pieces: Buffer[] = []
    await client.read(
      'plain',
      bytes => void pieces.push(bytes),
      () => undefined,
    )
    client.close()
    expect(Buffer.concat(pieces).equals(await readFile(join(dir, 'plain')))).toBe(true)
  })

  it('reads what we write, and we what it writes', () => {
    expect(tftp2.Packet.parse(encodeRequest('rrq', 'a/b', 'octet'))).toMatchObject({opcode: 1, filename: 'a/b', mode: 'octet'})
    expect(tftp2.Packet.parse(encodeAck(513))).toMatchObject({opcode: 4, block: 513})
    expect(tftp2.Packet.parse(encodeError(1, 'file not found'))).toMatchObject({opcode: 5, code: 1, message: 'file not found'})
    expect(tftp2.Packet.parse(Buffer.concat([encodeDataHeader(7), Buffer.from('x')]))).toMatchObject({opcode: 3, block: 7})
    expect(decodePacket(tftp2.Packet.createRequest(1, 'undionly.kpxe'))).toEqual({
      kind: 'rrq',
      name: 'undionly.kpxe',
      mode: 'octet',
      options: [],
    })
  })
})
