/**
 * F1 Several dhcpd processes serve one prefix, are killed with -9 at random, lose their database now and then, and start again, while
 * clients come, renew, give back and vanish. Every lease that a client was ever acknowledged is written down; then no address may have
 * been two clients' at one instant. Time runs `SPEED` times as fast, so that leases end, cool down and are used again within the test.
 *
 * `INGOT_PLURAL_S=600` runs longer, `INGOT_PLURAL_SEED=7` with another seed, `INGOT_PLURAL_REPLICAS=5` with more processes.
 */
import {type ChildProcess, fork} from 'node:child_process'
import {once} from 'node:events'
import {fileURLToPath} from 'node:url'
import {afterAll, beforeAll, expect, it} from 'vitest'
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {sleep} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {MESSAGE_TYPES, type MessageType, readOption} from '../../services/dhcpd/options.ts'
import {decodePacket, encodePacket, type Packet} from '../../services/dhcpd/packet.ts'
import {createIpam} from '../../services/ipam/index.ts'
import {createTestDatabase, type TestDatabase} from '../support/database.ts'
import {type FromReplica, fastMs, type ReplicaConfig, type ToReplica} from '../support/dhcp-replica.ts'
import {makeRequest} from '../support/dhcp-world.ts'
import {findBreaches} from '../support/ipam-world.ts'

const RUN_MS = Number(process.env.INGOT_PLURAL_S ?? 20) * 1000
const SEED = Number(process.env.INGOT_PLURAL_SEED ?? 1)
const REPLICAS = Number(process.env.INGOT_PLURAL_REPLICAS ?? 2)
const REPLICA = fileURLToPath(new URL('../support/dhcp-replica.ts', import.meta.url))
const SPEED = 10
/** A slow host needs longer until enough was seen. */
const PATIENCE_MS = 90_000
/** Of the fast time: a lease lasts as long as the least that may be set. */
const LEASE_S = 60
const CLIENTS = 24
/** Fewer than clients: addresses are used again as soon as they may be. */
const RANGE = {first: '10.9.0.64' as Ipv4, last: '10.9.0.69' as Ipv4}

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase({maxConnections: 4})
})
afterAll(async () => {
  await database.drop()
})

/** One client's belief: from the ACK's arrival to the end that it granted, counted from its REQUEST (RFC 2131 §4.4.1). */
type Holding = {readonly address: Ipv4; readonly mac: Mac; readonly fromMs: number; untilMs: number}
type Replica = {readonly address: Ipv4; child: ChildProcess; ready: boolean}
type Answer = {readonly packet: Packet; readonly type: MessageType}

it(
  `F1 never gives one address to two clients, whichever of ${REPLICAS} processes is killed when (seed ${SEED})`,
  async () => {
    const random = createRandom(SEED)
    const began = {wallMs: Date.UTC(2030, 0, 1), realMs: Date.now()}
    const nowMs = () => fastMs({began, speed: SPEED})
    const clock = {now: () => new Date(nowMs()), monotonicMs: nowMs}
    const ipam = createIpam({db: database.db, clock, log: silentLog})
    const {id} = await ipam.createPrefix(
      database.db,
      {
        cidr: '10.9.0.0/24',
        lease_s: LEASE_S,
        cool_down_s: 120,
        boot_url: 'http://10.9.0.1',
        ranges: [{kind: 'dynamic', ...RANGE}],
      },
      'test',
    )
    const prefix: ReplicaConfig['prefix'] = {
      ...{id, cidr: '10.9.0.0/24' as ReplicaConfig['prefix']['cidr'], gateway: null, dns: [], boot_url: 'http://10.9.0.1'},
      ...{lease_s: LEASE_S, interface: 'test', routerAdvertisement: false, relays: []},
      dynamicRanges: [RANGE],
    }
    const waiting = new Map<number, (answer: Answer) => void>()
    const holdings: Holding[] = []
    const refusals = new Map<string, number>()
    const counts = {offers: 0, acks: 0, renewals: 0, releases: 0, naks: 0, kills: 0, aways: 0}
    const least = Date.now() + RUN_MS
    const deadline = least + PATIENCE_MS
    let xids = 0
    let machines = 0

    const nextMac = () => `52:54:00:09:${hex(++machines >> 8)}:${hex(machines & 255)}` as Mac

    /** Addresses that went from one client to another. */
    function countReused(): number {
      return new Set(holdings.map(held => `${held.address} ${held.mac}`)).size - new Set(holdings.map(held => held.address)).size
    }

    function goesOn(): boolean {
      if (Date.now() < least) return true
      return Date.now() < deadline && (countReused() < 3 || counts.kills < 3 || counts.renewals < 10 || counts.aways < 1)
    }

    function start(replica: Replica): Replica {
      const config: ReplicaConfig = {databaseUrl: database.url, address: replica.address, prefix, began, speed: SPEED}
      const child = fork(REPLICA, [JSON.stringify(config)], {
        serialization: 'advanced',
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      })
      child.on('message', (message: FromReplica) => {
        if ('ready' in message) replica.ready = true
        else deliver(message.reply)
      })
      replica.child = child
      replica.ready = false
      return replica
    }

    function deliver(bytes: Uint8Array): void {
      const packet = decodePacket(bytes)
      if ('ignored' in packet) throw new Error(`a replica sent what is no packet: ${packet.ignored}`)
      const type = MESSAGE_TYPES[readOption(packet.options, 'message_type') ?? 0]
      if (type) waiting.get(packet.xid)?.({packet, type})
    }

    const replicas = Array.from({length: REPLICAS}, (_, index) =>
      start({address: `10.9.0.${index + 2}` as Ipv4, child: undefined as unknown as ChildProcess, ready: false}),
    )

    function send(message: ToReplica, to: readonly Replica[] = replicas): void {
      // One that is being killed takes no message, as a dead host takes no packet.
      for (const {child} of to) if (child.connected) child.send(message, () => undefined)
    }

    /** Broadcasts, and takes the answers that come within a moment. */
    async function ask(
      packet: Packet,
      patience_ms: number,
      isEnough: (answers: readonly Answer[]) => boolean,
    ): Promise<Answer[]> {
      const answers: Answer[] = []
      const enough = Promise.withResolvers<void>()
      waiting.set(packet.xid, answer => {
        answers.push(answer)
        if (isEnough(answers)) enough.resolve()
      })
      send({packet: encodePacket(packet).bytes})
      const patience = new AbortController()
      await Promise.race([enough.promise, sleep(patience_ms, patience.signal)])
      patience.abort()
      waiting.delete(packet.xid)
      return answers
    }

    const make = (type: MessageType, mac: Mac, options: Parameters<typeof makeRequest>[1], header: Partial<Packet> = {}) =>
      makeRequest(type, options, {mac, xid: ++xids, ...header})

    async function request(mac: Mac, packet: Packet): Promise<Holding | undefined> {
      const sentMs = nowMs()
      const [answer] = await ask(packet, 2_000, answers => answers.length > 0)
      if (answer?.type === 'NAK') {
        counts.naks++
        const why = readOption(answer.packet.options, 'message') ?? ''
        refusals.set(why, (refusals.get(why) ?? 0) + 1)
      }
      if (answer?.type !== 'ACK') return undefined
      counts.acks++
      const lease_s = readOption(answer.packet.options, 'lease_time') ?? 0
      const holding = {address: answer.packet.yiaddr, mac, fromMs: nowMs(), untilMs: sentMs + lease_s * 1000}
      if (holding.untilMs > holding.fromMs) holdings.push(holding)
      return holding
    }

    async function live(): Promise<void> {
      let mac = nextMac()
      while (goesOn()) {
        await sleep(random() * 400)
        const offers = (await ask(make('DISCOVER', mac, {}), 1_000, answers => answers.length >= replicas.length)).filter(
          answer => answer.type === 'OFFER',
        )
        counts.offers += offers.length
        const chosen = offers[Math.floor(random() * offers.length)]
        if (!chosen) continue
        const server = readOption(chosen.packet.options, 'server_identifier')!
        let holding = await request(
          mac,
          make('REQUEST', mac, {server_identifier: server, requested_address: chosen.packet.yiaddr}),
        )
        while (holding && goesOn()) {
          await sleep(random() * ((LEASE_S * 1000) / SPEED / 2))
          const choice = random()
          if (holding.untilMs <= nowMs() || choice < 0.15) break
          if (choice < 0.35) {
            // By its own hand it has it no more, from before the server hears of it.
            const given = nowMs()
            for (const held of holdings) if (held.mac === mac && held.untilMs > given) held.untilMs = given
            send({packet: encodePacket(make('RELEASE', mac, {server_identifier: server}, {ciaddr: holding.address})).bytes})
            counts.releases++
            break
          }
          const renewed: Holding | undefined = await request(mac, make('REQUEST', mac, {}, {ciaddr: holding.address}))
          if (renewed) {
            counts.renewals++
            holding = renewed
          }
        }
        // It vanishes without a word; later it comes again, or another does.
        await sleep(random() * 3_000)
        if (random() < 0.5) mac = nextMac()
      }
    }

    async function kill(): Promise<void> {
      while (goesOn()) {
        await sleep(500 + random() * 2_000)
        const victim = replicas[Math.floor(random() * replicas.length)]!
        if (random() < 0.25) {
          counts.aways++
          send({away: true})
          await sleep(random() * 4_000)
          send({away: false})
          continue
        }
        if (!victim.ready) continue
        const exited = once(victim.child, 'exit')
        victim.child.kill('SIGKILL')
        await exited
        counts.kills++
        await sleep(random() * 1_000)
        start(victim)
      }
    }

    async function expire(): Promise<void> {
      while (goesOn()) {
        await ipam.expireLeases(clock.now())
        await sleep(200)
      }
    }

    try {
      while (!replicas.every(replica => replica.ready)) await sleep(20)
      await Promise.all([...Array.from({length: CLIENTS}, live), kill(), expire()])
    } finally {
      for (const {child} of replicas) child.kill('SIGKILL')
    }
    process.stdout.write(`${JSON.stringify({...counts, reused: countReused(), refusals: Object.fromEntries(refusals)})}\n`)
    expect(findDoubles(holdings)).toEqual([])
    expect(await findBreaches(database.db)).toEqual([])
    // It tested something.
    expect(countReused()).toBeGreaterThanOrEqual(3)
    expect(counts.kills).toBeGreaterThanOrEqual(3)
    expect(counts.renewals).toBeGreaterThanOrEqual(10)
  },
  RUN_MS + PATIENCE_MS + 60_000,
)

function findDoubles(holdings: readonly Holding[]): string[] {
  const byAddress = Map.groupBy(holdings, held => held.address)
  return [...byAddress].flatMap(([address, held]) =>
    held.flatMap((one, index) =>
      held
        .slice(index + 1)
        .filter(other => other.mac !== one.mac && other.fromMs < one.untilMs && one.fromMs < other.untilMs)
        .map(other => `${address}: ${say(one)} and ${say(other)}`),
    ),
  )
}

function say({mac, fromMs, untilMs}: Holding): string {
  return `${mac} ${new Date(fromMs).toISOString()}–${new Date(untilMs).toISOString()}`
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0')
}

/** Mulberry32: small, and the same everywhere. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
