/**
 * Ways to spoil a datagram, as one table: some know where options, lengths and the fields that overload lends are; some only bytes.
 * To add one, add a row. Pure but for the random numbers handed in.
 */
import {parseHex} from '../../lib/bytes.ts'
import type {Arrival} from '../../services/dhcpd/link.ts'
import type {Random} from '../random.ts'
import {type Frame, LARGEST_DATAGRAM, option, putTogether, takeApart} from './frame.ts'
import {ARRIVALS, MACHINES, PREFIXES, RELAY, SERVER, STRANGERS} from './world.ts'

type Structural = {readonly name: string; change(frame: Frame, random: Random, seeds: readonly Buffer[]): void}
type Bytewise = {readonly name: string; spoil(bytes: Buffer, random: Random, seeds: readonly Buffer[]): Buffer}

const EDGES = [0, 1, 2, 3, 4, 5, 6, 16, 63, 64, 127, 128, 253, 254, 255] as const
const ADDRESSES = [
  ...MACHINES.map(({address}) => address),
  ...PREFIXES.flatMap(({dynamicRanges}) => dynamicRanges.flatMap(({first, last}) => [first, last])),
  ...[
    SERVER,
    RELAY,
    '10.78.1.5',
    '10.79.0.20',
    '192.0.2.67',
    '192.0.2.1',
    '0.0.0.0',
    '127.0.0.1',
    '224.0.0.1',
    '255.255.255.255',
  ],
].map(address => Buffer.from(address.split('.').map(Number)))
const MACS = [
  ...MACHINES.map(({mac}) => mac),
  ...STRANGERS,
  ...['00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01'],
].map(mac => Buffer.from(parseHex(mac) ?? []))
const KNOWN_CODES = [
  1, 3, 6, 12, 15, 26, 28, 42, 43, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 66, 67, 77, 80, 81, 82,
] as const
const MORE_CODES = [
  90, 93, 94, 97, 116, 118, 119, 120, 121, 124, 125, 128, 135, 150, 151, 175, 208, 209, 210, 211, 220, 221,
] as const
const CODES = [...KNOWN_CODES, ...MORE_CODES]
const CLASSES = [
  'PXEClient',
  'PXEClient:Arch:00000:UNDI:002001',
  'PXEClient:Arch:99999',
  'HTTPClient:Arch:00016',
  'd-i',
  '',
] as const
const USER_CLASSES = [Buffer.from('iPXE'), Buffer.from('\x04iPXE'), Buffer.from('iPXE\0'), Buffer.from('gPXE')] as const

export const STRUCTURAL: readonly Structural[] = [
  {
    name: 'header',
    change(frame, random) {
      const {head} = frame
      if (head.length < 240) return
      const put = (at: number, value: Uint8Array) => head.set(value, at)
      const fields = [
        () => put(0, Buffer.of(random.pick(EDGES))),
        () => put(1, Buffer.of(random.pick(EDGES))),
        () => put(2, Buffer.of(random.pick(EDGES))),
        () => put(3, Buffer.of(random.byte())),
        () => put(4, random.bytes(8)),
        () => put(12, random.pick(ADDRESSES)),
        () => put(16, random.pick(ADDRESSES)),
        () => put(20, random.pick(ADDRESSES)),
        () => put(24, random.oneIn(2) ? Buffer.from(RELAY.split('.').map(Number)) : random.pick(ADDRESSES)),
        () => put(28, random.pick(MACS)),
        () => put(28, random.bytes(16)),
        () => put(44, random.bytes(64)),
        () => put(108, random.bytes(128)),
        () => put(236, random.bytes(4)),
      ]
      random.pick(fields)()
    },
  },
  {
    name: 'plausible state',
    change(frame, random) {
      const address = random.pick(ADDRESSES)
      const replace = (code: number, value: Uint8Array) => {
        frame.options = [...frame.options.filter(each => each[0] !== code), option(code, value)]
      }
      if (frame.head.length === 240 && random.oneIn(2)) frame.head.set(random.pick(MACS), 28)
      replace(53, Buffer.of(random.pick([1, 3, 3, 3, 4, 7, 8])))
      if (random.oneIn(2)) replace(50, address)
      if (random.oneIn(2)) replace(54, random.oneIn(2) ? Buffer.from(SERVER.split('.').map(Number)) : random.pick(ADDRESSES))
      if (frame.head.length === 240) frame.head.set(random.oneIn(2) ? address : Buffer.alloc(4), 12)
    },
  },
  {
    name: 'option length',
    change(frame, random) {
      const chosen = pickOption(frame, random)
      if (chosen !== undefined)
        chosen[1] = random.oneIn(2) ? random.pick(EDGES) : ((chosen[1] ?? 0) + random.pick([-1, 1, 2, 3])) & 255
    },
  },
  {
    name: 'option value',
    change(frame, random) {
      const chosen = pickOption(frame, random)
      if (chosen !== undefined) chosen.set(random.bytes(chosen.length - 2), 2)
    },
  },
  {
    name: 'option repeated',
    change(frame, random) {
      const chosen = pickOption(frame, random)
      if (chosen !== undefined) insert(frame, random, ...Array.from({length: 1 + random.below(8)}, () => Buffer.from(chosen)))
    },
  },
  {
    name: 'option left out',
    change(frame, random) {
      if (frame.options.length > 0) frame.options.splice(random.below(frame.options.length), 1)
    },
  },
  {
    name: 'options in another order',
    change(frame, random) {
      for (let left = frame.options.length - 1; left > 0; left--) {
        const other = random.below(left + 1)
        const [a, b] = [frame.options[left] as Buffer, frame.options[other] as Buffer]
        frame.options[left] = b
        frame.options[other] = a
      }
    },
  },
  {
    name: 'option added',
    change: (frame, random) => insert(frame, random, option(random.pick(CODES), random.bytes(random.pick(EDGES)))),
  },
  {
    name: 'option of another',
    change(frame, random, seeds) {
      const other = pickOption(takeApart(random.pick(seeds)), random)
      if (other !== undefined) insert(frame, random, other)
    },
  },
  {
    name: 'boot class',
    change(frame, random) {
      insert(frame, random, option(60, Buffer.from(random.pick(CLASSES), 'latin1')))
      insert(frame, random, option(93, Buffer.from([0, random.pick([0, 6, 7, 9, 11, 15, 16, 19, 200])])))
      if (random.oneIn(2)) insert(frame, random, option(77, random.pick(USER_CLASSES)))
    },
  },
  {
    name: 'message size',
    change(frame, random) {
      const size = random.pick([0, 1, 300, 548, 575, 576, 577, 590, 640, 1472, 1500, 1501, 32_768, 65_535])
      insert(frame, random, option(57, Buffer.of(size >> 8, size & 255)))
    },
  },
  {
    name: 'asks for everything',
    change: (frame, random) => insert(frame, random, option(55, Buffer.from(Array.from({length: 255}, (_, code) => code)))),
  },
  {
    name: 'split option',
    change(frame, random) {
      const at = random.below(frame.options.length + 1)
      const chosen = frame.options[at]
      if (chosen === undefined || chosen.length < 2) return
      const body = chosen.subarray(2)
      const cut = random.below(body.length + 1)
      const code = chosen[0] ?? 0
      frame.options.splice(at, 1, option(code, body.subarray(0, cut)), option(code, body.subarray(cut)))
    },
  },
  {
    name: 'long option in pieces',
    change(frame, random) {
      const code = random.pick([12, 43, 55, 60, 61, 77, 82, 93, 97, 175])
      for (let pieces = 1 + random.below(6); pieces > 0; pieces--) insert(frame, random, option(code, random.bytes(255)))
    },
  },
  {
    name: 'overload',
    change(frame, random) {
      insert(frame, random, option(52, Buffer.of(random.pick([0, 1, 2, 3, 3, 4, 255]))))
      if (frame.head.length < 240) return
      for (const [at, length] of [
        [44, 64],
        [108, 128],
      ] as const) {
        if (random.oneIn(3)) continue
        const field = Buffer.concat([...Array.from({length: random.below(12)}, () => smallOption(random)), random.bytes(length)])
        if (random.oneIn(2)) field[random.below(length)] = 255
        frame.head.set(field.subarray(0, length), at)
      }
    },
  },
  {
    name: 'pads and early ends',
    change(frame, random) {
      insert(frame, random, random.oneIn(3) ? Buffer.of(255) : Buffer.alloc(1 + random.below(8)))
    },
  },
  {
    name: 'relay information',
    change(frame, random) {
      const parts = Array.from({length: 1 + random.below(6)}, () => {
        const code = random.pick([0, 1, 2, 4, 5, 6, 9, 11, 12, 150, 151, 152, 255])
        const body = random.oneIn(2) ? random.pick(ADDRESSES) : random.bytes(random.pick([0, 1, 3, 4, 5, 32]))
        const length = random.oneIn(6) ? random.byte() : body.length
        return Buffer.concat([Buffer.of(code, length), body])
      })
      insert(frame, random, option(82, Buffer.concat(parts)))
      if (random.oneIn(2) && frame.head.length === 240) frame.head.set(RELAY.split('.').map(Number), 24)
    },
  },
  {
    name: 'pairs within an option',
    change(frame, random) {
      const parts = Array.from({length: 1 + random.below(20)}, () => smallOption(random))
      insert(frame, random, option(random.pick([43, 82, 125, 124, 175]), Buffer.concat(parts)))
    },
  },
  {
    name: 'many options',
    change(frame, random) {
      const count = random.oneIn(400) ? 1 + random.below(20_000) : 1 + random.below(60)
      const isOneCode = random.oneIn(2)
      const code = random.pick(CODES)
      const more = Array.from({length: count}, () => (isOneCode ? option(code, Buffer.of(random.byte())) : smallOption(random)))
      insert(frame, random, ...more)
    },
  },
  {
    name: 'no end mark',
    change(frame) {
      frame.tail = Buffer.alloc(0)
    },
  },
]

export const BYTEWISE: readonly Bytewise[] = [
  {
    name: 'bits flipped',
    spoil(bytes, random) {
      for (let flips = 1 + random.below(16); flips > 0 && bytes.length > 0; flips--) {
        const at = random.below(bytes.length)
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8))
      }
      return bytes
    },
  },
  {
    name: 'bytes at the edges',
    spoil(bytes, random) {
      for (let count = 1 + random.below(8); count > 0 && bytes.length > 0; count--)
        bytes[random.below(bytes.length)] = random.pick(EDGES)
      return bytes
    },
  },
  {name: 'cut', spoil: (bytes, random) => bytes.subarray(0, random.below(bytes.length + 1))},
  {name: 'cut near the options', spoil: (bytes, random) => bytes.subarray(0, 230 + random.below(40))},
  {
    name: 'lengthened',
    spoil(bytes, random) {
      const length = random.oneIn(400) ? random.below(LARGEST_DATAGRAM) : random.below(600)
      const more = random.oneIn(2) ? random.bytes(length) : Buffer.alloc(length, random.pick([0, 1, 255]))
      return Buffer.concat([bytes, more]).subarray(0, LARGEST_DATAGRAM)
    },
  },
  {
    name: 'spliced',
    spoil(bytes, random, seeds) {
      const other = random.pick(seeds)
      return Buffer.concat([bytes.subarray(0, random.below(bytes.length + 1)), other.subarray(random.below(other.length))])
    },
  },
  {name: 'noise', spoil: (_bytes, random) => random.bytes(random.below(600))},
]

export type FuzzPacket = {readonly bytes: Buffer; readonly arrival: Arrival; readonly how: readonly string[]}

/** One packet in twenty goes as it is; the others are spoilt one to five ways, mostly knowing what they spoil. */
export function spoilPacket(random: Random, seeds: readonly Buffer[]): FuzzPacket {
  const arrival = random.oneIn(4) ? random.pick(ARRIVALS) : random.oneIn(2) ? ARRIVALS[0] : ARRIVALS[1]
  const seed = random.pick(seeds)
  if (random.oneIn(20)) return {bytes: Buffer.from(seed), arrival, how: []}
  const how: string[] = []
  const frame = takeApart(seed)
  for (let changes = random.below(5); changes > 0; changes--) {
    const mutation = random.pick(STRUCTURAL)
    mutation.change(frame, random, seeds)
    how.push(mutation.name)
  }
  let bytes = putTogether(frame)
  if (how.length > 0 && !random.oneIn(4)) return {bytes, arrival, how}
  const mutation = random.pick(BYTEWISE)
  bytes = mutation.spoil(bytes, random, seeds)
  return {bytes, arrival, how: [...how, mutation.name]}
}

/** Not the pads and end marks that another mutation put between them. */
function pickOption(frame: Frame, random: Random): Buffer | undefined {
  const chosen = frame.options[random.below(frame.options.length)]
  return chosen !== undefined && chosen.length >= 2 ? chosen : undefined
}

function insert(frame: Frame, random: Random, ...options: readonly Buffer[]): void {
  frame.options.splice(random.below(frame.options.length + 1), 0, ...options)
}

function smallOption(random: Random): Buffer {
  return option(random.oneIn(2) ? random.pick(CODES) : random.byte(), random.bytes(random.below(9)))
}
