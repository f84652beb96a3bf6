/**
 * The ramdisk of a simulated machine: the conversation of docs/boot-walk.md, request for request as `pxe/ramdisk/lib` has it. It asks
 * again for ever where nothing answers or 5xx comes, and takes any other 4xx for a decision.
 */
import {sleep} from '../lib/clock.ts'
import type {BootFaults} from './faults.ts'
import type {Machine} from './machine.ts'
import type {HttpAnswer} from './wire.ts'

/** How a boot of the ramdisk ends. */
export type Ending = 'poweroff' | 'reboot' | 'hang'

type Lines = ReadonlyMap<string, string>
type Answer = {readonly status: number; readonly lines: Lines; readonly body: Buffer}

export type RamdiskBoot = {
  readonly machine: Machine
  readonly token: string
  readonly url: string
  readonly faults: BootFaults
  readonly signal: AbortSignal
  /** One request; rejects with NoAnswer. */
  readonly ask: (method: 'GET' | 'POST', path: string, bearer: string, body?: unknown) => Promise<HttpAnswer>
}

/** 1, 2, 4, 8, then every 16 s in a real one; a simulated wire is short, and so are the pauses. */
const PAUSES_MS = [250, 500, 1_000, 2_000]

export async function runRamdisk(boot: RamdiskBoot): Promise<Ending> {
  const {machine, faults, signal, token} = boot
  const {times} = machine.make
  if (faults.hangsIn === 'ramdisk') return 'hang'
  const hello = await insist(boot, 'POST', '/ramdisk/hello', token, {
    mac: machine.make.mac,
    firmware: machine.make.firmware,
    uptime_s: 3.5,
  })
  if (!isGood(hello)) return refused(boot, token, hello)
  if (faults.resets && machine.resetOnce()) return 'reboot'
  await pause(machine.dice.random.next() * times.look_ms, signal)
  if (hello.lines.get('stage') === 'inspect') {
    for (;;) {
      const facts = await insist(boot, 'POST', '/ramdisk/facts', token, machine.facts())
      if (!isGood(facts)) return refused(boot, token, facts)
      const then = facts.lines.get('then')
      if (then === 'poweroff' || then === 'reboot') return then
      await pause(1_000, signal)
    }
  }

  const secret = machine.makeSecret()
  const claim = await insist(boot, 'POST', '/ramdisk/claim', token, {session: secret})
  if (claim.status === 409) {
    machine.note('claim_refused', {cause: claim.lines.get('refused') ?? ''})
    return 'reboot'
  }
  if (!isGood(claim)) return refused(boot, token, claim)
  const session = claim.lines.get('session') ?? ''
  machine.claimed(token, session)
  if (faults.hangsIn === 'working') return 'hang'
  const action = claim.lines.get('action')
  if (action === 'clean') return clean(boot, session)
  if (action === 'install') return install(boot, session, claim.lines)
  throw new Error(`the claim is for something unknown: ${action}`)
}

async function clean(boot: RamdiskBoot, session: string): Promise<Ending> {
  const {machine, faults, signal} = boot
  machine.destroyDisk('wipe', session)
  await progress(boot, session, 'wipe', 40)
  await pause(machine.make.times.wipe_ms, signal)
  if (faults.breaks) return fail(boot, session, faults.breaks)
  machine.wiped()
  const disks = [{name: 'vda', serial: machine.make.serial, size_bytes: 8e9, method: 'zero', verified: 'whole'}]
  return obey(boot, session, await insist(boot, 'POST', '/ramdisk/events', session, {kind: 'wiped', disks}))
}

async function install(boot: RamdiskBoot, session: string, claim: Lines): Promise<Ending> {
  const {machine, faults, signal} = boot
  const manifest = await insist(boot, 'GET', claim.get('image') ?? '', session)
  if (!isGood(manifest)) return refused(boot, session, manifest)
  const config = await insist(boot, 'GET', claim.get('config') ?? '', session)
  if (!isGood(config)) return refused(boot, session, config)
  machine.destroyDisk('install', session)
  await progress(boot, session, 'write', 50)
  await pause(machine.make.times.write_ms, signal)
  if (faults.breaks) return fail(boot, session, faults.breaks)
  machine.installed(config.body.toString('latin1'))
  const written = {kind: 'disk_written', disk: 'vda', serial: machine.make.serial, bytes: 8e9, image_digest: 'simulated'}
  const heard = await insist(boot, 'POST', '/ramdisk/events', session, written)
  if (!isGood(heard)) return refused(boot, session, heard)
  const method = machine.make.firmware === 'uefi' ? 'efi_boot_entry' : 'firmware_order'
  return obey(boot, session, await insist(boot, 'POST', '/ramdisk/events', session, {kind: 'local_boot_set', method}))
}

async function fail(boot: RamdiskBoot, bearer: string, what: {cause: string; detail: string}): Promise<Ending> {
  await insist(boot, 'POST', '/ramdisk/events', bearer, {kind: 'failed', ...what})
  await sendLog(boot, bearer)
  return 'poweroff'
}

/** 4xx: this boot has no business here any more. */
async function refused(boot: RamdiskBoot, bearer: string, answer: Answer): Promise<Ending> {
  boot.machine.note('refused', {status: answer.status, cause: answer.lines.get('refused') ?? ''})
  await sendLog(boot, bearer)
  await pause(boot.machine.make.times.refused_ms, boot.signal)
  return 'reboot'
}

function obey(boot: RamdiskBoot, bearer: string, answer: Answer): Promise<Ending> | Ending {
  const then = answer.lines.get('then')
  if (isGood(answer) && (then === 'poweroff' || then === 'reboot')) return then
  return refused(boot, bearer, answer)
}

/** Worth one try, and never a delay. */
async function progress(boot: RamdiskBoot, session: string, step: string, percent: number): Promise<void> {
  await once(boot, '/ramdisk/events', session, {kind: 'progress', step, percent, detail: 'simulated'})
}

async function sendLog(boot: RamdiskBoot, bearer: string): Promise<void> {
  await once(boot, '/ramdisk/log', bearer, 'the log of a simulated ramdisk\n')
}

async function once(boot: RamdiskBoot, path: string, bearer: string, body: unknown): Promise<void> {
  try {
    await boot.ask('POST', path, bearer, body)
  } catch {
    boot.signal.throwIfAborted()
  }
}

async function insist(boot: RamdiskBoot, method: 'GET' | 'POST', path: string, bearer: string, body?: unknown): Promise<Answer> {
  const {machine, signal, ask} = boot
  const {random, mix} = machine.dice
  for (let tries = 0; ; tries++) {
    signal.throwIfAborted()
    try {
      // Twice at once, as a network that duplicates does it: the second answer is nobody's.
      if (method === 'POST' && random.chance(mix.doubled)) void ask(method, path, bearer, body).catch(() => undefined)
      const answer = await ask(method, path, bearer, body)
      if (answer.status < 500 && answer.status !== 408 && answer.status !== 429) {
        if (answer.status < 300) machine.acknowledged(path, bearer, body)
        return {status: answer.status, body: answer.body, lines: method === 'GET' ? new Map() : readLines(answer.body)}
      }
    } catch (error) {
      signal.throwIfAborted()
      machine.note('asks_again', {path, why: error instanceof Error ? error.message : String(error)})
    }
    await pause(PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)] ?? 2_000, signal)
  }
}

function readLines(body: Buffer): Lines {
  return new Map(
    body
      .toString('utf8')
      .split('\n')
      .map(line => [line.split(' ')[0] ?? '', line.slice(line.indexOf(' ') + 1)] as const),
  )
}

function isGood(answer: Answer): boolean {
  return answer.status >= 200 && answer.status < 300
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, signal)
  signal.throwIfAborted()
}
