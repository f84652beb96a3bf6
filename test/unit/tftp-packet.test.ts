/** The TFTP codec: what firmware really sends, and what nobody should. */
import fc from 'fast-check'
import {describe, expect, it} from 'vitest'
import {
  decodePacket,
  encodeAck,
  encodeDataHeader,
  encodeError,
  encodeOack,
  encodeRequest,
  type TftpOption,
} from '../../services/tftpd/packet.ts'

const wireText = fc.string({
  minLength: 1,
  maxLength: 40,
  unit: fc.integer({min: 1, max: 255}).map(code => String.fromCharCode(code)),
})

describe('TFTP packets', () => {
  it('reads the request that edk2 sends', () => {
    const bytes = encodeRequest('rrq', 'snponly.efi', 'octet', [
      ['tsize', '0'],
      ['blksize', '1468'],
      ['windowsize', '4'],
    ])
    expect(bytes.toString('latin1')).toBe('\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0')
    expect(decodePacket(bytes)).toEqual({
      kind: 'rrq',
      name: 'snponly.efi',
      mode: 'octet',
      options: [
        ['tsize', '0'],
        ['blksize', '1468'],
        ['windowsize', '4'],
      ],
    })
  })

  it('W66 takes mode names in any case', () => {
    expect(decodePacket(encodeRequest('rrq', 'a', 'OcTeT'))).toMatchObject({mode: 'octet'})
    expect(decodePacket(encodeRequest('rrq', 'a', 'NETASCII'))).toMatchObject({mode: 'netascii'})
  })

  it('takes a padded request as if the padding were not there', () => {
    const padded = Buffer.concat([encodeRequest('rrq', 'undionly.kpxe', 'octet', [['blksize', '1432']]), Buffer.alloc(64)])
    expect(decodePacket(padded)).toMatchObject({name: 'undionly.kpxe', options: [['blksize', '1432']]})
  })

  it('takes a request whose last NUL is missing', () => {
    expect(decodePacket(encodeRequest('rrq', 'a', 'octet').subarray(0, -1))).toMatchObject({name: 'a', mode: 'octet'})
  })

  it('takes an ACK that is longer than four octets', () => {
    expect(decodePacket(Buffer.concat([encodeAck(7), Buffer.alloc(20)]))).toEqual({kind: 'ack', block: 7})
  })

  it('names the reason why bytes are no packet', () => {
    expect(decodePacket(Buffer.from([0]))).toEqual({ignored: 'too_short'})
    expect(decodePacket(Buffer.from([0, 9, 0, 0]))).toEqual({ignored: 'unknown_opcode'})
    expect(decodePacket(Buffer.from('\0\x01\0octet\0'))).toEqual({ignored: 'malformed_request'})
    expect(decodePacket(Buffer.from('\0\x01name-only\0'))).toEqual({ignored: 'malformed_request'})
    expect(decodePacket(encodeRequest('rrq', 'x'.repeat(2000), 'octet'))).toEqual({ignored: 'request_too_long'})
  })

  it('bounds how many options it looks at', () => {
    const many: TftpOption[] = Array.from({length: 100}, (_, index) => [`o${index}`, '1'])
    expect(decodePacket(encodeRequest('rrq', 'a', 'octet', many))).toMatchObject({options: many.slice(0, 16)})
  })

  it('brings every request and OACK back as it was', () => {
    const options = fc.array(fc.tuple(wireText, wireText), {maxLength: 8})
    fc.assert(
      fc.property(wireText, wireText, options, (name, mode, list) => {
        expect(decodePacket(encodeRequest('rrq', name, mode, list))).toEqual({
          kind: 'rrq',
          name,
          mode: mode.toLowerCase(),
          options: list,
        })
        expect(decodePacket(Buffer.concat([encodeOack(list), Buffer.alloc(2)]))).toEqual({kind: 'oack', options: list})
      }),
      {seed: 6001, numRuns: 500},
    )
  })

  it('brings every block number, error and payload back as it was', () => {
    fc.assert(
      fc.property(fc.integer({min: 0, max: 1_000_000}), wireText, fc.uint8Array({maxLength: 600}), (block, message, bytes) => {
        expect(decodePacket(encodeAck(block))).toEqual({kind: 'ack', block: block % 65536})
        expect(decodePacket(encodeError(block % 65536, message))).toEqual({kind: 'error', code: block % 65536, message})
        const data = decodePacket(Buffer.concat([encodeDataHeader(block), bytes]))
        expect(data).toMatchObject({kind: 'data', block: block % 65536})
        expect('bytes' in data && Buffer.from(data.bytes).equals(bytes)).toBe(true)
      }),
      {seed: 6002, numRuns: 500},
    )
  })

  it('F12 answers any bytes with a packet or a reason and never throws', () => {
    const opcode = fc.integer({min: 0, max: 8})
    fc.assert(
      fc.property(opcode, fc.uint8Array({maxLength: 1600}), fc.integer({min: 0, max: 1600}), (first, rest, cut) => {
        const packet = decodePacket(Buffer.concat([Buffer.from([0, first]), rest]).subarray(0, cut))
        expect('ignored' in packet || 'kind' in packet).toBe(true)
      }),
      {seed: 6003, numRuns: 20_000},
    )
  })

  it('F12 stands any single mutation of a real request', () => {
    const honest = encodeRequest('rrq', 'undionly.kpxe', 'octet', [
      ['blksize', '1432'],
      ['tsize', '0'],
    ])
    fc.assert(
      fc.property(fc.nat(honest.length - 1), fc.nat(255), (at, value) => {
        const mutated = Buffer.from(honest)
        mutated[at] = value
        const packet = decodePacket(mutated)
        expect('ignored' in packet || 'kind' in packet).toBe(true)
      }),
      {seed: 6004, numRuns: 5_000},
    )
  })
})
