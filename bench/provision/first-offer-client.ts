/** A DHCP client that only ever asks: broadcasts a DISCOVER every 10 ms and prints when the first OFFER came. `first-offer-client.ts MAC` */
import {createSocket} from 'node:dgram'
import type {Ipv4} from '../../lib/addresses.ts'
import {MESSAGE_TYPES, readOption, writeOption} from '../../services/dhcpd/options.ts'
import {BOOTREPLY, BOOTREQUEST, BROADCAST_FLAG, decodePacket, encodePacket} from '../../services/dhcpd/packet.ts'

const [mac = ''] = process.argv.slice(2)
const NONE = '0.0.0.0' as Ipv4
const chaddr = Buffer.alloc(16)
chaddr.write(mac.replaceAll(':', ''), 'hex')
const firstXid = (process.pid << 12) >>> 0

const socket = createSocket('udp4')
socket.on('message', message => {
  const packet = decodePacket(message)
  if ('ignored' in packet || packet.op !== BOOTREPLY || packet.xid < firstXid || packet.xid > firstXid + 0xfff) return
  if (MESSAGE_TYPES[readOption(packet.options, 'message_type') ?? 0] !== 'OFFER') return
  process.stdout.write(`offer ${Date.now()}\n`)
  clearInterval(timer)
  socket.close()
})
await new Promise<void>(resolve => socket.bind(68, resolve))
socket.setBroadcast(true)
let sent = 0
const timer = setInterval(() => socket.send(discover(firstXid + (sent++ & 0xfff)), 67, '255.255.255.255'), 10)
process.stdout.write('asking\n')

function discover(xid: number): Buffer {
  const options = new Map<number, Uint8Array>()
  writeOption(options, 'message_type', MESSAGE_TYPES.indexOf('DISCOVER'))
  const nothing = {hops: 0, secs: 0, ciaddr: NONE, yiaddr: NONE, siaddr: NONE, giaddr: NONE, sname: '', file: ''}
  return encodePacket({op: BOOTREQUEST, htype: 1, hlen: 6, xid, flags: BROADCAST_FLAG, chaddr, options, ...nothing}).bytes
}
