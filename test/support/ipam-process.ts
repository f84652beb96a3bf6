/**
 * A process that changes addresses until it is killed. It writes a line before and after each change: what it is about to do, and what it
 * was told. Arguments: database, id of a prefix, id of a container, its name.
 */
import {createDb, withTx} from '../../lib/db.ts'
import {IngotError} from '../../lib/errors.ts'
import {silentLog} from '../../lib/log.ts'
import {createIpam} from '../../services/ipam/index.ts'

const [url = '', prefixId = '', containerId = '', name = ''] = process.argv.slice(2)
const db = createDb({url, applicationName: name, log: silentLog})
const ipam = createIpam({db, clock: {now: () => new Date(), monotonicMs: () => performance.now()}, log: silentLog})
const holder = {kind: 'service', name} as const
const held: string[] = []
const networks: string[] = []
const say = (...words: string[]) => process.stdout.write(`${words.join(' ')}\n`)

const CHANGES: Record<string, () => Promise<void>> = {
  async allocate() {
    const [given] = await ipam.ask(db, {from: {prefixIds: [prefixId]}, holder, purpose: 'service', reason: ''}, name, new Date())
    if (!given) return
    held.push(given.id)
    say('holds', given.id)
  },
  async free() {
    const id = held.shift()
    if (id === undefined) return
    say('frees', id)
    await ipam.free(db, id, name, new Date())
    say('freed', id)
  },
  async move() {
    const id = held.shift()
    if (id === undefined) return
    say('frees', id)
    const to = {to: {kind: 'person', name}, reason: 'moved'} as const
    const moved = await withTx(db, tx => ipam.move(tx, id, to, name, new Date()))
    // Who has it already keeps it.
    if (moved.id !== id) say('freed', id)
    say('holds', moved.id)
    held.push(moved.id)
  },
  async carve() {
    const ask = {from: {prefixIds: [containerId]}, length: 31, link: true, holder, purpose: 'service', reason: ''} as const
    const {delegation} = await ipam.carve(db, ask, name, new Date())
    networks.push(delegation.id)
    say('carved', delegation.id)
  },
  async giveBack() {
    const id = networks.shift()
    if (id === undefined) return
    say('gives', id)
    await ipam.giveBack(db, id, name, new Date())
    say('gave', id)
  },
  async expire() {
    const expiresAt = new Date(Date.now() - 1000)
    await ipam.ask(db, {from: {prefixIds: [prefixId]}, holder, purpose: 'service', reason: 'a hold', expiresAt}, name, new Date())
    await ipam.expireHolds(new Date())
    say('expired')
  },
}

for (;;) {
  for (const change of ['allocate', 'allocate', 'carve', 'move', 'expire', 'free', 'giveBack']) {
    try {
      await CHANGES[change]?.()
    } catch (error) {
      if (!(error instanceof IngotError)) throw error
      say('refused', error.code)
    }
  }
}
