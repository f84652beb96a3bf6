/** The event feed: a cursor misses nothing and repeats nothing, however transactions overlap; a reader that waits is woken. */
import {sql} from 'kysely'
import {afterAll, beforeAll, describe, expect, it} from 'vitest'
import {sleep} from '../../lib/clock.ts'
import {withTx} from '../../lib/db.ts'
import {type ApiWorld, ask, createApiWorld} from '../support/api-world.ts'

let api: ApiWorld
beforeAll(async () => {
  api = await createApiWorld()
})
afterAll(() => api.close())

type Event = {id: number; kind: string; subject: string | null}

async function read(query: string): Promise<{items: Event[]; next: string}> {
  const answer = await api.ask('GET', `/v1/events?${query}`)
  expect(answer.status, answer.text).toBe(200)
  return answer.body as unknown as {items: Event[]; next: string}
}

const write = (tx: ApiWorld['db'], subject: string, machineId?: string) =>
  api.world.evidence.changed(tx, {at: new Date(), actor: 'test', kind: 'tested', subject, machineId})

/** A transaction that has its number, as any that has written something. */
async function begin() {
  const tx = await api.world.db.startTransaction().execute()
  await sql`SELECT pg_current_xact_id()`.execute(tx)
  return tx
}

async function drain(from: string, limit = 500): Promise<{items: Event[]; next: string}> {
  const items: Event[] = []
  for (let next = from; ; ) {
    const page = await read(`after=${next}&limit=${limit}`)
    items.push(...page.items)
    next = page.next
    if (page.items.length === 0) return {items, next}
  }
}

describe('the cursor', () => {
  it('brings an event that drew its number first and was committed last, after the one that overtook it', async () => {
    const {next: start} = await drain('now')
    const older = await begin()
    const younger = await begin()
    await write(younger, 'drawn first, committed last')
    await write(older, 'drawn last, committed first')
    await older.commit().execute()
    const first = await drain(start)
    await younger.commit().execute()
    const second = await drain(first.next)
    const both = [...first.items, ...second.items].map(event => event.subject)
    expect(both).toEqual(['drawn last, committed first', 'drawn first, committed last'])
    expect((await drain(second.next)).items).toEqual([])
  })

  it('`now` brings what was under way at that moment and is committed later', async () => {
    const early = await begin()
    await write(early, 'under way')
    await withTx(api.world.db, tx => write(tx, 'committed meanwhile'))
    const {next} = await read('after=now')
    await early.commit().execute()
    expect((await drain(next)).items.map(event => event.subject)).toContain('under way')
  })

  it('skips and repeats nothing beside writers of every length', async () => {
    let from = (await drain('now')).next
    const seen: string[] = []
    const written: string[] = []
    let writing = true
    const writers = Array.from({length: 8}, async (_, writer) => {
      for (let n = 0; n < 25; n++) {
        const tx = await begin()
        for (let part = 0; part <= n % 3; part++) {
          await sleep((writer * 7 + n * 13) % 20)
          const subject = `${writer}.${n}.${part}`
          await write(tx, subject)
          if (n % 5 !== 4) written.push(subject)
        }
        if (n % 5 === 4) await tx.rollback().execute()
        else await tx.commit().execute()
      }
    })
    const reading = (async () => {
      while (writing) {
        const page = await read(`after=${from}&limit=7`)
        seen.push(...page.items.map(event => String(event.subject)))
        from = page.next
      }
    })()
    await Promise.all(writers)
    writing = false
    await reading
    seen.push(...(await drain(from, 7)).items.map(event => String(event.subject)))
    expect(seen.length).toBe(new Set(seen).size)
    expect(seen.toSorted()).toEqual(written.toSorted())
  })

  it('goes on from the id of an event, begins with the newest few, and keeps to one machine', async () => {
    const machine = await api.world.declare('52:54:00:dd:00:01', {silent: true})
    for (const subject of ['a', 'b', 'c']) await withTx(api.world.db, tx => write(tx, subject, machine.id))
    await withTx(api.world.db, tx => write(tx, 'of nobody'))
    const last = await read('last=2')
    expect(last.items.map(event => event.subject)).toEqual(['c', 'of nobody'])
    const mine = await read(`last=2&machine=${machine.id}`)
    expect(mine.items.map(event => event.subject)).toEqual(['b', 'c'])
    const after = await read(`after=${mine.items[0]!.id}&machine=${machine.name}`)
    expect(after.items.map(event => event.subject)).toEqual(['c'])
    const own = await api.ask('GET', `/v1/machines/${machine.id}/events?limit=2`)
    expect((own.body.items as Event[]).map(event => event.kind)).toEqual(['machine_declared', 'tested'])
    const rest = await api.ask('GET', `/v1/machines/${machine.id}/events?limit=5&after=${own.body.next}`)
    expect(rest.body).toMatchObject({items: [{subject: 'b'}, {subject: 'c'}], next: null})
    expect((await api.ask('GET', '/v1/events?last=2&after=3')).status).toBe(400)
  })
})

describe('a reader that waits', () => {
  it('is woken by the next event', async () => {
    const {next} = await drain('now')
    const waiting = read(`after=${next}&wait_s=25`)
    await sleep(300)
    await withTx(api.world.db, tx => write(tx, 'the bell'))
    expect((await waiting).items.map(event => event.subject)).toEqual(['the bell'])
  })

  it('gets an empty page and a cursor when nothing comes', async () => {
    const {next} = await drain('now')
    const page = await read(`after=${next}&wait_s=0.5`)
    expect(page.items).toEqual([])
    await withTx(api.world.db, tx => write(tx, 'later'))
    expect((await read(`after=${page.next}`)).items.map(event => event.subject)).toEqual(['later'])
  })

  it('is let go at once when the server stops', async () => {
    const server = await api.listen({port: 0})
    const {port} = server.address() as {port: number}
    const {next} = await drain('now')
    const began = performance.now()
    const headers = {connection: 'keep-alive'}
    const waiting = ask(port, 'GET', `/v1/events?after=${next}&wait_s=25`, {token: api.tokens.view, headers})
    await sleep(300)
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    expect(await waiting).toMatchObject({status: 200, body: {items: []}, headers: {connection: 'close'}})
    await closed
    expect(performance.now() - began).toBeLessThan(15_000)
  })
})
