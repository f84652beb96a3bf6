/** The power service over our IPMI client, against a BMC double on loopback that can be faulty in the ways real ones are. */
import {createSecretKey} from 'node:crypto'
import {createSocket} from 'node:dgram'
import {Writable} from 'node:stream'
import {inspect} from 'node:util'
import {pino} from 'pino'
import {afterEach, describe, expect, test} from 'vitest'
import {systemClock} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import {silentLog} from '../../lib/log.ts'
import {Secret} from '../../lib/secret.ts'
import {createPower, faultKind, type PowerParts, type PowerTarget} from '../../services/power/index.ts'
import {COMMANDS} from '../../services/power/ipmi/commands.ts'
import {connect} from '../../services/power/ipmi/connect.ts'
import {exchange} from '../../services/power/ipmi/exchange.ts'
import {createIpmiSocket, type IpmiSocket, type Line} from '../../services/power/ipmi/socket.ts'
import {systemTimers} from '../../services/power/timers.ts'
import {type BmcOptions, type SimulatedBmc, startBmc as startSimulated} from '../../sim/bmc/index.ts'
import {createRandom} from '../../sim/random.ts'

const PASSWORD = 'correct horse'
const quick = {retransmitMs: [60, 120, 180, 240, 300, 300, 300], restMs: 1, confirmMs: 3000}

const cleanUps: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

async function startBmc(options: BmcOptions = {}): Promise<SimulatedBmc> {
  const bmc = await startSimulated(options)
  cleanUps.push(() => bmc.stop())
  return bmc
}

function startPower(parts: Partial<PowerParts> = {}) {
  const power = createPower({log: silentLog, clock: systemClock, ...quick, ...parts})
  cleanUps.push(() => power.close())
  return power
}

function targetOf({port}: {port: number}, more: Partial<PowerTarget> = {}): PowerTarget {
  const password = new Secret(PASSWORD)
  return {machineId: 'm1', driver: 'ipmi', address: '127.0.0.1', port, username: 'ingot', password, ...more}
}

/** A session with the double, without the façade. */
async function connectTo({port}: {port: number}, socket = openSocket()) {
  return connect({
    socket,
    peer: {address: '127.0.0.1', port, family: 4},
    login: {username: Buffer.from('ingot'), password: createSecretKey(Buffer.from(PASSWORD)), role: 'administrator'},
    remembered: undefined,
    waitsMs: quick.retransmitMs,
    timers: systemTimers,
    signal: new AbortController().signal,
  })
}

function openSocket(): IpmiSocket {
  const socket = createIpmiSocket(silentLog)
  cleanUps.push(() => socket.close())
  return socket
}

async function failureOf(work: Promise<unknown>): Promise<{code: string; kind: string | undefined; detail: string}> {
  const error = await work.then(
    value => expect.unreachable(`it succeeded with ${inspect(value)}`),
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof IngotError)) throw error
  return {code: error.code, kind: faultKind(error), detail: error.detail}
}

describe('a healthy BMC', () => {
  test('status, on and off do what they say, read it back, and repeat without another order', async () => {
    const bmc = await startBmc({chassis: {slowPolls: 2}})
    const power = startPower()
    const target = targetOf(bmc)
    expect(await power.status(target)).toMatchObject({state: 'off', faults: []})
    expect(await power.on(target)).toEqual({done: 'seen', state: 'on', changed: true})
    expect(await power.on(target)).toEqual({done: 'seen', state: 'on', changed: false})
    expect(await power.status(target)).toMatchObject({state: 'on'})
    expect(await power.off(target)).toEqual({done: 'seen', state: 'off', changed: true})
    expect(bmc.power).toBe(0)
    expect(await power.off(target)).toEqual({done: 'seen', state: 'off', changed: false})
    expect(bmc.orders).toEqual([1, 0])
  })

  test('cycle never uses the blind cycle of the BMC', async () => {
    const bmc = await startBmc()
    const power = startPower()
    expect(await power.cycle(targetOf(bmc))).toEqual({done: 'seen', state: 'on', changed: true})
    expect(await power.cycle(targetOf(bmc))).toEqual({done: 'seen', state: 'on', changed: true})
    expect(bmc.orders).toEqual([1, 0, 1])
  })

  test('soft off and identify send their own commands', async () => {
    const bmc = await startBmc()
    bmc.power = 1
    const power = startPower()
    expect(await power.softOff(targetOf(bmc))).toEqual({done: 'seen', state: 'off', changed: true})
    expect(bmc.orders).toEqual([5])
    expect(await power.identify(targetOf(bmc), 30)).toEqual({done: 'seen', seconds: 30})
    expect(bmc.heard).toContain('chassisIdentify')
  })

  test('the boot device is set by parameters 3 = 08 and then 0, 3, 4, 5, 0, and read back', async () => {
    const bmc = await startBmc()
    const written: number[][] = []
    bmc.answer = ({command, netFn, data}) => {
      if (netFn === 0 && command === COMMANDS.setBootOptions.command) written.push([...data])
      return undefined
    }
    const outcome = await startPower().setBootDevice(targetOf(bmc), 'pxe', {firmware: 'uefi', persistent: true})
    expect(outcome).toEqual({done: 'seen', device: 'pxe', notKept: []})
    expect(written).toEqual([
      [3, 8],
      [0, 1],
      [3, 8],
      [4, 1, 1],
      [5, 0xe0, 0x04, 0, 0, 0],
      [0, 0],
    ])
    expect([...bmc.boot]).toEqual([0xe0, 0x04, 0, 0, 0])
  })

  test('a status costs ten datagrams and no raised privilege, and its session is closed', async () => {
    const bmc = await startBmc()
    await startPower().status(targetOf(bmc))
    expect(bmc.heard).toEqual(['getChassisStatus', 'closeSession'])
    expect(bmc.openSessions).toBe(0)
  })

  test('operations on one BMC take turns: it never has two sessions', async () => {
    const bmc = await startBmc({maxSessions: 1})
    const power = startPower()
    const target = targetOf(bmc)
    await Promise.all([power.on(target), power.status(target), power.cycle(target), power.off(target), power.status(target)])
    expect(bmc.mostSessions).toBe(1)
    expect(bmc.power).toBe(0)
  })

  test('many BMCs share the client, all at once', async () => {
    const bmcs = await Promise.all(Array.from({length: 120}, () => startBmc()))
    const power = startPower({maxConcurrent: 50})
    const outcomes = await Promise.all(bmcs.map(bmc => power.on(targetOf(bmc))))
    expect(outcomes.every(outcome => outcome.done === 'seen' && outcome.changed)).toBe(true)
    expect(bmcs.every(bmc => bmc.power === 1 && bmc.openSessions === 0)).toBe(true)
  })
})

describe('cipher suites', () => {
  test('suite 17 is asked for first', async () => {
    const bmc = await startBmc()
    await startPower().status(targetOf(bmc))
    expect(bmc.asked).toEqual(['3/4/1'])
    expect(bmc.suitesUsed).toEqual([17])
  })

  test('suite 3 follows where 17 is refused, and is remembered', async () => {
    const bmc = await startBmc({suites: [3]})
    const power = startPower()
    await power.status(targetOf(bmc))
    await power.status(targetOf(bmc))
    expect(bmc.asked).toEqual(['3/4/1', '1/1/1', '1/1/1'])
  })

  test('suite 3 follows where 17 meets silence from a BMC that otherwise answers', async () => {
    const bmc = await startBmc({suites: [3], otherSuites: 'ignore'})
    expect(await startPower().status(targetOf(bmc))).toMatchObject({state: 'off'})
    expect(bmc.suitesUsed).toEqual([3])
  })

  test('suite 0 is never asked for, even where the BMC takes nothing else', async () => {
    const bmc = await startBmc({suites: []})
    expect(await failureOf(startPower().status(targetOf(bmc)))).toMatchObject({code: 'POWER_UNSUPPORTED', kind: 'no_suite'})
    expect(bmc.asked).toEqual(['3/4/1', '1/1/1'])
  })

  test('an answer that chose other algorithms than asked for is refused', async () => {
    const bmc = await startBmc()
    bmc.mangle = datagram => {
      if (datagram[5] === 0x11) for (const at of [32, 40, 48]) datagram[at] = 0
      return [datagram]
    }
    expect(await failureOf(startPower().status(targetOf(bmc)))).toMatchObject({kind: 'no_suite'})
    expect(bmc.suitesUsed).toEqual([])
  })
})

describe('failures are told apart', () => {
  test('a wrong password', async () => {
    const bmc = await startBmc()
    const failure = await failureOf(startPower().on(targetOf(bmc, {password: new Secret('wrong horse')})))
    expect(failure).toMatchObject({code: 'POWER_AUTH', kind: 'wrong_password'})
    expect(bmc.orders).toEqual([])
  })

  test('a wrong user', async () => {
    const bmc = await startBmc()
    const failure = await failureOf(startPower().status(targetOf(bmc, {username: 'nobody'})))
    expect(failure).toMatchObject({code: 'POWER_AUTH', kind: 'wrong_user'})
    expect(failure.detail).toContain('"nobody"')
  })

  test('a user without the privilege, refused at the door or at the order', async () => {
    const bmc = await startBmc({users: {ingot: {password: PASSWORD, level: 2}}})
    const power = startPower()
    expect(await failureOf(power.status(targetOf(bmc)))).toMatchObject({code: 'POWER_AUTH', kind: 'privilege'})
    const asUser = targetOf(bmc, {privilege: 'user'})
    expect(await power.status(asUser)).toMatchObject({state: 'off'})
    expect(await failureOf(power.on(asUser))).toMatchObject({code: 'POWER_AUTH', kind: 'privilege'})
  })

  test('a K_G key that was not given', async () => {
    const bmc = await startBmc({groupKey: 'two keys'})
    expect(await failureOf(startPower().status(targetOf(bmc)))).toMatchObject({code: 'POWER_AUTH', kind: 'wrong_group_key'})
  })

  test('a closed port, by its ICMP answer', async () => {
    const bmc = await startSimulated()
    await bmc.stop()
    const failure = await failureOf(startPower().status(targetOf(bmc)))
    expect(failure).toMatchObject({code: 'POWER_UNREACHABLE', kind: 'port_refused'})
  })

  test('silence', async () => {
    const {port} = await startSilence()
    const failure = await failureOf(startPower().status(targetOf({port})))
    expect(failure).toMatchObject({code: 'POWER_UNREACHABLE', kind: 'no_answer'})
  })

  test('an address that this host cannot send to', async () => {
    const target = targetOf({port: 623}, {address: '255.255.255.255'})
    expect(await failureOf(startPower().status(target))).toMatchObject({code: 'POWER_UNREACHABLE', kind: 'no_route'})
  })

  test('a BMC of IPMI 1.5', async () => {
    const bmc = await startBmc({old: true})
    expect(await failureOf(startPower().status(targetOf(bmc)))).toMatchObject({
      code: 'POWER_UNSUPPORTED',
      kind: 'only_ipmi_15',
    })
  })

  test('sessions all taken, after some patience', async () => {
    const bmc = await startBmc({maxSessions: 0})
    expect(await failureOf(startPower().status(targetOf(bmc)))).toMatchObject({
      code: 'POWER_UNREACHABLE',
      kind: 'no_session',
    })
    expect(bmc.asked.length).toBe(3)
  })

  test('an order that the BMC takes and does not carry out', async () => {
    const bmc = await startBmc({chassis: {manners: 'deaf'}})
    expect(await failureOf(startPower({confirmMs: 150}).on(targetOf(bmc)))).toMatchObject({
      code: 'POWER_UNCONFIRMED',
      kind: 'not_seen',
    })
  })

  test('a command that the BMC lacks', async () => {
    const bmc = await startBmc()
    bmc.answer = ({netFn, command}) =>
      netFn === 0 && command === COMMANDS.chassisIdentify.command ? Buffer.from([0xc1]) : undefined
    expect(await failureOf(startPower().identify(targetOf(bmc)))).toMatchObject({code: 'POWER_UNSUPPORTED', kind: 'cannot'})
  })

  test('a boot device that reads back as another', async () => {
    const bmc = await startBmc()
    bmc.answer = ({netFn, command}) =>
      netFn === 0 && command === COMMANDS.getBootOptions.command ? Buffer.from([0, 1, 5, 0x80, 0x08, 0, 0, 0]) : undefined
    const setting = startPower().setBootDevice(targetOf(bmc), 'pxe', {firmware: 'bios', persistent: false})
    const failure = await failureOf(setting)
    expect(failure).toMatchObject({code: 'POWER_UNCONFIRMED', kind: 'not_seen'})
    expect(failure.detail).toContain('reads back as disk')
  })

  test('flags that were dropped are named without a failure', async () => {
    const bmc = await startBmc({chassis: {keptBootFlags: 0x80}})
    const setting = startPower().setBootDevice(targetOf(bmc), 'pxe', {firmware: 'uefi', persistent: true})
    expect(await setting).toEqual({done: 'seen', device: 'pxe', notKept: ['persistent', 'firmware']})
  })

  test('a target that cannot be right', async () => {
    const power = startPower()
    const targets: PowerTarget[] = [
      targetOf({port: 623}, {address: 'bmc.example'}),
      targetOf({port: 623}, {address: undefined}),
      targetOf({port: 0}),
      targetOf({port: 623}, {password: undefined}),
      targetOf({port: 623}, {username: 'seventeen-letters'}),
      targetOf({port: 623}, {password: new Secret('twenty-one-characters')}),
    ]
    for (const target of targets) {
      expect(await failureOf(power.status(target))).toMatchObject({code: 'INVALID_INPUT', kind: 'bad_target'})
    }
  })
})

describe('the right to act', () => {
  test('F7 no order leaves when the right has ended before', async () => {
    const bmc = await startBmc()
    const power = startPower()
    const lost = {mayAct: () => false}
    expect(await power.on(targetOf(bmc), lost)).toEqual({done: 'withheld', sent: false})
    expect(await power.cycle(targetOf(bmc), lost)).toEqual({done: 'withheld', sent: false})
    const setting = power.setBootDevice(targetOf(bmc), 'pxe', {firmware: 'bios', persistent: false}, lost)
    expect(await setting).toEqual({done: 'withheld', sent: false})
    expect(bmc.heard.filter(name => name === 'chassisControl' || name === 'setBootOptions')).toEqual([])
    expect(await power.status(targetOf(bmc), lost)).toMatchObject({state: 'off'})
    expect(bmc.openSessions).toBe(0)
  })

  test('F7 an unanswered order is not sent again when the right has ended meanwhile', async () => {
    const bmc = await startBmc()
    bmc.answer = ({netFn, command}) => (netFn === 0 && command === COMMANDS.chassisControl.command ? 'silence' : undefined)
    let asked = 0
    const outcome = await startPower().on(targetOf(bmc), {mayAct: () => asked++ === 0})
    expect(outcome).toEqual({done: 'withheld', sent: true})
    expect(bmc.heard.filter(name => name === 'chassisControl')).toEqual(['chassisControl'])
  })

  test('F7 a cycle whose right ends after the off does not switch on', async () => {
    const bmc = await startBmc()
    bmc.power = 1
    let asked = 0
    expect(await startPower().cycle(targetOf(bmc), {mayAct: () => asked++ === 0})).toEqual({done: 'withheld', sent: true})
    expect(bmc.orders).toEqual([0])
  })
})

describe('a bad network', () => {
  test('F9 an order whose answer is lost is asked again and carried out once', async () => {
    const bmc = await startBmc()
    let lost = 0
    bmc.mangle = datagram => {
      const isAnswerToOrder = bmc.heard.at(-1) === 'chassisControl'
      return isAnswerToOrder && lost++ < 2 ? [] : [datagram]
    }
    expect(await startPower().on(targetOf(bmc))).toEqual({done: 'seen', state: 'on', changed: true})
    expect(bmc.heard.filter(name => name === 'chassisControl').length).toBe(3)
    expect(bmc.orders).toEqual([1])
  })

  test('F9 one datagram in ten lost each way, repeated and reordered: every verb still succeeds', async () => {
    const power = startPower()
    const bmcs = await Promise.all(
      Array.from({length: 20}, (_, seed) =>
        startBmc({seed, loss: 0.1, repeat: 0.2, delayMs: 15, suites: seed % 2 ? [3] : [17, 3], rakp3Once: seed % 3 > 0}),
      ),
    )
    await Promise.all(
      bmcs.map(async bmc => {
        const target = targetOf(bmc)
        await power.setBootDevice(target, 'pxe', {firmware: 'uefi', persistent: false})
        await power.cycle(target)
        expect(bmc.power).toBe(1)
        await power.off(target)
      }),
    )
    expect(bmcs.map(bmc => bmc.power)).toEqual(bmcs.map(() => 0))
    expect(bmcs.every(bmc => bmc.boot[0] === 0xa0)).toBe(true)
  })

  test('F9 a handshake whose last answer is lost is begun anew, and leaves no session behind', async () => {
    const bmc = await startBmc({rakp3Once: true})
    let lost = 0
    bmc.mangle = datagram => (datagram[5] === 0x15 && lost++ === 0 ? [] : [datagram])
    expect(await startPower().on(targetOf(bmc))).toMatchObject({done: 'seen', state: 'on'})
    expect(bmc.suitesUsed).toEqual([17, 17])
    expect(bmc.openSessions).toBe(0)
  })

  test('a busy BMC is asked again', async () => {
    const bmc = await startBmc()
    let busy = 2
    bmc.answer = ({netFn}) => (netFn === 0 && busy-- > 0 ? Buffer.from([0xc0]) : undefined)
    expect(await startPower().status(targetOf(bmc))).toMatchObject({state: 'off'})
    expect(bmc.heard.filter(name => name === 'getChassisStatus').length).toBe(3)
  })

  test('a datagram that the kernel refuses too late does not disturb the next exchange', async () => {
    const {promise: refused, resolve: refuse} = Promise.withResolvers<void>()
    const line = {peer: {address: '', port: 1, family: 4}, id: 1, firstTag: 0, keys: undefined, listener: undefined} as Line
    const packet = {format: 'plain', type: 0, payload: Buffer.alloc(0)} as const
    const socket = {
      send(_line: Line, datagram: Buffer, failed: (error: NodeJS.ErrnoException) => void) {
        if (datagram.length === 0) refused.then(() => failed(Object.assign(new Error('late'), {code: 'ENETUNREACH'})))
      },
    } as IpmiSocket
    const ask = (bytes: number) =>
      exchange(socket, line, {
        make: () => Buffer.alloc(bytes),
        accept: () => 'answered',
        waitsMs: [10_000],
        timers: systemTimers,
        signal: new AbortController().signal,
      })
    const first = ask(0)
    line.listener?.(packet)
    expect(await first).toBe('answered')
    const second = ask(1)
    refuse()
    await new Promise(resolve => setImmediate(resolve))
    line.listener?.(packet)
    expect(await second).toBe('answered')
  })

  test('F9 a BMC that falls silent within a session is unreachable, and the next BMC is served all the same', async () => {
    const [dying, healthy] = [await startBmc(), await startBmc()]
    dying.mangle = datagram => (dying.heard.length > 0 ? [] : [datagram])
    const power = startPower()
    const both = Promise.all([failureOf(power.on(targetOf(dying))), power.on(targetOf(healthy))])
    expect(await both).toMatchObject([
      {code: 'POWER_UNREACHABLE', kind: 'no_answer'},
      {done: 'seen', state: 'on'},
    ])
  })

  test('F12 mangled answers crash nothing, hang nothing, leave nothing behind, and never make a wrong reading', async () => {
    const socket = openSocket()
    let succeeded = 0
    let failed = 0
    await Promise.all(
      Array.from({length: 40}, async (_, seed) => {
        const random = createRandom(seed)
        const bmc = await startBmc()
        bmc.power = 1
        bmc.mangle = datagram => mangle(datagram, random)
        try {
          const {session} = await connectTo(bmc, socket)
          try {
            const {completion, data} = await session.command(COMMANDS.getChassisStatus, [])
            expect([completion, data[0]]).toEqual([0, 1])
            succeeded += 1
          } finally {
            await session.close()
          }
        } catch (error) {
          if (faultKind(error) === undefined) throw error
          failed += 1
        }
      }),
    )
    expect(succeeded).toBeGreaterThan(10)
    expect(succeeded + failed).toBe(40)
    expect(socket.lineCount).toBe(0)
  })
})

/** Random bytes, a cut, a changed bit, a copy, or nothing wrong. */
function mangle(datagram: Buffer, random: () => number): readonly Buffer[] {
  const below = (count: number) => Math.floor(random() * count)
  switch (below(6)) {
    case 0:
      return [Buffer.from(Array.from({length: 1 + below(200)}, () => below(256)))]
    case 1:
      return [datagram.subarray(0, 1 + below(datagram.length - 1))]
    case 2: {
      const changed = Buffer.from(datagram)
      changed[below(changed.length)]! ^= 1 << below(8)
      return [changed]
    }
    case 3:
      return [datagram, datagram]
    default:
      return [datagram]
  }
}

describe('who speaks', () => {
  test('a late refusal of an earlier session is not taken for this one, even without a session id', async () => {
    const bmc = await startBmc({suites: [3]})
    let refusal: Buffer | undefined
    bmc.mangle = datagram => {
      if (datagram[5] !== 0x11) return [datagram]
      if (refusal) return [refusal, datagram]
      datagram.fill(0, 20, 24)
      refusal = datagram
      return [refusal]
    }
    expect(await startPower().status(targetOf(bmc))).toMatchObject({state: 'off'})
  })

  test('an answer that repeats an older one of the session, of the same number, is not believed', async () => {
    const bmc = await startBmc()
    const sent: Buffer[] = []
    let replay = false
    bmc.mangle = datagram => {
      const before = replay && sent[0] ? [sent[0]] : []
      if (bmc.heard.length > 0) sent.push(datagram)
      return [...before, datagram]
    }
    const {session} = await connectTo(bmc)
    // Request numbers have six bits: the 65th has the number of the first.
    for (let request = 1; request <= 64; request++) {
      expect((await session.command(COMMANDS.getChassisStatus, [])).data[0]).toBe(0)
    }
    bmc.power = 1
    replay = true
    expect((await session.command(COMMANDS.getChassisStatus, [])).data[0]).toBe(1)
    await session.close()
  })

  test('a BMC that cannot prove that it knows the password gets no proof of ours', async () => {
    const bmc = await startBmc()
    bmc.mangle = datagram => {
      if (datagram[5] === 0x13) datagram[datagram.length - 1]! ^= 1
      return [datagram]
    }
    expect(await failureOf(startPower().status(targetOf(bmc)))).toMatchObject({kind: 'wrong_password'})
    expect(bmc.suitesUsed).toEqual([])
    await expect.poll(() => bmc.openSessions).toBe(0)
  })

  test('what comes from another address or port is not believed', async () => {
    const bmc = await startBmc()
    const impostor = createSocket('udp4')
    cleanUps.push(() => new Promise(resolve => impostor.close(() => resolve())))
    await new Promise<void>(resolve => impostor.bind(0, '127.0.0.1', resolve))
    let told = 0
    bmc.mangle = (datagram, to) => {
      if (datagram[5] !== 0x13) return [datagram]
      const refusal = Buffer.from(datagram)
      refusal[17] = 0x0d
      impostor.send(refusal, to.port, to.address, () => told++)
      return told > 0 ? [datagram] : []
    }
    expect(await startPower().status(targetOf(bmc))).toMatchObject({state: 'off'})
    expect(told).toBeGreaterThan(0)
  })
})

describe('stopping', () => {
  test('an abort rejects with its reason, and the session is closed', async () => {
    const bmc = await startBmc({chassis: {manners: 'deaf'}})
    const stop = new AbortController()
    const switching = startPower().on(targetOf(bmc), {signal: stop.signal})
    await expect.poll(() => bmc.heard.filter(name => name === 'getChassisStatus').length).toBeGreaterThan(2)
    stop.abort(new Error('job cancelled'))
    await expect(switching).rejects.toThrow('job cancelled')
    expect(bmc.heard.at(-1)).toBe('closeSession')
    expect(bmc.openSessions).toBe(0)
  })

  test('close ends what runs and what waits, and refuses what comes after', async () => {
    const bmc = await startBmc({chassis: {manners: 'deaf'}})
    const power = startPower()
    const working = [power.on(targetOf(bmc)), power.on(targetOf(bmc))].map(failureOf)
    await expect.poll(() => bmc.heard.length).toBeGreaterThan(2)
    await power.close()
    for (const failure of await Promise.all(working)) expect(failure.kind).toBe('closed')
    expect(bmc.openSessions).toBe(0)
    expect((await failureOf(power.status(targetOf(bmc)))).kind).toBe('closed')
  })
})

describe('the breaker', () => {
  test('F9 a dead BMC is not asked for ever, and is asked again after its rest', async () => {
    const silence = await startSilence()
    let passedMs = 0
    const clock = {now: () => new Date(), monotonicMs: () => systemClock.monotonicMs() + passedMs}
    const power = startPower({clock, retransmitMs: [10, 10]})
    const target = targetOf(silence)
    for (let attempt = 0; attempt < 3; attempt++) await failureOf(power.status(target))
    const before = silence.datagrams()
    const failure = await failureOf(power.status(target))
    expect(failure).toMatchObject({code: 'POWER_UNREACHABLE', kind: 'no_answer'})
    expect(failure.detail).toContain('not asked')
    expect(silence.datagrams()).toBe(before)
    passedMs += 16_000
    expect((await failureOf(power.status(target))).detail).not.toContain('not asked')
    expect(silence.datagrams()).toBeGreaterThan(before)
  })
})

describe('secrets', () => {
  test('F24 neither a password nor what was made of it reaches a log or an error', async () => {
    const lines: string[] = []
    const sink = new Writable({
      write(chunk, _encoding, done) {
        lines.push(String(chunk))
        done()
      },
    })
    const power = startPower({log: pino({level: 'trace'}, sink), confirmMs: 100})
    const bmc = await startBmc({chassis: {manners: 'deaf', keptBootFlags: 0}})
    const canary = 'canary-4711'
    const errors: unknown[] = []
    const keep = (error: unknown) => errors.push(error)
    await power.status(targetOf(bmc))
    await power.setBootDevice(targetOf(bmc), 'pxe', {firmware: 'uefi', persistent: true})
    await power.on(targetOf(bmc)).catch(keep)
    await power.on(targetOf(bmc, {password: new Secret(canary)})).catch(keep)
    await power.on(targetOf(bmc, {password: new Secret(`${canary}-that-is-too-long`)})).catch(keep)
    expect(errors.length).toBe(3)
    expect(lines.length).toBeGreaterThan(2)
    const everything = lines.join('') + errors.map(error => inspect(error, {depth: 10}) + JSON.stringify(error)).join('')
    expect(everything).not.toContain(canary)
    expect(everything).not.toContain(PASSWORD)
  })
})

/** A port where datagrams arrive and nothing is said. */
async function startSilence(): Promise<{port: number; datagrams: () => number}> {
  const socket = createSocket('udp4')
  let datagrams = 0
  socket.on('message', () => datagrams++)
  await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
  cleanUps.push(() => new Promise(resolve => socket.close(() => resolve())))
  return {port: socket.address().port, datagrams: () => datagrams}
}
