/** The rack simulator's pure parts: what iPXE would do with our scripts, chance by seed, what a DHCP client says, names of boundaries. */
import {describe, expect, it} from 'vitest'
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {type Boundary, boundConnection} from '../../lib/boundary.ts'
import {renderEntryScript, renderLocalScript, renderRamdiskScript} from '../../services/boot/scripts.ts'
import {identifyClient} from '../../services/dhcpd/client.ts'
import {decodePacket} from '../../services/dhcpd/packet.ts'
import {createChance} from '../../sim/chance.ts'
import {encodeAsk} from '../../sim/dhcp-client.ts'
import {drawBoot, MIXES} from '../../sim/faults.ts'
import {readCommandLine, readScript} from '../../sim/ipxe-script.ts'

const RAMDISK = renderRamdiskScript({
  bootUrl: 'http://10.0.0.1:8480',
  kernelSha256: 'k'.repeat(64),
  initrdSha256: 'i'.repeat(64),
  stage: 'install',
  token: 'a.7.install.signature',
  mac: '52:54:00:00:00:01',
  consoles: ['ttyS0'],
})

describe('an iPXE script of ours', () => {
  it('asks again with the MAC, and leaves for the next boot device when nobody answers', () => {
    const script = readScript(renderEntryScript('http://10.0.0.1:8480'), {
      'netX/mac': '52:54:00:00:00:01',
      'netX/mac:hexhyp': '52-54-00-00-00-01',
      uuid: 'u',
    })
    expect(script.next(true)).toEqual({
      do: 'chain',
      url: 'http://10.0.0.1:8480/ipxe/52-54-00-00-00-01?uuid=u&platform=&buildarch=&serial=&product=',
    })
    expect(script.next(false)).toEqual({do: 'exit', code: 1})
  })

  it('to the disk ends with exit 1', () => {
    expect(readScript(renderLocalScript('no open job'), {}).next(true)).toEqual({do: 'exit', code: 1})
  })

  it('of the ramdisk fetches kernel and initrd, and boots with what the ramdisk needs to know', () => {
    const script = readScript(RAMDISK, {})
    expect(script.next(true)).toMatchObject({
      do: 'fetch',
      what: 'kernel',
      url: `http://10.0.0.1:8480/artefacts/${'k'.repeat(64)}`,
    })
    expect(script.next(true)).toMatchObject({do: 'fetch', what: 'initrd'})
    const boot = script.next(true)
    expect(boot.do === 'boot' && readCommandLine(boot.commandLine)).toEqual({
      url: 'http://10.0.0.1:8480',
      token: 'a.7.install.signature',
      mac: '52:54:00:00:00:01',
      stage: 'install',
    })
  })

  it('of the ramdisk tries a broken download again without asking for the script anew', () => {
    const script = readScript(RAMDISK, {})
    script.next(true)
    script.next(true)
    expect(script.next(false)).toEqual({do: 'sleep', seconds: 3})
    expect(script.next(true)).toMatchObject({do: 'fetch', what: 'kernel'})
  })

  it('is refused when it uses a command whose effect is not known here', () => {
    expect(() => readScript('#!ipxe\nsanboot http://x\n', {}).next(true)).toThrow('sanboot')
  })
})

describe('chance', () => {
  it('comes again with its seed, and a fork is not shifted by what else is drawn', () => {
    const draw = (seed: number, before: number) => {
      const random = createChance(seed)
      for (let count = 0; count < before; count++) random.next()
      const fork = random.fork('machine', 3)
      return Array.from({length: 5}, () => fork.next())
    }
    expect(draw(7, 0)).toEqual(draw(7, 9))
    expect(draw(7, 0)).not.toEqual(draw(8, 0))
  })

  it('breaks about as many boots as the mix says', () => {
    const random = createChance(1)
    const boots = Array.from({length: 20_000}, (_, index) => drawBoot(MIXES.storm, random.fork(index)))
    const share = (count: number) => count / boots.length
    expect(share(boots.filter(boot => boot.hangsIn).length)).toBeCloseTo(MIXES.storm.hangs, 1)
    expect(share(boots.filter(boot => boot.breaks).length)).toBeCloseTo(MIXES.storm.breaks, 1)
    expect(boots.every(boot => drawBoot(MIXES.none, createChance(1).fork('x')).hangsIn === null && boot !== undefined)).toBe(true)
  })
})

it('a simulated client is taken for what it plays', () => {
  const stages = (['rom', 'ipxe', 'os'] as const).map(speaker => {
    const bytes = encodeAsk({
      mac: '52:54:00:00:00:01' as Mac,
      uuid: '1a60711a-0000-4000-8000-000000000001',
      firmware: 'uefi',
      speaker,
      xid: 1,
      secs: 0,
      relay: '10.64.0.1' as Ipv4,
      port: 'eth1',
    })
    const packet = decodePacket(bytes)
    if ('ignored' in packet) throw new Error(packet.ignored)
    const client = identifyClient(packet)
    return 'ignored' in client ? client.ignored : [client.stage, client.mac, client.architecture?.name ?? null]
  })
  expect(stages.map(stage => stage[0])).toEqual(['rom', 'ipxe', 'os'])
})

describe('a boundary', () => {
  async function named(...queries: string[]): Promise<string[]> {
    const names: string[] = []
    const boundary: Boundary = (name, work) => {
      names.push(name)
      return work()
    }
    const client = {query: async () => ({rows: []})}
    boundConnection(client as never, boundary)
    for (const text of queries) await (client.query as (text: string) => Promise<unknown>)(text)
    return names
  }

  it('stands around a commit and names what it makes durable', async () => {
    expect(
      await named(
        'begin',
        'select * from "jobs" where "id" = $1 for update',
        'update "jobs" set "state" = $1',
        'insert into "events" ("at") values ($1) on conflict ("id") do update set "at" = $2',
        'commit',
      ),
    ).toEqual(['commit events+jobs'])
  })

  it('stands around a lone write, and around the queue’s own', async () => {
    expect(await named('delete from "workers" where "id" in ($1)', 'SELECT graphile_worker.add_job($1, $2)')).toEqual([
      'write workers',
      'queue add_job',
    ])
  })

  it('does not stand around what changes nothing: a read, an empty commit, what was rolled back', async () => {
    expect(await named('select 1', 'begin', 'select 2', 'commit', 'begin', 'update "jobs" set "x" = 1', 'rollback')).toEqual([])
  })
})
