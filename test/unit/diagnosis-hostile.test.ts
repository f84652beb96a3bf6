/** Captures from strangers: whatever the bytes, there is a report or an error that says what is wrong with them, and an end to the work. */
import {readFileSync} from 'node:fs'
import {join} from 'node:path'
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import type {Ipv4} from '../../lib/addresses.ts'
import {IngotError} from '../../lib/errors.ts'
import {explainPacket} from '../../services/dhcpd/index.ts'
import {CAUSES, type CaptureAnswers, explainCapture} from '../../services/diagnosis/index.ts'
import {arp, dhcpRequest, ethernet, sequence, tftp, writePcap, writePcapng} from '../support/capture-builder.ts'
import {CLIENTS, makeRequest, makeSnapshot, NOW, SERVER} from '../support/dhcp-world.ts'
import {listCaptures, PCAP_FOLDER} from '../support/pcap.ts'

const answers: CaptureAnswers = {
  dhcp: async (packet, _mac, seen) => explainPacket(makeSnapshot(), packet, {now: NOW, seen, servers: [SERVER]}),
  tftp: () => ({answer: '', reasons: []}),
  http: async () => ({answer: '', reasons: []}),
  nameOf: () => null,
}

const CAPTURES = listCaptures().map(name => readFileSync(join(PCAP_FOLDER, name)))
const SMALL = sequence(
  dhcpRequest(makeRequest('DISCOVER', CLIENTS.ipxe)),
  tftp('10.77.0.50:2000').read('x'),
  arp(1, '52:54:00:00:00:01', '10.77.0.9', '10.77.0.1'),
)
const SEEDS = [...CAPTURES, writePcap(SMALL), writePcapng(SMALL)]

/** @returns the report as a client gets it, or the error's detail */
async function read(bytes: Uint8Array): Promise<string> {
  try {
    const report = await explainCapture(bytes, answers)
    for (const {cause, packets} of report.findings) expect([cause in CAUSES, packets.length > 0]).toEqual([true, true])
    for (const {at_s} of report.shown) expect(Number.isFinite(at_s)).toBe(true)
    return JSON.stringify(report)
  } catch (error) {
    if (!(error instanceof IngotError) || error.code !== 'INVALID_INPUT') throw error
    expect(error.detail).toMatch(/^the capture cannot be read: \w/)
    return error.detail
  }
}

const anywhere = (bytes: Buffer) => fc.nat({max: Math.max(bytes.length - 1, 0)})

describe('F12 a hostile capture', () => {
  it('of any bytes is refused with what is wrong', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({maxLength: 400}), async bytes => void (await read(bytes))),
      {numRuns: 300},
    )
  })

  it('with a right beginning and any bytes after it ends in a report or an error', async () => {
    const heads = SEEDS.slice(-2).map(bytes => bytes.subarray(0, 60))
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...heads), fc.uint8Array({maxLength: 600}), async (head, tail) => {
        await read(Buffer.concat([head, tail]))
      }),
      {numRuns: 300},
    )
  })

  it('cut short anywhere says so, and shows what came before', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...SEEDS).chain(bytes => fc.tuple(fc.constant(bytes), anywhere(bytes))),
        async ([bytes, at]) => {
          await read(bytes.subarray(0, at))
        },
      ),
      {numRuns: 200},
    )
  })

  it('mutated anywhere ends in a report or an error', async () => {
    const change = (bytes: Buffer) =>
      fc.array(fc.tuple(anywhere(bytes), fc.integer({min: 0, max: 255})), {minLength: 1, maxLength: 30})
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...SEEDS).chain(bytes => fc.tuple(fc.constant(bytes), change(bytes))),
        async ([bytes, changes]) => {
          const mutated = Buffer.from(bytes)
          for (const [at, value] of changes) mutated[at] = value
          await read(mutated)
        },
      ),
      {numRuns: 400},
    )
  })

  it.each([
    ['nothing at all', Buffer.alloc(0), /0 bytes are too few/],
    ['text', Buffer.from('this is not a capture, but a letter to you'), /neither pcap nor pcapng/],
    ['gzip', Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.alloc(40)]), /gzip/],
    ['zstd', Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Buffer.alloc(40)]), /zstd/],
    ['Bluetooth', writePcap(SMALL, {network: 187}), /link type is 187/],
  ])('that is %s is refused by name', async (_name, bytes, what) => {
    expect(await read(bytes)).toMatch(what)
  })

  it('with gigantic lengths is refused without their being believed', async () => {
    const pcap = Buffer.from(writePcap(SMALL))
    pcap.writeUInt32LE(0xffffffff, 24 + 8)
    expect(await read(pcap)).toMatch(/packet 1, at byte 24, says it has 4294967295 bytes/)
    const pcapng = Buffer.from(writePcapng(SMALL))
    pcapng.writeUInt32BE(0xfffffffc, 4)
    expect(await read(pcapng)).toContain('"packets":0')
    const inner = Buffer.from(writePcapng(SMALL))
    const packet = inner.indexOf(Buffer.from([0, 0, 0, 6]))
    inner.writeUInt32BE(0x0fffffff, packet + 8 + 12)
    expect(await read(inner)).toMatch(/says it has 268435455 bytes/)
    const endless = Buffer.from(writePcapng(SMALL))
    endless.writeUInt32BE(0, 4)
    expect(await read(endless)).toMatch(/says it has 0 bytes/)
  })

  it('of as many packets as fit is worked through, and what is too much is left out and counted', async () => {
    const storm = Array.from({length: 19_000}, (_, index) =>
      dhcpRequest(makeRequest(index % 3 === 0 ? 'REQUEST' : 'DISCOVER', CLIENTS.ipxe, {xid: index})),
    )
    const reads = Array.from({length: 2_000}, (_, index) => tftp(`10.77.0.50:${1024 + index}`).read('x'))
    const report = JSON.parse(await read(writePcap(sequence(...storm, ...reads))))
    expect(report).toMatchObject({packets: 20_000, notes: expect.arrayContaining(['only the first 20000 packets were read'])})
    expect(report.shown).toHaveLength(2_000)
    expect(report.left_out).toEqual({'beyond the first 2000': 18_000})
    expect(report.findings.length).toBeLessThanOrEqual(200)
  })

  it('of ten thousand machines is worked through', async () => {
    const macOf = (index: number) =>
      `52:54:01:00:${(index >> 8).toString(16).padStart(2, '0')}:${(index & 255).toString(16).padStart(2, '0')}` as never
    const crowd = Array.from({length: 10_000}, (_, index) =>
      dhcpRequest(makeRequest('DISCOVER', CLIENTS.ipxe, {mac: macOf(index)})),
    )
    const arps = Array.from({length: 10_000}, (_, index) => arp(2, macOf(index), '10.77.0.50', '10.77.0.1'))
    const report = JSON.parse(await read(writePcap(sequence(...crowd, ...arps))))
    expect(report.packets).toBe(20_000)
    expect(report.machines.length).toBeLessThanOrEqual(200)
  })

  it('whose names are long, control a terminal or lie about addresses stays text', async () => {
    const evil = `\u001b[2J${'A'.repeat(900)}`
    const report = await explainCapture(
      writePcap(
        sequence(
          tftp('10.77.0.50:2000').read(evil),
          ethernet(0x0806, Buffer.alloc(28, 255)),
          dhcpRequest(makeRequest('DISCOVER', {vendor_class: evil}, {giaddr: '255.255.255.255' as Ipv4})),
        ),
      ),
      answers,
    )
    expect(report.shown[0]?.what).toMatch(/^TFTP read '\\x1b\[2JA+…'$/)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that there are none is what is tested
    for (const {what} of report.shown) expect(what).not.toMatch(/[\u0000-\u001f]/)
  })
})
