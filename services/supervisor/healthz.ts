/** The plainest answer to "are you there", on a listener that the supervisor opened. */
import {createServer, type Server} from 'node:http'

/** Serves `GET /healthz` on an inherited listener. */
export function serveHealth(fd: number): Promise<Server> {
  const server = createServer((request, response) => {
    const found = request.method === 'GET' && request.url === '/healthz'
    response.writeHead(found ? 200 : 404, {'content-type': 'text/plain'}).end(found ? 'ok\n' : 'not found\n')
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({fd}, () => resolve(server))
  })
}

/** Takes no new connection and ends the idle ones. */
export function closeServer(server: Server): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve())
    server.closeIdleConnections()
  })
}
