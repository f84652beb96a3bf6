/** Broadcasts a word to the DHCP server port from one interface and tells the first answer as JSON; asks again until there is one. */
import {createSocket} from 'node:dgram'
import {openUdpSocket} from '../../services/supervisor/sockets.ts'

const [interfaceName = '', word = ''] = process.argv.slice(2)
const socket = createSocket('udp4')
socket.on('message', (message, from) => {
  process.stdout.write(`${JSON.stringify({answer: message.toString(), from: from.address, port: from.port})}\n`)
  process.exit(0)
})
socket.bind({fd: openUdpSocket({interface: interfaceName}, 68)}, () => {
  socket.send(word, 67, '255.255.255.255')
  setInterval(() => socket.send(word, 67, '255.255.255.255'), 200)
})
