/**
 * The sockets of simulated machines: a relay for DHCP, HTTP from each machine's own address, TFTP. Everything is real traffic; what is
 * lost is lost here, by the machine's own dice.
 *
 * A relay rather than broadcasts: a thousand machines are on as many switch ports, and the server sees them by option 82.
 */
import {createSocket, type Socket} from 'node:dgram'
import {once} from 'node:events'
import {Agent, request} from 'node:http'
import type {Ipv4} from '../lib/addresses.ts'
import {sleep} from '../lib/clock.ts'
import {decodePacket, encodeAck, encodeRequest} from '../services/tftpd/packet.ts'
import type {Chance} from './chance.ts'
import {type Ask, encodeAsk, type Reply, readReply} from './dhcp-client.ts'
import type {FaultMix} from './faults.ts'

export type HttpAnswer = {readonly status: number; readonly body: Buffer}

export type HttpAsk = {
  readonly method: 'GET' | 'POST'
  readonly url: string
  readonly from: Ipv4
  readonly bearer?: string | undefined
  readonly body?: string | undefined
  readonly range?: string | undefined
}

/** No answer came, or the connection broke. */
export class NoAnswer extends Error {}

/** What a machine speaks through. Each call ends early, by `NoAnswer`, when `signal` aborts: its power went off. */
export type Wire = {
  dhcp(ask: Omit<Ask, 'relay' | 'xid' | 'secs' | 'port'>, dice: Dice, signal: AbortSignal): Promise<Reply>
  tftp(server: Ipv4, file: string, from: Ipv4, signal: AbortSignal): Promise<number>
  http(ask: HttpAsk, dice: Dice, signal: AbortSignal): Promise<HttpAnswer>
}

export type Dice = {readonly random: Chance; readonly mix: FaultMix}

/** iPXE: 1, 2, 4, 8 s. A little quicker here, since the wire is short; then it gives up and the firmware begins again. */
const DHCP_WAITS_MS = [500, 1_000, 2_000, 4_000, 8_000]
const HTTP_LIMIT_MS = 30_000
const TFTP_WAIT_MS = 1_000
const TFTP_TRIES = 8

export type Relay = {
  /** What the machines of its prefix speak through. */
  wire(port: string): Wire
  /** Packets sent and answers that came, for reports. */
  readonly counts: {sent: number; answered: number}
  /** Addresses that were acknowledged to a second machine while the lease of a first one ran. */
  readonly doubled: readonly string[]
  close(): Promise<void>
}

/** @param address the relay's (giaddr), an address of this host @param servers where requests go: each gets every one */
export async function openRelay(address: Ipv4, servers: readonly Ipv4[]): Promise<Relay> {
  const waiting = new Map<string, (reply: Reply) => void>()
  const counts = {sent: 0, answered: 0}
  const doubled: string[] = []
  const holders = new Map<Ipv4, {mac: string; untilMs: number}>()
  const agent = new Agent({keepAlive: false, maxSockets: Number.POSITIVE_INFINITY})
  const socket = createSocket({type: 'udp4', recvBufferSize: 4 * 1024 * 1024, sendBufferSize: 4 * 1024 * 1024})
  socket.on('message', bytes => {
    const reply = readReply(bytes)
    if (reply) waiting.get(`${reply.mac} ${reply.xid}`)?.(reply)
  })
  await bind(socket, address, 67)

  /** One question, sent again until an answer of a wanted type comes. */
  async function ask(question: Omit<Ask, 'relay' | 'secs'>, dice: Dice, signal: AbortSignal): Promise<Reply | undefined> {
    const key = `${question.mac} ${question.xid}`
    let secs = 0
    for (const waitMs of DHCP_WAITS_MS) {
      const answer = new Promise<Reply>(resolve => waiting.set(key, resolve))
      const bytes = encodeAsk({...question, relay: address, secs})
      if (!dice.random.chance(dice.mix.packet_lost)) {
        counts.sent++
        for (const server of servers) socket.send(bytes, 67, server)
      }
      const reply = await Promise.race([answer, sleep(waitMs, signal)])
      waiting.delete(key)
      if (signal.aborted) throw new NoAnswer('its power went off')
      if (reply && !dice.random.chance(dice.mix.packet_lost)) {
        counts.answered++
        return reply
      }
      secs += Math.round(waitMs / 1000)
    }
    return undefined
  }

  return {
    counts,
    doubled,
    wire: port => ({
      async dhcp(question, dice, signal) {
        const xid = dice.random.integer(1, 2 ** 31)
        const offer = await ask({...question, xid, port}, dice, signal)
        if (offer?.type !== 'OFFER') throw new NoAnswer('no DHCP offer')
        const ack = await ask({...question, xid, port, offer}, dice, signal)
        if (ack?.type !== 'ACK') throw new NoAnswer(`no DHCP acknowledgement (${ack?.type ?? 'nothing'})`)
        const holder = holders.get(ack.address)
        if (holder && holder.mac !== ack.mac && holder.untilMs > performance.now())
          doubled.push(`${ack.address}: ${holder.mac}, ${ack.mac}`)
        holders.set(ack.address, {mac: ack.mac, untilMs: performance.now() + ack.lease_s * 1000})
        return ack
      },
      tftp: fetchByTftp,
      async http(wanted, dice, signal) {
        if (dice.random.chance(dice.mix.request_lost)) throw new NoAnswer('the request was lost')
        const answer = await exchange(agent, wanted, signal)
        if (dice.random.chance(dice.mix.answer_lost)) throw new NoAnswer('the answer was lost')
        return answer
      },
    }),
    async close() {
      agent.destroy()
      await new Promise<void>(resolve => socket.close(() => resolve()))
    },
  }
}

function exchange(agent: Agent, {method, url, from, bearer, body, range}: HttpAsk, signal: AbortSignal): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(new NoAnswer(`${method} ${new URL(url).pathname}: ${error.message}`))
    const headers = {
      ...(bearer === undefined ? {} : {authorization: `Bearer ${bearer}`}),
      ...(range === undefined ? {} : {range}),
      ...(body === undefined ? {} : {'content-type': 'application/json', 'content-length': Buffer.byteLength(body)}),
    }
    const sent = request(url, {method, agent, localAddress: from, headers, signal, timeout: HTTP_LIMIT_MS})
    sent.on('timeout', () => sent.destroy(new Error('no answer in time')))
    sent.on('error', fail)
    sent.on('response', response => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', fail)
      response.on('end', () => {
        if (response.complete) resolve({status: response.statusCode ?? 0, body: Buffer.concat(chunks)})
        else fail(new Error('the connection broke'))
      })
    })
    sent.end(body)
  })
}

/** RFC 1350 with a block size, as PXE firmware fetches its loader. @returns how many bytes came */
async function fetchByTftp(server: Ipv4, file: string, from: Ipv4, signal: AbortSignal): Promise<number> {
  const socket = createSocket('udp4')
  try {
    await bind(socket, from, 0)
    let send = {bytes: encodeRequest('rrq', file, 'octet', [['blksize', '1408']]), port: 69}
    let size = 0
    let blockBytes = 512
    for (let expected = 0, tries = 0; ; ) {
      socket.send(send.bytes, send.port, server)
      const came = await Promise.race([once(socket, 'message', {signal}).catch(() => undefined), sleep(TFTP_WAIT_MS, signal)])
      if (signal.aborted) throw new NoAnswer('its power went off')
      if (!came) {
        if (++tries > TFTP_TRIES) throw new NoAnswer(`TFTP: ${file} never came`)
        continue
      }
      const [bytes, peer] = came as [Buffer, {port: number}]
      const packet = decodePacket(bytes)
      if ('ignored' in packet) continue
      if (packet.kind === 'error') throw new NoAnswer(`TFTP: ${file}: ${packet.message}`)
      if (packet.kind === 'oack') {
        blockBytes = Number(packet.options.find(([name]) => name.toLowerCase() === 'blksize')?.[1] ?? 512)
        send = {bytes: encodeAck(0), port: peer.port}
        expected = 1
      } else if (packet.kind === 'data' && packet.block === (expected || 1)) {
        tries = 0
        size += packet.bytes.length
        send = {bytes: encodeAck(packet.block), port: peer.port}
        expected = (packet.block + 1) & 0xffff
        if (packet.bytes.length < blockBytes) {
          socket.send(send.bytes, send.port, server)
          return size
        }
      }
    }
  } finally {
    socket.close()
  }
}

function bind(socket: Socket, address: Ipv4, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(port, address, () => {
      socket.off('error', reject)
      // A host that is down for a moment answers with ICMP; that is as good as no answer.
      socket.on('error', () => undefined)
      resolve()
    })
  })
}
