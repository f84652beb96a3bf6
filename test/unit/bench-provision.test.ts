/** The arithmetic of the provisioning benchmark: what it compares, and what it reads out of a packet capture. */
import {describe, expect, it} from 'vitest'
import {comparePhases, median, medians} from '../../bench/provision/phases.ts'
import {serverWaits} from '../../bench/provision/server-waits.ts'
import {reportJson, reportText, tableText} from '../../bench/report.ts'
import {writeOption} from '../../services/dhcpd/options.ts'
import {encodePacket} from '../../services/dhcpd/packet.ts'

const MACHINE = '10.77.0.30'
const SERVER = '10.77.0.1'
const NONE = '0.0.0.0' as never

describe('the median', () => {
  it('is the middle of an odd number, in whatever order they come', () => {
    expect(median([30, 10, 20])).toBe(20)
  })
  it('is the mean of the middle two of an even number', () => {
    expect(median([4, 1, 3, 2])).toBe(2.5)
  })
  it('of nothing is refused', () => {
    expect(() => median([])).toThrow(RangeError)
  })
  it('is taken field by field', () => {
    expect(
      medians([
        {a: 1, b: 30},
        {a: 3, b: 10},
        {a: 2, b: 20},
      ]),
    ).toEqual({a: 2, b: 20})
  })
})

describe('the comparison of phases', () => {
  const peer = {script: 2, ramdisk: 6, write_start: 6, written: 20, local_boot: 22, phone_home: 38, ssh: 40}

  it('gives each phase the time since the one before, its share of the whole, and the ratio', () => {
    const ours = {script: 2, ramdisk: 7, write_start: 8, written: 13, local_boot: 15, phone_home: 29, ssh: 30}
    const rows = comparePhases([ours], [peer])
    expect(rows.map(row => row.ours_took_s)).toEqual([2, 5, 1, 5, 2, 14, 1])
    expect(rows.map(row => row.ratio)).toEqual([1, 1.25, Number.POSITIVE_INFINITY, 5 / 14, 1, 14 / 16, 0.5])
    expect(rows.reduce((sum, row) => sum + row.ours_share, 0)).toBeCloseTo(1)
    expect(rows.reduce((sum, row) => sum + row.peer_share, 0)).toBeCloseTo(1)
    expect(rows.at(-1)).toMatchObject({phase: 'ssh', ours_at_s: 30, peer_at_s: 40})
  })

  it('leaves a phase that one side does not have to the next one on both sides', () => {
    const ours = {script: 2, ramdisk: 7, write_start: 8, written: 13, phone_home: 29, ssh: 30}
    const rows = comparePhases([ours], [peer])
    expect(rows.map(row => row.phase)).not.toContain('local_boot')
    expect(rows.find(row => row.phase === 'phone_home')).toMatchObject({ours_took_s: 16, peer_took_s: 18})
  })

  it('takes medians over the rounds, of what each phase took rather than of the sums', () => {
    const round = (script: number, ramdisk: number) => ({...peer, script, ramdisk})
    const rows = comparePhases([round(1, 3), round(2, 5), round(9, 10)], [peer])
    expect(rows[0]?.ours_took_s).toBe(2)
    expect(rows[1]).toMatchObject({ours_at_s: 5, ours_took_s: 2})
  })
})

describe('the waits of a capture', () => {
  it('run from the last byte of a request to the first of its answer', () => {
    const capture = pcap([
      tcp(10, 'asks', 'POST /ramdisk/hello?token=x HTTP/1.1\r\n\r\n'),
      tcp(12, 'answers', ''),
      tcp(15, 'asks', '{"mac":"x"}'),
      tcp(40, 'answers', 'HTTP/1.1 200 OK\r\n\r\n'),
      tcp(50, 'answers', 'the rest'),
      tcp(60, 'asks', 'GET /boot.ipxe HTTP/1.1\r\n\r\n'),
      tcp(61, 'answers', 'HTTP/1.1 200 OK\r\n\r\n'),
    ])
    expect(rounded(serverWaits(capture, 8480))).toEqual([
      {request: 'POST /ramdisk/hello', at_ms: 15, waited_ms: 25},
      {request: 'GET /boot.ipxe', at_ms: 60, waited_ms: 1},
    ])
  })

  it('pair DHCP messages by transaction, from the first of those sent again, and leave out what was never answered', () => {
    const capture = pcap([
      dhcp(0, 1, 7, 1),
      dhcp(100, 1, 7, 1),
      dhcp(130, 2, 7, 2),
      dhcp(140, 1, 7, 3),
      dhcp(141, 2, 7, 5),
      dhcp(150, 1, 8, 1),
      dhcp(151, 2, 9, 2),
    ])
    expect(rounded(serverWaits(capture, 8480))).toEqual([
      {request: 'DISCOVER', at_ms: 0, waited_ms: 130},
      {request: 'REQUEST', at_ms: 140, waited_ms: 1},
    ])
  })

  it('end where a record was torn', () => {
    const capture = pcap([tcp(10, 'asks', 'GET /a HTTP/1.1\r\n\r\n'), tcp(11, 'answers', 'HTTP/1.1 200 OK\r\n\r\n')])
    expect(serverWaits(capture.subarray(0, capture.length - 1), 8480)).toEqual([])
  })
})

describe('the report', () => {
  const report = {
    bench: 'x',
    goals: [{id: 'G1', what: 'speed', ours: 2, peer: 4, ratio: 0.5, met: true}],
    tables: [{title: 'Rows', rows: [{name: 'a', s: 1.234}]}],
    rows: [{name: 'a', s: 1.234}],
  }

  it('is one line of JSON with goals and rows', () => {
    expect(JSON.parse(reportJson(report))).toEqual({
      bench: 'x',
      goals: [{id: 'G1', ours: 2, peer: 4, ratio: 0.5, met: true}],
      rows: [{name: 'a', s: 1.234}],
    })
    expect(reportJson(report)).not.toContain('\n')
  })

  it('is a table for people, with the goals last', () => {
    expect(reportText(report)).toMatch(/^Rows\n.*name.*s\n[\s\S]*Goals\n[\s\S]*speed.*yes\n$/)
  })

  it('shows a missing value as a dash and lines numbers up to the right', () => {
    expect(
      tableText([
        {what: 'a', n: 5},
        {what: 'long', n: null},
        {what: 'b', n: 12.345},
      ]),
    ).toBe('  what     n\n  ----  ----\n  a        5\n  long     –\n  b     12.3\n')
  })
})

function rounded(waits: ReturnType<typeof serverWaits>) {
  return waits.map(wait => ({...wait, at_ms: Math.round(wait.at_ms), waited_ms: Math.round(wait.waited_ms)}))
}

type Frame = {at_ms: number; bytes: Buffer}

function pcap(frames: readonly Frame[]): Buffer {
  const header = Buffer.alloc(24)
  header.writeUInt32LE(0xa1b2c3d4, 0)
  const records = frames.flatMap(({at_ms, bytes}) => {
    const record = Buffer.alloc(16)
    record.writeUInt32LE(Math.floor(at_ms / 1000), 0)
    record.writeUInt32LE((at_ms % 1000) * 1000, 4)
    record.writeUInt32LE(bytes.length, 8)
    record.writeUInt32LE(bytes.length, 12)
    return [record, bytes]
  })
  return Buffer.concat([header, ...records])
}

function tcp(at_ms: number, who: 'asks' | 'answers', payload: string): Frame {
  const transport = Buffer.alloc(20)
  transport.writeUInt16BE(who === 'asks' ? 40_000 : 8480, 0)
  transport.writeUInt16BE(who === 'asks' ? 8480 : 40_000, 2)
  transport[12] = 5 << 4
  return {at_ms, bytes: ipv4(6, who === 'asks', Buffer.concat([transport, Buffer.from(payload)]))}
}

function dhcp(at_ms: number, op: number, xid: number, type: number): Frame {
  const options = new Map<number, Uint8Array>()
  writeOption(options, 'message_type', type)
  const addresses = {ciaddr: NONE, yiaddr: NONE, siaddr: NONE, giaddr: NONE}
  const message = {op, htype: 1, hlen: 6, hops: 0, xid, secs: 0, flags: 0, chaddr: Buffer.alloc(16), sname: '', file: '', options}
  const {bytes} = encodePacket({...message, ...addresses})
  const transport = Buffer.alloc(8)
  transport.writeUInt16BE(op === 1 ? 68 : 67, 0)
  transport.writeUInt16BE(op === 1 ? 67 : 68, 2)
  return {at_ms, bytes: ipv4(17, op === 1, Buffer.concat([transport, bytes]))}
}

/** Padded as a short frame is on the wire: what counts is the length that the IP header tells. */
function ipv4(protocol: number, fromMachine: boolean, transport: Buffer): Buffer {
  const header = Buffer.alloc(20)
  header[0] = 0x45
  header.writeUInt16BE(20 + transport.length, 2)
  header[9] = protocol
  const [from, to] = fromMachine ? [MACHINE, SERVER] : [SERVER, MACHINE]
  for (const [at, address] of [
    [12, from],
    [16, to],
  ] as const)
    Buffer.from(address.split('.').map(Number)).copy(header, at)
  const ethernet = Buffer.alloc(14)
  ethernet.writeUInt16BE(0x0800, 12)
  return Buffer.concat([ethernet, header, transport, Buffer.alloc(6)])
}
