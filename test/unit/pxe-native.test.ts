/** The image writer on plain files, under sanitizers: everything about it that needs no machine. */
import {createHash, randomBytes} from 'node:crypto'
import {mkdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs'
import {createServer, type RequestListener, type Server} from 'node:http'
import type {AddressInfo} from 'node:net'
import {join} from 'node:path'
import fc from 'fast-check'
import {afterAll, afterEach, beforeAll, expect, test} from 'vitest'
import {CHUNK_BYTES, type ImageManifest, manifestLines, type StoredChunk} from '../../pxe/manifest.ts'
import {packImage} from '../../pxe/pack.ts'
import {compileNative, type Native, type NativeResult} from '../support/native.ts'

const MIB = 1_048_576
const servers: Server[] = []
let native: Native
let folder: string

beforeAll(() => {
  ;({native, folder} = compileNative())
}, 180_000)
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  }
})
afterAll(() => rmSync(folder, {recursive: true, force: true}))

test('says any bytes as a JSON string, and text as the same text', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(fc.string({unit: 'binary', maxLength: 60}), fc.string({unit: 'grapheme', maxLength: 40})),
      async text => {
        const {stdout} = await native(['quote'], Buffer.from(text, 'utf8'))
        expect(JSON.parse(stdout)).toBe(Buffer.from(text, 'utf8').toString('utf8'))
      },
    ),
    {numRuns: 40},
  )
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({maxLength: 80}), async bytes => {
      const {stdout} = await native(['quote'], bytes)
      expect(typeof JSON.parse(stdout)).toBe('string')
    }),
    {numRuns: 40},
  )
})

test('burns memory and processors in, and finds a bit that was turned', async () => {
  const memory = await native(['burn', 'memory', '0', '1', '0'])
  expect(memory.stdout).toMatch(/^burned \{"threads":\d+,"bytes":[1-9]\d*,"mb_s":\d+\}\n$/)
  expect(await native(['burn', 'memory', '0', '1', '0', 'flip'])).toMatchObject({
    status: 1,
    stdout: expect.stringMatching(/^failed TEST_MEMORY word \d+ of \d+ in round 0 reads [0-9a-f]{16}, not [0-9a-f]{16}\n$/),
  })
  expect((await native(['burn', 'cpu', '0', '0'])).stdout).toMatch(/^burned /)
  expect(await native(['burn', 'cpu', '0', '1e12'])).toMatchObject({
    status: 1,
    stdout: expect.stringMatching(/^failed TEST_TOO_SLOW the processors reached \d+ MB\/s of the 1000000000000 that/),
  })
})

test('writes the image byte for byte, zeros included, and the first MiB only by the seal', async () => {
  const image = await packed(mixedImage())
  const disk = dirtyDisk(24)
  const url = await serveData(image.data)
  expect(await write(url, image, disk)).toMatchObject({status: 0, stdout: expect.stringContaining(`written ${image.raw.length}`)})
  const written = readFileSync(disk)
  expect(written.subarray(0, MIB).every(byte => byte === 0)).toBe(true)
  expect(written.subarray(MIB, image.raw.length).equals(image.raw.subarray(MIB))).toBe(true)
  expect(written.subarray(-MIB).every(byte => byte === 0)).toBe(true)
  expect(written.subarray(image.raw.length, -MIB).every(byte => byte === 0xa5)).toBe(true)
  expect(await native(['seal', join(folder, 'hold'), disk])).toMatchObject({status: 0})
  expect(readFileSync(disk).subarray(0, image.raw.length).equals(image.raw)).toBe(true)
})

test('asks again for a chunk whose connection broke, as often as it breaks', async () => {
  const image = await packed(mixedImage())
  const disk = dirtyDisk(24)
  let broken = 0
  const url = await serveData(image.data, (response, body) => {
    if (broken++ % 2 === 1) return response.end(body)
    response.write(body.subarray(0, body.length / 2), () => response.destroy())
  })
  expect(await write(url, image, disk)).toMatchObject({status: 0})
  expect(broken).toBeGreaterThan(4)
  expect(readFileSync(disk).subarray(MIB, image.raw.length).equals(image.raw.subarray(MIB))).toBe(true)
})

test('refuses bytes that have another digest, after asking for them again', async () => {
  const image = await packed(mixedImage())
  const url = await serveData(image.data, (response, body) => {
    body[9] = (body[9] ?? 0) ^ 4
    response.end(body)
  })
  const result = await write(url, image, dirtyDisk(24))
  expect(result).toMatchObject({status: 1, stdout: expect.stringContaining('failed IMAGE_CHECKSUM chunk ')})
})

test('refuses a server that knows nothing of ranges, and one that has no such data', async () => {
  const image = await packed(mixedImage())
  const whole = await serve((_, response) => response.end(image.data))
  expect((await write(whole, image, dirtyDisk(24))).stdout).toContain('failed IMAGE_UNAVAILABLE')
  const nothing = await serve((_, response) => response.writeHead(404).end())
  expect((await write(nothing, image, dirtyDisk(24))).stdout).toContain('answered 404')
})

test('refuses a manifest that is cut short anywhere, and touches nothing', async () => {
  const image = await packed(mixedImage())
  const disk = dirtyDisk(24)
  for (const share of [0, 0.2, 0.5, 0.9, 0.99]) {
    const cut = {...image, lines: image.lines.slice(0, Math.floor((image.lines.length - 5) * share))}
    expect((await write('http://127.0.0.1:9', cut, disk)).stdout).toContain('failed IMAGE_INVALID')
  }
  const other = {...image, digest: 'a'.repeat(64)}
  expect((await write('http://127.0.0.1:9', other, disk)).stdout).toContain('failed IMAGE_CHECKSUM')
  expect(readFileSync(disk).every(byte => byte === 0xa5)).toBe(true)
})

test('survives chunks that have the right digest and are not LZ4', async () => {
  const image = await packed(Buffer.concat([Buffer.alloc(6 * MIB, 'all work and no play '), Buffer.alloc(2 * MIB, 7)]))
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.nat(), fc.nat(255)), {minLength: 1, maxLength: 20}), async changes => {
      const data = Buffer.from(image.data)
      for (const [at, byte] of changes) data[at % data.length] = byte
      const chunks = image.manifest.chunks.map(chunk => redigest(chunk, data))
      const url = await serveData(data)
      const result = await write(url, imageOf(image.raw, data, chunks), dirtyDisk(12))
      expect(result.stderr).toBe('')
      expect(result.stdout).toMatch(/^(failed IMAGE_INVALID|written)/m)
    }),
    {numRuns: 12},
  )
})

test('refuses a disk that is smaller than the image', async () => {
  const image = await packed(mixedImage())
  expect((await write('http://127.0.0.1:9', image, dirtyDisk(16))).stdout).toContain('failed DISK_TOO_SMALL')
})

type Image = {
  readonly raw: Buffer
  readonly data: Buffer
  readonly lines: string
  readonly digest?: string
  readonly manifest: ImageManifest
}

/** Text, zeros, noise, and an end that is no whole chunk. */
function mixedImage(): Buffer {
  const parts = [
    Buffer.alloc(CHUNK_BYTES, 'abcdefgh'),
    Buffer.alloc(2 * CHUNK_BYTES),
    randomBytes(CHUNK_BYTES),
    Buffer.alloc(2 * MIB, 'tail'),
  ]
  return Buffer.concat(parts)
}

async function packed(raw: Buffer): Promise<Image> {
  const [file, dataFile] = [join(folder, 'raw'), join(folder, 'data')]
  writeFileSync(file, raw)
  const {chunks} = await packImage(file, dataFile)
  return imageOf(raw, readFileSync(dataFile), chunks)
}

function imageOf(raw: Buffer, data: Buffer, chunks: readonly StoredChunk[]): Image {
  const manifest: ImageManifest = {
    ...{
      format: 'ingot-image-1',
      name: 'test',
      version: '1',
      size_bytes: raw.length,
      chunk_bytes: CHUNK_BYTES,
      firmware: ['bios'],
    },
    ...{compression: 'lz4', root: {offset: 2 * MIB, bytes: MIB, filesystem: 'ext4'}, chunks},
    ...{data: createHash('sha256').update(data).digest('hex'), data_bytes: data.length},
  }
  return {raw, data, manifest, lines: manifestLines(manifest)}
}

function redigest(chunk: StoredChunk, data: Buffer): StoredChunk {
  if (chunk === null) return null
  const stored = data.subarray(chunk[0], chunk[0] + chunk[1])
  return [chunk[0], chunk[1], createHash('sha256').update(stored).digest('hex')]
}

function dirtyDisk(mib: number): string {
  const file = join(folder, 'disk')
  writeFileSync(file, Buffer.alloc(mib * MIB, 0xa5))
  return file
}

function write(url: string, image: Image, disk: string): Promise<NativeResult> {
  mkdirSync(folder, {recursive: true})
  writeFileSync(join(folder, 'lines'), image.lines)
  writeFileSync(join(folder, 'bearer'), 'token\n')
  return native(['write', url, join(folder, 'bearer'), join(folder, 'lines'), image.digest ?? '-', join(folder, 'hold'), disk])
}

type Finish = (response: Parameters<RequestListener>[1], body: Buffer) => void

/** Serves ranges of the data to whoever brings the token. */
function serveData(data: Buffer, finish: Finish = (response, body) => response.end(body)): Promise<string> {
  return serve((request, response) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
    if (request.headers.authorization !== 'Bearer token') return response.writeHead(401).end()
    const body = Buffer.from(data.subarray(Number(from), Number(to) + 1))
    response.writeHead(206, {'content-length': body.length})
    return finish(response, body)
  })
}

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  servers.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
