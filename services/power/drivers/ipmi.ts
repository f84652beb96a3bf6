/** Power over IPMI 2.0 (RMCP+), by our own client. */
import {isIP} from 'node:net'
import {parseIpv6} from '../../../lib/addresses.ts'
import type {Log} from '../../../lib/log.ts'
import {PowerFault} from '../fault.ts'
import type {Guard} from '../guard.ts'
import {
  BOOT_PARAMETER,
  bootFlags,
  CHASSIS_CONTROL,
  COMMANDS,
  COMPLETION,
  type Command,
  completionText,
  readBootFlags,
  readChassisStatus,
} from '../ipmi/commands.ts'
import {connect} from '../ipmi/connect.ts'
import type {Login} from '../ipmi/open-session.ts'
import type {Reply, Session} from '../ipmi/session.ts'
import {createIpmiSocket, type Peer} from '../ipmi/socket.ts'
import type {Suite} from '../ipmi/suites.ts'
import type {BootChoice, NotKept, PowerConnection, PowerDriver, PowerTarget} from './driver.ts'

const IPMI_PORT = 623
/** IPMI 2.0 §22.28 and §13.20, §22.30: names and passwords are this long at most. */
const USERNAME_BYTES = 16
const PASSWORD_BYTES = 20
/** More BMCs than any site has; a bound all the same, as addresses come and go. */
const REMEMBERED_SUITES = 50_000

export const ipmiDriver = {
  name: 'ipmi',
  capabilities: ['status', 'power', 'soft_off', 'boot_device', 'identify'],
  start({log, retransmitMs}) {
    const socket = createIpmiSocket(log)
    const suites = new Map<string, Suite>()

    function remember(key: string, suite: Suite): void {
      if (suites.size >= REMEMBERED_SUITES) suites.clear()
      if (suites.get(key)?.id !== suite.id) log.debug({bmc: key, suite: suite.id}, 'the BMC takes this cipher suite')
      suites.set(key, suite)
    }

    return {
      key: target => nameOf(peerOf(target)),
      async connect(target, signal) {
        const peer = peerOf(target)
        const key = nameOf(peer)
        const login = loginOf(target)
        const {session, suite} = await connect({
          socket,
          peer,
          login,
          remembered: suites.get(key),
          waitsMs: retransmitMs,
          signal,
        })
        remember(key, suite)
        return createConnection(session, log)
      },
      close: () => socket.close(),
    }
  },
} as const satisfies PowerDriver

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
  const login = {username: Buffer.from(username), password: Buffer.from(password.reveal()), role: privilege ?? 'administrator'}
  if (login.username.length > USERNAME_BYTES) throw new PowerFault('bad_target', 'an IPMI user name has at most 16 bytes')
  if (login.password.length > PASSWORD_BYTES) throw new PowerFault('bad_target', 'an IPMI 2.0 password has at most 20 bytes')
  return login
}

function createConnection(session: Session, log: Log): PowerConnection {
  /** A boot option that a BMC may lack without harm; only the flags themselves must be taken. */
  async function offer(data: readonly number[], guard: Guard): Promise<void> {
    const {completion} = await session.command(COMMANDS.setBootOptions, data, guard)
    if (completion !== 0) log.debug({parameter: data[0], completion: completionText(completion)}, 'a boot option was not taken')
  }

  return {
    async status() {
      const reading = readChassisStatus(
        expectDone(COMMANDS.getChassisStatus, await session.command(COMMANDS.getChassisStatus, [])),
      )
      if (!reading) throw new PowerFault('bad_reply', 'the chassis status is empty')
      return {state: reading.on ? 'on' : 'off', faults: reading.faults}
    },

    async order(order, guard) {
      const reply = await session.command(COMMANDS.chassisControl, [CHASSIS_CONTROL[order]], guard)
      if (reply.completion === COMPLETION.notInThisState) return 'not_now'
      expectDone(COMMANDS.chassisControl, reply)
      return 'taken'
    },

    /**
     * Parameter 3 = 08 first, outside of the transaction, as the BMC would otherwise drop the choice 60 s after it was made (Table 28-14:
     * "don't clear the valid bit on the command's time-out"); then parameters 0, 3, 4, 5, 0 as a transaction.
     */
    async setBootDevice(choice, guard) {
      await offer([BOOT_PARAMETER.clearing, 0x08], guard)
      await offer([BOOT_PARAMETER.setInProgress, 1], guard)
      await offer([BOOT_PARAMETER.clearing, 0x08], guard)
      await offer([BOOT_PARAMETER.acknowledge, 0x01, 0x01], guard)
      const reply = await session.command(COMMANDS.setBootOptions, [BOOT_PARAMETER.flags, ...bootFlags(choice)], guard)
      await offer([BOOT_PARAMETER.setInProgress, 0], guard)
      expectDone(COMMANDS.setBootOptions, reply)
      return {notKept: await readBack(session, choice)}
    },

    async identify(seconds, guard) {
      const data = [Math.max(0, Math.min(255, Math.round(seconds)))]
      expectDone(COMMANDS.chassisIdentify, await session.command(COMMANDS.chassisIdentify, data, guard))
    },

    close: () => session.close(),
  }
}

/** A completion code is no proof: some BMCs take PXE and then ignore it. */
async function readBack(session: Session, choice: BootChoice): Promise<readonly NotKept[]> {
  const reply = await session.command(COMMANDS.getBootOptions, [BOOT_PARAMETER.flags, 0, 0])
  const reading = readBootFlags(expectDone(COMMANDS.getBootOptions, reply))
  if (!reading) throw new PowerFault('bad_reply', 'the boot flags are too short')
  if (reading.device !== choice.device) {
    throw new PowerFault('not_seen', `boot device ${choice.device} was taken, but reads back as ${reading.device ?? 'another'}`)
  }
  const notKept: NotKept[] = []
  if (!reading.valid) notKept.push('valid')
  if (reading.persistent !== choice.persistent) notKept.push('persistent')
  if (reading.firmware !== choice.firmware) notKept.push('firmware')
  return notKept
}

const CANNOT: readonly number[] = [
  0x80,
  COMPLETION.invalidCommand,
  COMPLETION.invalidForLun,
  COMPLETION.parameterOutOfRange,
  COMPLETION.invalidField,
  COMPLETION.notForThisSensor,
  COMPLETION.disabled,
]

function expectDone({name}: Command, {completion, data}: Reply): Buffer {
  if (completion === 0) return data
  const answered = `${name}: the BMC answered completion code ${completionText(completion)}`
  if (completion === COMPLETION.noPrivilege) throw new PowerFault('privilege', answered)
  throw new PowerFault(CANNOT.includes(completion) ? 'cannot' : 'refused', answered)
}
