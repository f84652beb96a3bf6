/**
 * One simulated machine: power, a disk, firmware, and what it does from power-on. It speaks only through its wire, so it knows of Ingot
 * what a real one would: packets and answers. What it did to its disk, and which of its callbacks were acknowledged, it remembers, for
 * those who check afterwards.
 *
 *     power on ─ firmware ─ DHCP ─ (loader by TFTP ─ DHCP) ─ script ─┬─ ramdisk ─ off, or boot again
 *                                                                    └─ disk ─ first boot
 */
import type {Ipv4, Mac} from '../lib/addresses.ts'
import {sleep} from '../lib/clock.ts'
import type {Reply} from './dhcp-client.ts'
import {type BootFaults, drawBoot, type Stage} from './faults.ts'
import {readCommandLine, readScript} from './ipxe-script.ts'
import {runRamdisk} from './ramdisk.ts'
import {type Dice, type HttpAnswer, NoAnswer, type Wire} from './wire.ts'

/** How long the parts of its life take; real ones are minutes. */
export type Times = {
  readonly firmware_ms: number
  readonly look_ms: number
  readonly wipe_ms: number
  readonly write_ms: number
  readonly system_ms: number
  /** A ramdisk that was refused waits, for whoever stands before the console. */
  readonly refused_ms: number
}

export const QUICK: Times = {firmware_ms: 50, look_ms: 50, wipe_ms: 100, write_ms: 200, system_ms: 100, refused_ms: 500}

export type Make = {
  readonly name: string
  readonly mac: Mac
  readonly serial: string
  readonly uuid: string
  readonly firmware: 'bios' | 'uefi'
  /** PXE firmware that loads iPXE by TFTP, or iPXE in the ROM. */
  readonly rom: 'pxe' | 'ipxe'
  readonly bmc: {readonly address: Ipv4; readonly mac: Mac} | null
  readonly times: Times
}

export type Callback = {readonly path: string; readonly bearer: string; readonly body: unknown}
export type Destruction = {readonly what: 'wipe' | 'install'; readonly fence: number}
export type Note = {readonly what: string; readonly detail: Readonly<Record<string, string | number>>}

export type Machine = ReturnType<typeof createMachine>

/** Boots of one power-on: a machine that reboots more often has lost its way, and stops. */
const BOOTS_AT_MOST = 12
/** Callbacks it keeps to send again one day. */
const KEPT_CALLBACKS = 64

export function createMachine(make: Make, dice: Dice, wire: Wire) {
  let life: AbortController | undefined
  let boots = 0
  let ended: Promise<void> = Promise.resolve()
  let bootFrom: 'network' | 'disk' = 'network'
  let bearerOfDisk: {token: string; url: string} | undefined
  let reset = false
  const acks: Callback[] = []
  const kept: (Callback & {url: string})[] = []
  const destructions: Destruction[] = []
  const secrets = new Set<string>()
  const notes: Note[] = []
  const disk: {holds: 'nothing' | 'system' | 'torn'; firstBootAcked: number} = {holds: 'nothing', firstBootAcked: 0}

  const machine = {
    make,
    dice,
    disk,
    acks,
    destructions,
    secrets,
    notes,
    /** Told when it switches itself off. */
    onPoweredOff: undefined as (() => void) | undefined,
    get isOn() {
      return life !== undefined
    },
    get boots() {
      return boots
    },

    powerOn(): void {
      if (life) return
      const mine = new AbortController()
      life = mine
      ended = live(mine.signal).catch(error => {
        if (!mine.signal.aborted) machine.note('died', {why: String(error)})
      })
    },
    powerOff(): void {
      life?.abort()
      life = undefined
    },
    /** Off, and nothing of it runs any more. */
    async stop(): Promise<void> {
      machine.powerOff()
      await ended
    },

    // What follows is for its firmware and ramdisk.
    note(what: string, detail: Note['detail']): void {
      if (notes.length < 2_000) notes.push({what, detail})
    },
    makeSecret(): string {
      const secret = Array.from({length: 64}, () => dice.random.integer(0, 16).toString(16)).join('')
      secrets.add(secret)
      return secret
    },
    claimed(token: string, session: string): void {
      secrets.add(token.split('.')[3] ?? token)
      machine.note('claimed', {fence: fenceOf(session)})
    },
    /** From here on what was on the disk is gone. */
    destroyDisk(what: Destruction['what'], session: string): void {
      destructions.push({what, fence: fenceOf(session)})
      disk.holds = 'torn'
      bearerOfDisk = undefined
    },
    wiped(): void {
      disk.holds = 'nothing'
    },
    installed(files: string): void {
      disk.holds = 'system'
      // In a tar, where a file's content follows the NULs that fill its header.
      const [, url, token] = /[\0\n]url (\S+)\ntoken (\S+)/.exec(files) ?? []
      if (!token || !url) throw new Error('the files of the install name no token or no URL for the first boot')
      secrets.add(token.split('.')[3] ?? token)
      bearerOfDisk = {token, url}
      bootFrom = make.firmware === 'uefi' ? 'disk' : 'network'
    },
    acknowledged(path: string, bearer: string, body: unknown): void {
      acks.push({path, bearer, body})
    },
    /** Whether it is the one time in this life that it resets. */
    resetOnce(): boolean {
      if (reset) return false
      reset = true
      return true
    },
    facts: () => factsOf(make, disk.holds),
    /** As a BMC's boot option does it: the next boot goes to the network. */
    bootFromNetwork(): void {
      bootFrom = 'network'
    },
    /** Callbacks of its past, for those who send them again. */
    past: () => kept as readonly (Callback & {url: string})[],
    send: (callback: Callback & {url: string}, signal: AbortSignal, from: Ipv4) =>
      wire.http(
        {method: 'POST', url: callback.url + callback.path, from, bearer: callback.bearer, body: JSON.stringify(callback.body)},
        {...dice, mix: {...dice.mix, request_lost: 0, answer_lost: 0}},
        signal,
      ),
  }
  return machine

  async function live(signal: AbortSignal): Promise<void> {
    reset = false
    for (let times = 0; times < BOOTS_AT_MOST && !signal.aborted; times++) {
      boots++
      const random = dice.random.fork('boot', boots)
      const ending = await boot({...drawBoot(dice.mix, random)}, {...dice, random}, signal).catch(error => {
        if (signal.aborted) return 'hang' as const
        if (!(error instanceof NoAnswer)) throw error
        machine.note('boot_failed', {why: error.message})
        // Firmware that got nothing from the network begins its order of devices again.
        return 'reboot' as const
      })
      if (signal.aborted || ending === 'hang' || ending === 'stays') return
      if (ending === 'poweroff') {
        life = undefined
        machine.onPoweredOff?.()
        return
      }
    }
    machine.note('lost', {boots})
  }

  async function boot(faults: BootFaults, mine: Dice, signal: AbortSignal): Promise<'poweroff' | 'reboot' | 'hang' | 'stays'> {
    const hangs = (stage: Stage) => faults.hangsIn === stage
    await sleep(make.times.firmware_ms * (0.5 + mine.random.next()), signal)
    if (hangs('firmware')) return hang('firmware')
    if (bootFrom === 'disk') return runSystem(faults, mine, signal)
    if (make.rom === 'pxe') {
      const offer = await wire.dhcp({...make, speaker: 'rom'}, mine, signal)
      await wire.tftp(offer.nextServer, offer.file, offer.address, signal)
    }
    if (hangs('loader')) return hang('loader')
    const lease = await wire.dhcp({...make, speaker: 'ipxe'}, mine, signal)
    const loaded = await runScripts(lease, mine, signal)
    // Firmware whose every device failed begins its order again; one that was sent to an empty disk waits there.
    if (loaded === 'failed' && disk.holds !== 'system') throw new NoAnswer('no script')
    if (loaded === 'failed' || loaded === 'local') return runSystem(faults, mine, signal)
    const {token, url} = loaded
    if (!token || !url) throw new Error('the kernel was started without ingot.token and ingot.url')
    secrets.add(token.split('.')[3] ?? token)
    const ask = (method: 'GET' | 'POST', path: string, bearer: string, body?: unknown): Promise<HttpAnswer> => {
      if (method === 'POST') keep({path, bearer, body, url})
      const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
      return wire.http({method, url: url + path, from: lease.address, bearer, body: text}, mine, signal)
    }
    const ending = await runRamdisk({machine, token, url, faults, signal, ask})
    await replaySomething(lease.address, mine, signal)
    return ending === 'hang' ? hang('ramdisk') : ending
  }

  function hang(where: string): 'hang' {
    machine.note('hangs', {where})
    return 'hang'
  }

  /** @returns the kernel's settings; `local` when a script leads to the disk, `failed` when it does for want of an answer */
  async function runScripts(lease: Reply, mine: Dice, signal: AbortSignal): Promise<Record<string, string> | 'local' | 'failed'> {
    const settings = {
      'netX/mac': make.mac,
      'netX/mac:hexhyp': make.mac.replaceAll(':', '-'),
      uuid: make.uuid,
      serial: make.serial,
      product: 'Simulated',
      platform: make.firmware === 'uefi' ? 'efi' : 'pcbios',
      buildarch: 'x86_64',
    }
    const get = async (url: string) => {
      for (let tries = 1; ; tries++) {
        try {
          return await wire.http({method: 'GET', url, from: lease.address}, mine, signal)
        } catch (error) {
          signal.throwIfAborted()
          // TCP hides a lost packet from iPXE; what it sees is a connection that never comes about.
          if (tries >= 3) throw error
        }
      }
    }
    let script = readScript((await got(get(lease.file))).toString('utf8'), settings)
    for (let succeeded = true; ; ) {
      const lacks = !succeeded
      const step = script.next(succeeded)
      succeeded = true
      if (step.do === 'exit') return lacks ? 'failed' : 'local'
      if (step.do === 'boot') return readCommandLine(step.commandLine)
      if (step.do === 'sleep') await sleep(step.seconds * 100, signal)
      if (step.do === 'chain') {
        // One try: asking twice for a boot target is what a reset machine does.
        const answer = await wire
          .http({method: 'GET', url: step.url, from: lease.address}, {...mine, mix: {...mine.mix, answer_lost: 0}}, signal)
          .catch(() => undefined)
        signal.throwIfAborted()
        if (answer?.status === 200) script = readScript(answer.body.toString('utf8'), settings)
        else succeeded = false
      }
      if (step.do === 'fetch') {
        const answer = await get(step.url).catch(() => undefined)
        signal.throwIfAborted()
        succeeded = answer?.status === 200
      }
    }
  }

  async function got(answer: Promise<HttpAnswer>): Promise<Buffer> {
    const {status, body} = await answer
    if (status !== 200) throw new NoAnswer(`HTTP ${status}`)
    return body
  }

  /** What is on the disk: a system that says once that it stands, or nothing that boots. */
  async function runSystem(faults: BootFaults, mine: Dice, signal: AbortSignal): Promise<'hang' | 'stays'> {
    if (disk.holds !== 'system') return 'stays'
    if (faults.hangsIn === 'system') return hang('system')
    const lease = await wire.dhcp({...make, speaker: 'os'}, mine, signal)
    await sleep(make.times.system_ms * (0.5 + mine.random.next()), signal)
    const phone = bearerOfDisk
    if (!phone) return 'stays'
    const body = {
      facts: {hostname: make.name, kernel: '6.1.0', os: 'Debian 12', addresses: [lease.address], root_disk: 'vda'},
      ssh_host_keys: [`ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${make.serial}`],
      user_data: [],
    }
    for (;;) {
      signal.throwIfAborted()
      keep({path: '/first-boot', bearer: phone.token, body, url: phone.url})
      const say = () =>
        wire.http(
          {method: 'POST', url: `${phone.url}/first-boot`, from: lease.address, bearer: phone.token, body: JSON.stringify(body)},
          mine,
          signal,
        )
      if (mine.random.chance(mine.mix.doubled)) void say().catch(() => undefined)
      const answer = await say().catch(() => undefined)
      if (answer && answer.status < 300) {
        disk.firstBootAcked++
        acks.push({path: '/first-boot', bearer: phone.token, body})
        bearerOfDisk = undefined
        await replaySomething(lease.address, mine, signal)
        return 'stays'
      }
      if (answer && answer.status < 500) {
        machine.note('first_boot_refused', {status: answer.status})
        return 'stays'
      }
      await sleep(500, signal)
    }
  }

  function keep(callback: Callback & {url: string}): void {
    kept.push(callback)
    if (kept.length > KEPT_CALLBACKS) kept.splice(dice.random.integer(0, KEPT_CALLBACKS), 1)
  }

  /** Something it said before, said again: in another phase, or in another attempt. */
  async function replaySomething(from: Ipv4, mine: Dice, signal: AbortSignal): Promise<void> {
    if (kept.length === 0 || !mine.random.chance(mine.mix.replayed)) return
    const callback = mine.random.pick(kept)
    const answer = await machine.send(callback, signal, from).catch(() => undefined)
    machine.note('replayed', {path: callback.path, status: answer?.status ?? 0})
  }
}

/** `a.<fence>.…` and `s.<fence>.…` alike. */
export function fenceOf(token: string): number {
  return Number(token.split('.')[1])
}

function factsOf(make: Make, holds: string): Record<string, unknown> {
  return {
    version: 1,
    firmware: make.firmware,
    cpu: {model: 'Simulated', cores: 8},
    memory_bytes: 16e9,
    dmi: {serial: make.serial, uuid: make.uuid, vendor: 'Ingot', product: 'Simulated'},
    disks: [{name: 'vda', serial: make.serial, size_bytes: 8e9, signature: holds === 'nothing' ? null : 'gpt'}],
    nics: [{name: 'eth0', mac: make.mac, link: true}],
    bmc: make.bmc ? {address: make.bmc.address, mac: make.bmc.mac} : null,
    boot_mac: make.mac,
  }
}
