/** The system event log: read to its end, and emptied (IPMI 2.0 §31). */
import type {EventLog, LogEntry} from '../drivers/driver.ts'
import {PowerFault} from '../fault.ts'
import type {Guard} from '../guard.ts'
import {pause} from '../timers.ts'
import type {Bmc} from './bmc.ts'
import {COMMANDS, COMPLETION} from './commands.ts'
import {expectDone, expectReadable} from './expect.ts'
import {readSelInfo, readSelRecord, SEL_RECORD_BYTES, type SelInfo} from './sel-record.ts'

const FIRST = 0x0000
const LAST = 0xffff
const WHOLE = 0xff
/** What is asked at most of a log whose records lead round in a circle. */
const ENTRIES_AT_MOST = 0xffff
const START_ERASE = 0xaa
const ERASE_STATUS = 0x00
const ERASED = 1
const ERASE_POLLS = 40
const ERASE_POLL_MS = 250

/** @param nameOf the name of a sensor by its number, where it is known */
export async function readEvents(bmc: Bmc, limit: number, nameOf: (sensor: number) => string | undefined): Promise<EventLog> {
  const info = await readInfo(bmc)
  const entries: LogEntry[] = []
  for (let id = FIRST, count = 0; info.entries > 0 && count < ENTRIES_AT_MOST; count++) {
    const reply = await bmc.session.command(COMMANDS.getSelEntry, [0, 0, id & 0xff, id >> 8, 0, WHOLE])
    // Somebody emptied it meanwhile.
    if (reply.completion === COMPLETION.notPresent) break
    const data = expectDone(COMMANDS.getSelEntry, reply)
    if (data.length < 2 + SEL_RECORD_BYTES)
      throw new PowerFault('bad_reply', `${COMMANDS.getSelEntry.name}: the record is too short`)
    const entry = readSelRecord(data.subarray(2), nameOf)
    if (entry) entries.push(entry)
    if (entries.length > limit) entries.shift()
    const next = data.readUInt16LE(0)
    if (next === LAST || next === id) break
    id = next
  }
  return {entries, total: info.entries, free_bytes: info.free_bytes, overflow: info.overflow}
}

/** Erasing goes on in the background, so it is asked for and then watched; the emptied log is read back. @returns how many entries went */
export async function clearEvents(bmc: Bmc, guard: Guard): Promise<number> {
  const before = await readInfo(bmc)
  if (before.entries === 0) return 0
  const reservation = before.canReserve ? await reserve(bmc) : [0, 0]
  const erase = (step: number, ask?: Guard) =>
    bmc.session.command(COMMANDS.clearSel, [...reservation, ...Buffer.from('CLR'), step], ask)
  let progress = expectDone(COMMANDS.clearSel, await erase(START_ERASE, guard))
  for (let polls = 0; ((progress[0] ?? 0) & 0x0f) !== ERASED; polls++) {
    if (polls >= ERASE_POLLS)
      throw new PowerFault('not_seen', 'the event log was still being erased when it should have been done')
    await pause(bmc.timers, ERASE_POLL_MS, bmc.signal)
    bmc.signal.throwIfAborted()
    progress = expectDone(COMMANDS.clearSel, await erase(ERASE_STATUS))
  }
  const after = await readInfo(bmc)
  // Many a BMC begins the new log by saying that the old one was cleared.
  if (after.entries >= before.entries && after.entries > 1) {
    throw new PowerFault('not_seen', `the event log was erased, but still has ${after.entries} of ${before.entries} entries`)
  }
  return before.entries
}

async function reserve({session}: Bmc): Promise<readonly number[]> {
  return [...expectDone(COMMANDS.reserveSel, await session.command(COMMANDS.reserveSel, [])).subarray(0, 2)]
}

async function readInfo({session}: Bmc): Promise<SelInfo> {
  const data = expectDone(COMMANDS.getSelInfo, await session.command(COMMANDS.getSelInfo, []))
  return expectReadable(COMMANDS.getSelInfo, readSelInfo(data))
}
