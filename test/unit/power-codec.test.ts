/** The pure parts of the IPMI client: packets, messages, payload encryption, RAKP codes, boot flags, the replay window. */
import {createCipheriv, createSecretKey, randomBytes} from 'node:crypto'
import fc from 'fast-check'
import {describe, expect, test} from 'vitest'
import type {BootChoice} from '../../services/power/drivers/driver.ts'
import {bootFlags, readBootFlags, readChassisStatus} from '../../services/power/ipmi/commands.ts'
import {decrypt, encrypt, rakp2Code, rakp3Code, rakp4Code, sessionKeys, sessionSecret} from '../../services/power/ipmi/crypto.ts'
import {openRequest, readOpenResponse, readRakp2, readRakp4} from '../../services/power/ipmi/handshake.ts'
import {decodeMessage, encodeMessage} from '../../services/power/ipmi/lan-message.ts'
import {decodePacket, encodeOld, encodePlain, encodeSealed} from '../../services/power/ipmi/packet.ts'
import {createReplayWindow} from '../../services/power/ipmi/replay.ts'
import {SUITES, suiteOf} from '../../services/power/ipmi/suites.ts'

const bytes = (min: number, max: number) => fc.uint8Array({minLength: min, maxLength: max}).map(array => Buffer.from(array))
const byte = fc.integer({min: 0, max: 255})
const number32 = fc.integer({min: 1, max: 2 ** 32 - 1})
const suite = fc.constantFrom(...SUITES)
const keysFor = (secret: Buffer, chosen: (typeof SUITES)[number]) => sessionKeys(chosen, createSecretKey(secret))

describe('packets', () => {
  test('an old and a plain packet come back as they went in', () => {
    fc.assert(
      fc.property(bytes(0, 200), fc.integer({min: 0, max: 63}), (payload, type) => {
        expect(decodePacket(encodeOld(payload), () => undefined)).toEqual({format: 'old', payload})
        expect(decodePacket(encodePlain(type, payload), () => undefined)).toEqual({format: 'plain', type, payload})
      }),
    )
  })

  test('a sealed packet comes back as it went in, under both suites, and is whole multiples of four before its code', () => {
    fc.assert(
      fc.property(bytes(0, 200), bytes(20, 32), suite, number32, number32, (payload, secret, chosen, sessionId, sequence) => {
        const keys = keysFor(secret, chosen)
        const datagram = encodeSealed(payload, {type: 0, sessionId, sequence, keys, iv: randomBytes(16)})
        expect((datagram.length - 4 - chosen.checkBytes) % 4).toBe(0)
        const packet = decodePacket(datagram, id => (id === sessionId ? keys : undefined))
        expect(packet).toEqual({format: 'sealed', type: 0, sessionId, sequence, payload})
      }),
    )
  })

  test('F12 any single changed bit of a sealed packet is found, or leaves nothing but the RMCP sequence byte different', () => {
    const keys = keysFor(Buffer.alloc(20, 7), SUITES[0])
    const datagram = encodeSealed(Buffer.from('chassis'), {type: 0, sessionId: 9, sequence: 3, keys, iv: Buffer.alloc(16, 5)})
    const accepted: number[] = []
    for (let bit = 0; bit < datagram.length * 8; bit++) {
      const changed = Buffer.from(datagram)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      const packet = decodePacket(changed, id => (id === 9 ? keys : undefined))
      if (!('ignored' in packet) && packet.format === 'sealed') accepted.push(bit >> 3)
    }
    expect(new Set(accepted)).toEqual(new Set([1, 2]))
  })

  const junk = fc.record({
    payload: bytes(0, 120),
    sealed: fc.boolean(),
    edits: fc.array(fc.tuple(fc.nat(200), byte), {maxLength: 6}),
    cut: fc.nat(200),
    tail: bytes(0, 40),
  })
  function digest({payload, sealed, edits, cut, tail}: typeof junk extends fc.Arbitrary<infer T> ? T : never): void {
    const keys = keysFor(Buffer.alloc(20, 1), SUITES[1])
    const whole = sealed
      ? encodeSealed(payload, {type: 0, sessionId: 1, sequence: 1, keys, iv: Buffer.alloc(16)})
      : encodePlain(0x13, payload)
    const mutated = Buffer.concat([whole.subarray(0, Math.max(0, whole.length - cut)), tail])
    for (const [at, value] of edits) if (at < mutated.length) mutated[at] = value
    const packet = decodePacket(mutated, () => keys)
    const inner = 'ignored' in packet ? mutated : packet.payload
    for (const read of [decodeMessage, readRakp2, readRakp4, readBootFlags, readChassisStatus]) read(inner)
    readOpenResponse(inner, SUITES[0])
    decrypt(keys.cipherKey, inner)
  }
  test('F12 mutated packets never throw: the same 20 000 each time', () => {
    fc.assert(fc.property(junk, digest), {seed: 623, numRuns: 20_000})
  })
  test('F12 mutated packets never throw: 2 000 others each time', () => {
    fc.assert(fc.property(junk, digest), {numRuns: 2000})
  })
  test('F12 random bytes never throw', () => {
    fc.assert(
      fc.property(bytes(0, 300), datagram => {
        decodePacket(datagram, () => undefined)
        decodeMessage(datagram)
      }),
      {numRuns: 5000},
    )
  })

  test('a packet that is only encrypted, or only authenticated, is ignored', () => {
    const datagram = encodePlain(0, Buffer.alloc(20))
    for (const flags of [0x80, 0x40]) {
      datagram[5] = flags
      expect(decodePacket(datagram, () => keysFor(Buffer.alloc(20), SUITES[0]))).toEqual({ignored: 'half_protected'})
    }
  })
})

describe('messages', () => {
  test('a message comes back as it went in', () => {
    const message = fc.record({
      to: byte,
      from: byte,
      netFn: fc.integer({min: 0, max: 63}),
      sequence: fc.integer({min: 0, max: 63}),
      command: byte,
      data: bytes(0, 60),
    })
    fc.assert(
      fc.property(message, value => {
        expect(decodeMessage(encodeMessage(value))).toEqual(value)
      }),
    )
  })

  test('Get Device ID is the bytes of the specification, checksums included', () => {
    const request = encodeMessage({to: 0x20, from: 0x81, netFn: 6, sequence: 1, command: 1, data: Buffer.alloc(0)})
    expect(request.toString('hex')).toBe('2018c88104017a')
  })

  test('a wrong checksum is refused', () => {
    const request = encodeMessage({to: 0x20, from: 0x81, netFn: 0, sequence: 1, command: 2, data: Buffer.from([1])})
    for (let at = 0; at < request.length; at++) {
      const changed = Buffer.from(request)
      changed[at]! ^= 0x01
      expect(decodeMessage(changed)).toBeUndefined()
    }
  })
})

describe('cryptography', () => {
  test('what is encrypted is decrypted, and its length is whole blocks', () => {
    fc.assert(
      fc.property(bytes(16, 16), bytes(16, 16), bytes(0, 100), (key, iv, data) => {
        const secret = createSecretKey(key)
        const payload = encrypt(secret, iv, data)
        expect(payload.length % 16).toBe(0)
        expect(decrypt(secret, payload)).toEqual(data)
      }),
    )
  })

  test('padding other than 01 02 03 … is refused', () => {
    const key = createSecretKey(Buffer.alloc(16, 3))
    const sealed = (tail: number[]) => {
      const cipher = createCipheriv('aes-128-cbc', key, Buffer.alloc(16)).setAutoPadding(false)
      return Buffer.concat([Buffer.alloc(16), cipher.update(Buffer.from([...Buffer.alloc(12, 9), ...tail])), cipher.final()])
    }
    expect(decrypt(key, sealed([1, 2, 3, 3]))).toEqual(Buffer.alloc(12, 9))
    expect(decrypt(key, sealed([1, 2, 4, 3]))).toBeUndefined()
    expect(decrypt(key, sealed([1, 2, 3, 16]))).toBeUndefined()
  })

  test('the codes of one exchange are the HMACs that the specification names', () => {
    // Computed apart, with Python's hmac and hashlib, from the byte strings of IPMI 2.0 §13.31.
    const facts = {
      consoleId: Buffer.from('a0a1a2a3', 'hex'),
      bmcId: Buffer.from('02000000', 'hex'),
      consoleRandom: Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex'),
      bmcRandom: Buffer.from('101112131415161718191a1b1c1d1e1f', 'hex'),
      bmcGuid: Buffer.from('202122232425262728292a2b2c2d2e2f', 'hex'),
      role: 0x14,
      username: Buffer.from('ingot'),
    }
    const password = createSecretKey(Buffer.from('correct horse'))
    const codes = SUITES.map(chosen => {
      const secret = sessionSecret(chosen, password, facts)
      const keys = sessionKeys(chosen, secret)
      return {
        suite: chosen.id,
        rakp2: rakp2Code(chosen, password, facts).toString('hex'),
        rakp3: rakp3Code(chosen, password, facts).toString('hex'),
        rakp4: rakp4Code(chosen, secret, facts).toString('hex'),
        k1: keys.integrityKey.export().toString('hex'),
        k2: keys.cipherKey.export().toString('hex'),
      }
    })
    expect(codes).toEqual(KNOWN_CODES)
  })

  test('only suites 17 and 3 exist, and 17 comes first', () => {
    expect(SUITES.map(({id}) => id)).toEqual([17, 3])
    expect(suiteOf(0, 0, 0)).toBeUndefined()
    for (const chosen of SUITES) expect(openRequest(0, Buffer.alloc(4), chosen)[1]).toBe(0)
  })
})

describe('boot flags', () => {
  const choice: fc.Arbitrary<BootChoice> = fc.record({
    device: fc.constantFrom('none', 'pxe', 'disk', 'cdrom', 'bios'),
    firmware: fc.constantFrom('bios', 'uefi'),
    persistent: fc.boolean(),
  })
  test('a choice comes back as it went in, valid', () => {
    fc.assert(
      fc.property(choice, wanted => {
        expect(readBootFlags(Buffer.from([1, 5, ...bootFlags(wanted)]))).toEqual({...wanted, valid: true})
      }),
    )
  })
  test('PXE once on UEFI is the byte pair a0 04', () => {
    expect(bootFlags({device: 'pxe', firmware: 'uefi', persistent: false})).toEqual([0xa0, 0x04, 0, 0, 0])
  })
})

describe('the replay window', () => {
  test('takes every number once, in any order within 32, and never 0', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([...Array(32).keys()].map(n => n + 1)), order => {
        const window = createReplayWindow()
        expect(window.accept(0)).toBe(false)
        for (const number of order) expect(window.accept(number)).toBe(true)
        for (const number of order) expect(window.accept(number)).toBe(false)
      }),
    )
  })
  test('refuses what has fallen out of the window, and bears leaps up to the last number', () => {
    const window = createReplayWindow()
    expect(window.accept(100)).toBe(true)
    expect(window.accept(69)).toBe(true)
    expect(window.accept(68)).toBe(false)
    expect(window.accept(0xffff_ffff)).toBe(true)
    expect(window.accept(100)).toBe(false)
    expect(window.accept(0xffff_fffe)).toBe(true)
  })
})

const KNOWN_CODES = [
  {
    suite: 17,
    rakp2: '760e0df6d54d935eda936e044ad939f69063f2afb90ad696653d7a996a3c89a3',
    rakp3: '4367f36d0fe3c393945cfd6afb66d035ccd3255d1b631b328c2e6d16ed6b6dee',
    rakp4: 'fb67f449d2a99f83a710090bc7428ac5',
    k1: '768dd4b44ceda92297a995b94de433cb00228abbbe02315eab147e6b5bbbe772',
    k2: '577fa0cb1ea80884112afeff325a108c',
  },
  {
    suite: 3,
    rakp2: 'b7cba8a5c651083691b2b1c5179cd7363a7a3460',
    rakp3: '021f1ad04a584cd78a7929d7da1ac42c74365649',
    rakp4: '9c1da3f882016ff62a0d4724',
    k1: '603fab6da044b93e54cf16f6e39dfd61ad657c56',
    k2: '936582ba3443a147593ac7f85f5a5cdc',
  },
]
