/** Ten thousand clients that ask and never answer: an honest one is served among them, and everything they cost comes back. */
import {createSocket} from 'node:dgram'
import {mkdtemp, readFile, rm} from 'node:fs/promises'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {setFlagsFromString} from 'node:v8'
import {runInNewContext} from 'node:vm'
import {expect, it} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {silentLog} from '../../lib/log.ts'
import {DEFAULT_TFTP_LIMITS} from '../../services/tftpd/limits.ts'
import {encodeRequest} from '../../services/tftpd/packet.ts'
import {createTftpServer} from '../../services/tftpd/server.ts'
import type {TransferReport} from '../../services/tftpd/session.ts'
import {fetchWith, isInstalled, TFTP_CLIENTS} from '../support/tftp-clients.ts'
import {numberedFile} from '../support/tftp-peer.ts'

const ABANDONED = 10_000

it('F14 ten thousand abandoned requests do not hurt an honest transfer, and their memory returns', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'ingot-half-open-'))
  const file = numberedFile('f'.repeat(64), 1024 * 1024)
  const reports: TransferReport[] = []
  const server = await createTftpServer({
    socket: {address: '127.0.0.1', port: 0},
    files: () => file,
    log: silentLog,
    clock: systemClock,
    observe: report => reports.push(report),
  })
  const {port} = server.address
  const before = resourcesNow()

  for (let sent = 0; sent < ABANDONED; sent += 100) await abandon(port, 100, `127.0.1.${1 + ((sent / 100) % 50)}`)
  await expect.poll(() => seen(server.counters()), {timeout: 60_000}).toBeGreaterThan(ABANDONED * 0.95)
  expect(server.active().halfOpen).toBeGreaterThan(DEFAULT_TFTP_LIMITS.halfOpenPerAddress)
  expect(server.active().halfOpen).toBeLessThanOrEqual(DEFAULT_TFTP_LIMITS.halfOpen)

  const honest = TFTP_CLIENTS.filter(isInstalled)
  expect(honest.length).toBeGreaterThan(0)
  for (const client of honest) {
    // Not in the honest client's own name: whoever forges that can always crowd it out of its share.
    const noise = abandon(port, 500, '127.0.2.1')
    await fetchWith(client, port, 'file', join(dir, 'fetched'))
    await noise
    expect((await readFile(join(dir, 'fetched'))).equals(file.bytes), client.name).toBe(true)
    expect(server.active().halfOpen, 'the crowd is still there when the honest transfer is done').toBeGreaterThan(0)
  }
  const complete = reports.filter(({end}) => end === 'complete')
  expect(complete).toHaveLength(honest.length)
  expect(complete.map(({resentBlocks}) => resentBlocks).every(count => count < 20)).toBe(true)

  await expect.poll(() => server.active(), {timeout: 60_000}).toEqual({transfers: 0, halfOpen: 0})
  await expect.poll(() => resourcesNow().sockets, {timeout: 10_000}).toBe(before.sockets)
  const after = resourcesNow()
  expect(after.heapBytes - before.heapBytes).toBeLessThan(8 * 1024 * 1024)
  expect(server.counters().fault).toBeUndefined()
  await server.close()
  await rm(dir, {recursive: true})
})

/** Sends requests from sockets that close at once: nobody will answer, and the kernel says so to nobody. */
async function abandon(port: number, count: number, address: string): Promise<void> {
  await Promise.all(
    Array.from({length: count}, async (_, index) => {
      const socket = createSocket('udp4')
      await new Promise<void>(resolve => socket.bind(0, address, resolve))
      const options = index % 2 ? ([['blksize', '1468']] as const) : []
      await new Promise(resolve => socket.send(encodeRequest('rrq', 'file', 'octet', options), port, '127.0.0.1', resolve))
      await new Promise<void>(resolve => socket.close(resolve))
    }),
  )
}

function seen(counters: Readonly<Record<string, number>>): number {
  return (counters.requests ?? 0) + (counters.duplicate_request ?? 0) + (counters.busy ?? 0)
}

function resourcesNow(): {sockets: number; heapBytes: number} {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  const sockets = process.getActiveResourcesInfo().filter(name => name === 'UDPWRAP').length
  return {sockets, heapBytes: process.memoryUsage().heapUsed}
}
