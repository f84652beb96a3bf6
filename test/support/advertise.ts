/** Opens the router advertisement socket of an interface and writes a minimal advertisement (RFC 4861 §4.2) until it is stopped. */
import {writeSync} from 'node:fs'
import {openRouterAdvertisementSocket} from '../../services/supervisor/sockets.ts'

const fd = openRouterAdvertisementSocket(process.argv[2] ?? '')
process.stdout.write(`${JSON.stringify({opened: fd !== undefined})}\n`)
if (fd !== undefined) setInterval(() => writeSync(fd, Buffer.from([134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), 100)
