/** Power over IPMI 2.0 (RMCP+), by our own client. */
import {createSecretKey} from 'node:crypto'
import {isIP} from 'node:net'
import {parseIpv6} from '../../../lib/addresses.ts'
import {PowerFault} from '../fault.ts'
import {connect} from '../ipmi/connect.ts'
import {createConnection} from '../ipmi/connection.ts'
import type {DeviceId} from '../ipmi/device-id.ts'
import type {Login} from '../ipmi/open-session.ts'
import type {Repository} from '../ipmi/sensors.ts'
import {createIpmiSocket, type Peer} from '../ipmi/socket.ts'
import {SUITES, type Suite} from '../ipmi/suites.ts'
import type {KnownBmc} from '../memory.ts'
import type {PowerDriver, PowerTarget} from './driver.ts'

const IPMI_PORT = 623
/** IPMI 2.0 §22.28 and §13.20, §22.30: names and passwords are this long at most. */
const USERNAME_BYTES = 16
const PASSWORD_BYTES = 20
const SUITE_HOLDS_MS = 7 * 86_400_000
/** Bounds of what a process keeps of BMCs: their names are small, their sensor records some 50 KB each. */
const DEVICES_AT_MOST = 50_000
const REPOSITORIES_AT_MOST = 500

export const ipmiDriver = {
  name: 'ipmi',
  capabilities: ['status', 'power', 'soft_off', 'boot_device', 'identify', 'device', 'events', 'sensors', 'fru'],
  start({log, clock, timers, memory, retransmitMs}) {
    const socket = createIpmiSocket(log)
    const seen = {
      devices: createBounded<DeviceId>(DEVICES_AT_MOST),
      repositories: createBounded<Repository>(REPOSITORIES_AT_MOST),
    }

    return {
      key: target => nameOf(peerOf(target)),
      async connect(target, signal) {
        const peer = peerOf(target)
        const key = nameOf(peer)
        const login = loginOf(target)
        await memory.ready()
        const {session, suite, passed} = await connect({
          socket,
          peer,
          login,
          remembered: suiteOf(memory.bmc(key), clock.now()),
          waitsMs: retransmitMs,
          timers,
          signal,
        })
        if (suiteOf(memory.bmc(key), clock.now())?.id !== suite.id) {
          log.debug({bmc: key, suite: suite.id}, 'the BMC takes this cipher suite')
          memory.remember(key, {suite: suite.id, suite_at: clock.now()})
        }
        for (const {id, why, how} of passed) if (id === 17) memory.learn(key, `suite_17_${how}`, why)
        const bmc = {
          session,
          key,
          memory,
          timers,
          signal,
          has: memory.has.bind(undefined, key),
          learn: memory.learn.bind(undefined, key),
        }
        return createConnection({bmc, seen})
      },
      close: () => socket.close(),
    }
  },
} as const satisfies PowerDriver

/** What worked the last time, for a while: then the best is asked for again, as firmware may have learned it, or somebody have lied. */
function suiteOf(known: KnownBmc | undefined, now: Date): Suite | undefined {
  if (!known?.suite_at || now.getTime() - known.suite_at.getTime() > SUITE_HOLDS_MS) return undefined
  return SUITES.find(({id}) => id === known.suite)
}

/** A map that forgets its oldest entry when it is full. */
function createBounded<T>(most: number): Map<string, T> {
  return new (class extends Map<string, T> {
    override set(key: string, value: T): this {
      this.delete(key)
      if (this.size >= most) this.delete(this.keys().next().value ?? '')
      return super.set(key, value)
    }
  })()
}

function peerOf({address, port = IPMI_PORT}: PowerTarget): Peer {
  const family = isIP(address ?? '')
  if (address === undefined || (family !== 4 && family !== 6)) {
    throw new PowerFault('bad_target', `the BMC address must be a literal IP address, not "${address ?? ''}"`)
  }
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new PowerFault('bad_target', `${port} is not a UDP port`)
  return {address: family === 6 ? (parseIpv6(address) ?? address) : address, port, family}
}

function nameOf({address, port, family}: Peer): string {
  return family === 6 ? `[${address}]:${port}` : `${address}:${port}`
}

function loginOf({username, password, privilege}: PowerTarget): Login {
  if (username === undefined || password === undefined) throw new PowerFault('bad_target', 'the BMC user or password is not set')
  const bytes = Buffer.from(password.reveal())
  const login = {username: Buffer.from(username), password: createSecretKey(bytes), role: privilege ?? 'administrator'}
  if (login.username.length > USERNAME_BYTES) throw new PowerFault('bad_target', 'an IPMI user name has at most 16 bytes')
  if (bytes.length > PASSWORD_BYTES) throw new PowerFault('bad_target', 'an IPMI 2.0 password has at most 20 bytes')
  return login
}
