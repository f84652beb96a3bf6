/** A process that serves TFTP on the socket it was handed as fd 3, as a child of the supervisor does, until its standard input ends. */
import {systemClock} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {createTftpServer} from '../../services/tftpd/server.ts'
import {numberedFile} from './tftp-peer.ts'

const file = numberedFile('d'.repeat(64), 1_000)
const server = await createTftpServer({
  socket: {fd: 3, localAddress: process.argv[2] ?? '127.0.0.1'},
  files: () => file,
  log: silentLog,
  clock: systemClock,
})
process.stdout.write('ready\n')
process.stdin.resume().on('end', () => server.close())
