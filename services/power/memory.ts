/**
 * What is remembered of BMCs: the cipher suite that worked, who they are, and the quirks of their models. In memory, and through a port
 * in a database, so that a restart does not learn everything again. That is a convenience: without the database power works all the same.
 */
import type {Clock} from '../../lib/clock.ts'
import {messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'
import type {BmcDevice} from './drivers/driver.ts'
import {modelKey, type Quirk, type SeenQuirk} from './quirks.ts'
import type {Timers} from './timers.ts'

export type KnownBmc = {
  readonly suite: number | null
  /** Since when that suite is known to work. */
  readonly suite_at: Date | null
  readonly device: BmcDevice | null
}
export type ModelQuirk = SeenQuirk & {readonly model: string}

/** Where memory outlives the process. */
export type MemoryStore = {
  load(): Promise<{bmcs: ReadonlyMap<string, KnownBmc>; quirks: readonly ModelQuirk[]}>
  save(bmcs: ReadonlyMap<string, KnownBmc>, seen: readonly ModelQuirk[], now: Date): Promise<void>
}

export type PowerMemory = {
  /** What an earlier process learned is there when this resolves; never rejects. */
  ready(): Promise<void>
  bmc(key: string): KnownBmc | undefined
  remember(key: string, known: Partial<KnownBmc>): void
  /** @param detail what happened, in words */
  learn(key: string, quirk: Quirk, detail: string): void
  /** Of the model that the BMC is known to be. */
  quirks(key: string): readonly SeenQuirk[]
  has(key: string, quirk: Quirk): boolean
  /** Writes what is new, now rather than soon; never rejects. */
  flush(): Promise<void>
}

const SOON_MS = 3000
/** More BMCs than any site has; a bound all the same, as addresses come and go. */
const BMCS_AT_MOST = 50_000
const DETAIL_AT_MOST = 300

export type MemoryParts = {
  readonly log: Log
  readonly clock: Clock
  readonly timers: Timers
  readonly store?: MemoryStore | undefined
}

export function createMemory({log, clock, timers, store}: MemoryParts): PowerMemory {
  const bmcs = new Map<string, KnownBmc>()
  const models = new Map<string, Map<Quirk, SeenQuirk>>()
  /** Learned of a BMC before it said which model it is. */
  const early = new Map<string, Map<Quirk, string>>()
  const changedBmcs = new Set<string>()
  const changedQuirks = new Map<string, ModelQuirk>()
  let loading: Promise<void> | undefined
  let saving: Promise<void> = Promise.resolve()
  let cancelSoon: (() => void) | undefined

  async function load(): Promise<void> {
    try {
      const known = await store?.load()
      for (const [key, bmc] of known?.bmcs ?? []) if (!bmcs.has(key)) bmcs.set(key, bmc)
      for (const {model, ...seen} of known?.quirks ?? []) {
        const quirks = quirksOf(model)
        if (!quirks.has(seen.quirk)) quirks.set(seen.quirk, seen)
      }
    } catch (error) {
      loading = undefined
      log.warn({reason: messageOf(error)}, 'what is known of BMCs could not be read; it is learned again')
    }
  }

  function quirksOf(model: string): Map<Quirk, SeenQuirk> {
    const known = models.get(model) ?? new Map<Quirk, SeenQuirk>()
    models.set(model, known)
    return known
  }

  function modelOf(key: string): string | undefined {
    const device = bmcs.get(key)?.device
    return device ? modelKey(device) : undefined
  }

  function learn(key: string, quirk: Quirk, detail: string): void {
    const model = modelOf(key)
    if (model === undefined) {
      early.set(key, (early.get(key) ?? new Map()).set(quirk, detail))
      return
    }
    const quirks = quirksOf(model)
    const before = quirks.get(quirk)
    const now = clock.now()
    const seen = {
      quirk,
      times: (before?.times ?? 0) + 1,
      first_seen: before?.first_seen ?? now,
      last_seen: now,
      detail: detail.slice(0, DETAIL_AT_MOST),
    }
    quirks.set(quirk, seen)
    const unsaved = changedQuirks.get(`${model} ${quirk}`)
    changedQuirks.set(`${model} ${quirk}`, {...seen, model, times: (unsaved?.times ?? 0) + 1})
    saveSoon()
    if (!before) log.info({model, quirk, detail}, 'a quirk of a BMC model was learned')
  }

  function saveSoon(): void {
    if (!store || cancelSoon) return
    cancelSoon = timers.after(SOON_MS, () => void flush())
  }

  function flush(): Promise<void> {
    cancelSoon?.()
    cancelSoon = undefined
    saving = saving.then(save)
    return saving
  }

  async function save(): Promise<void> {
    if (!store || changedBmcs.size + changedQuirks.size === 0) return
    const changed = new Map([...changedBmcs].flatMap(key => (bmcs.has(key) ? [[key, bmcs.get(key) as KnownBmc] as const] : [])))
    const quirks = [...changedQuirks.values()]
    changedBmcs.clear()
    changedQuirks.clear()
    try {
      await store.save(changed, quirks, clock.now())
    } catch (error) {
      for (const key of changed.keys()) changedBmcs.add(key)
      for (const quirk of quirks) {
        const id = `${quirk.model} ${quirk.quirk}`
        const since = changedQuirks.get(id)
        changedQuirks.set(id, since ? {...since, times: since.times + quirk.times} : quirk)
      }
      log.warn({reason: messageOf(error)}, 'what was learned of BMCs could not be written; it is tried again')
    }
  }

  return {
    ready() {
      if (!store) return Promise.resolve()
      loading ??= load()
      return loading
    },
    bmc: key => bmcs.get(key),
    remember(key, known) {
      if (bmcs.size >= BMCS_AT_MOST && !bmcs.has(key)) bmcs.clear()
      const before = bmcs.get(key)
      const next = {suite: before?.suite ?? null, suite_at: before?.suite_at ?? null, device: before?.device ?? null, ...known}
      bmcs.set(key, next)
      if (JSON.stringify(before) !== JSON.stringify(next)) {
        changedBmcs.add(key)
        saveSoon()
      }
      if (!next.device) return
      for (const [quirk, detail] of early.get(key) ?? []) learn(key, quirk, detail)
      early.delete(key)
    },
    learn,
    quirks: key => [...(models.get(modelOf(key) ?? '')?.values() ?? [])],
    has: (key, quirk) => models.get(modelOf(key) ?? '')?.has(quirk) ?? false,
    flush,
  }
}
