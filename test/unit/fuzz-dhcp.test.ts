/** A short share of the fuzzing that `npm run fuzz -- dhcp` does at length; and the fuzzer itself: it finds what is planted. */
import {fileURLToPath} from 'node:url'
import {describe, expect, it, vi} from 'vitest'
import {minimise} from '../../fuzz/dhcp/minimise.ts'
import {BYTEWISE, STRUCTURAL} from '../../fuzz/dhcp/mutations.ts'
import {RULES} from '../../fuzz/dhcp/rules.ts'
import {collectSeeds} from '../../fuzz/dhcp/seeds.ts'
import {makePacket, runStretch, type StretchOptions} from '../../fuzz/dhcp/stretch.ts'
import {RELAY} from '../../fuzz/dhcp/world.ts'
import {fuzzDhcp} from '../../fuzz/dhcp.ts'
import {createRandom} from '../../fuzz/random.ts'
import {readNumbers, reportText} from '../../fuzz/report.ts'
import {IGNORED} from '../../services/dhcpd/ignored.ts'
import {createResponder} from '../../services/dhcpd/responder.ts'
import {createSpoilt, type Spoil} from '../support/fuzz-targets.ts'

const SEED = 20_261
const TARGETS = fileURLToPath(new URL('../support/fuzz-targets.ts', import.meta.url))
const seeds = collectSeeds()

function run(packets: number, create?: StretchOptions['create']) {
  return runStretch({seed: SEED, seeds, from: 0, to: packets, ...(create === undefined ? {} : {create})})
}

async function whatBreaks(spoil: Spoil, packets = 300): Promise<Set<string>> {
  const {failures} = await run(packets, createSpoilt(spoil))
  return new Set(failures.map(({what}) => RULES.find(({says}) => what.includes(says))?.says ?? what))
}

vi.setConfig({testTimeout: 120_000})

describe('dhcpd under 8000 mutated packets', () => {
  it('neither fails, nor breaks a rule of the wire, nor is slow; and each way a packet ends is met', async () => {
    const {failures, counters, replies} = await run(8000)
    expect(failures).toEqual([])
    expect(replies).toBeGreaterThan(1500)
    const unmet = ['lease_ended', 'busy', 'fault', 'no_loader'] // an hour's wait, a flood, a defect, a rare architecture
    const reasons = Object.keys(IGNORED).filter(reason => !unmet.includes(reason))
    expect(reasons.filter(reason => counters[`ignored.${reason}`] === undefined)).toEqual([])
    expect(Object.keys(counters)).toEqual(
      expect.arrayContaining(['sent.OFFER', 'sent.ACK', 'sent.NAK', 'sent.BOOTP', 'option_left_out.82']),
    )
  })
})

describe('the fuzzer', () => {
  it('makes packet 7 345 123 without the packets before it, the same each time', () => {
    const [one, again, other] = [
      makePacket(1, 7_345_123, seeds),
      makePacket(1, 7_345_123, seeds),
      makePacket(2, 7_345_123, seeds),
    ]
    expect(again).toEqual(one)
    expect(other.bytes.equals(one.bytes)).toBe(false)
  })

  it('uses every mutation', () => {
    const used = new Set(Array.from({length: 2000}, (_, index) => makePacket(SEED, index, seeds).how).flat())
    expect([...STRUCTURAL, ...BYTEWISE].map(({name}) => name).filter(name => !used.has(name))).toEqual([])
  })

  it('sees every rule broken when replies are spoilt', async () => {
    const random = createRandom(SEED, 0)
    const at =
      (...places: number[]) =>
      (bytes: Buffer) => {
        const place = random.pick(places)
        bytes[place] = (bytes[place] ?? 0) ^ (1 << random.below(8))
        return bytes
      }
    const add =
      (...option: number[]) =>
      (bytes: Buffer) => {
        const end = bytes.lastIndexOf(255)
        return Buffer.concat([bytes.subarray(0, end), Buffer.from([...option, 255]), bytes.subarray(end + 1)])
      }
    const relayed = (bytes: Uint8Array) => Buffer.from(bytes).fill(Buffer.from(RELAY.split('.').map(Number)), 24, 28)
    const spoils: Spoil[] = [
      {request: bytes => Buffer.from(bytes).fill(Buffer.of(1, 1, 6), 0, 3)},
      {request: relayed},
      {reply: at(1, 2, 3, 4, 7, 8, 24, 28, 43)},
      {reply: at(10, 11)},
      {reply: bytes => bytes.fill(1, bytes.lastIndexOf(255))},
      {reply: bytes => bytes.subarray(0, 299)},
      {reply: add(57, 2, 5, 220)},
      {reply: add(54, 4, 10, 77, 0, 1)},
      {reply: add(61, 1, 1)},
      {reply: add(51, 4, 255, 255, 255, 255)},
      {reply: at(16, 17, 18, 19)},
      {reply: bytes => bytes.fill(0, 16, 20)},
      {request: bytes => Buffer.from(bytes).fill(Buffer.from([53, 1, 1, 255]), 240, 244)},
      {reply: bytes => bytes.fill(Buffer.of(10, 77, 0, 51), 16, 20)},
      {reply: at(108, 109)},
      {destination: destination => ({...destination, to: {...destination.to, port: 69}})},
    ]
    const broken = new Set<string>()
    for (const spoil of spoils) for (const says of await whatBreaks(spoil)) broken.add(says)
    expect(RULES.map(({says}) => says).filter(says => !broken.has(says))).toEqual([])
  })

  it('finds an exception, a reply too many, and a responder that forgets its database', async () => {
    const throwing = createSpoilt({
      request(bytes) {
        if (bytes.length < 240) throw new RangeError('planted')
        return bytes
      },
    })
    expect((await run(300, throwing)).failures[0]?.what).toBe('thrown at the socket: planted')
    const twice: StretchOptions['create'] = deps => {
      const real = createResponder(deps)
      return {...real, receive: (bytes, arrival, send) => [0, 1].map(() => real.receive(bytes, arrival, send))}
    }
    expect((await run(300, twice)).failures.map(({what}) => what)).toContain('2 replies to one packet')
    const careless: StretchOptions['create'] = deps =>
      createResponder({...deps, leases: {...deps.leases, bind: async requests => requests.map(() => ({bound: true}))}})
    expect((await run(300, careless)).failures[0]?.what).toMatch(/^F1 .* committed for nobody/)
  })

  it('makes a failing packet smaller, and says when it fails only after others', async () => {
    const create = createSpoilt({
      request(bytes) {
        if (bytes.includes(0x93)) throw new RangeError('planted')
        return bytes
      },
    })
    const [failure] = (await run(300, create)).failures
    const packet = makePacket(SEED, failure!.index, seeds)
    expect(await minimise(packet, failure!.what, create)).toEqual(Buffer.of(0x93))
    expect(await minimise(packet, failure!.what)).toBeUndefined()
  })

  it('names a packet on which it stands still', async () => {
    const target = {module: TARGETS, name: 'createStanding'}
    const report = await fuzzDhcp({seed: SEED, from: 0, packets: 200, hang_ms: 6000, target})
    const [hang] = report.failures
    expect(hang?.what).toMatch(/^hang: /)
    expect(hang?.hex).toContain('3d0701')
    expect(reportText(report)).toContain(`--seed ${SEED} --only ${hang?.index}`)
  })

  it('sees growth', async () => {
    const target = {module: TARGETS, name: 'createLeaking'}
    const report = await fuzzDhcp({seed: SEED, from: 0, packets: 600, target})
    expect(report.failures.map(({what}) => what)).toEqual([expect.stringMatching(/^growth: one responder kept \d+/)])
  })

  it('takes numbers for its arguments and nothing else', () => {
    expect(readNumbers(['--seed', '7', '--only', '12'], ['seed', 'only'])).toEqual({seed: 7, only: 12})
    expect(() => readNumbers(['--sed', '7'], ['seed'])).toThrow("unknown argument '--sed'")
    expect(() => readNumbers(['--seed'], ['seed'])).toThrow('--seed wants a whole number')
  })
})
