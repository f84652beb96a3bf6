/**
 * From where, and with which UUID, each MAC spoke last; so that one MAC on two machines is told from one machine that was moved. Bounded:
 * the MAC that was new longest ago is forgotten first.
 *
 * A machine that was moved shows another place once; two machines go back and forth: only a return within ten minutes counts. Two relays
 * of one link, or two interfaces on it, bring the same packet at once: that is one place. Stages that send no UUID say nothing of it, and a UUID in the other
 * byte order is the same.
 */
import type {Ipv4, Mac} from '../../lib/addresses.ts'
import {uuidTexts} from '../../lib/bytes.ts'
import type {Clock} from '../../lib/clock.ts'
import type {Client} from './client.ts'
import type {Arrival} from './link.ts'
import {NO_ADDRESS} from './packet.ts'

type Place = {readonly interface: string; readonly relay: Ipv4; readonly circuit: string | null}

type Seen = {
  xid: number
  /** When that xid was first seen. */
  atMs: number
  place: Place
  /** The same link by another relay. */
  twin: Place | null
  before: Place | null
  leftMs: number
  uuid: Uint8Array | null
  uuidBefore: Uint8Array | null
  uuidLeftMs: number
}

const RETURN_MS = 600_000
const AT_ONCE_MS = 2_000
const MACS_AT_MOST = 8_192

/** What an alert says: the two places, or the two UUIDs. */
export type Moved = {readonly places: readonly string[]} | {readonly uuids: readonly string[]}

export function createPlaces(clock: Clock) {
  const known = new Map<Mac, Seen>()

  function remember(mac: Mac, seen: Seen): void {
    if (known.size >= MACS_AT_MOST) {
      const [oldest] = known.keys()
      if (oldest !== undefined) known.delete(oldest)
    }
    known.set(mac, seen)
  }

  function seePlace(seen: Seen, xid: number, here: Place): Moved | null {
    const nowMs = clock.monotonicMs()
    // Some firmware uses one xid for ever, so the time counts as well.
    const isAtOnce = seen.xid === xid && nowMs - seen.atMs < AT_ONCE_MS
    if (seen.xid !== xid) Object.assign(seen, {xid, atMs: nowMs})
    if (isSame(seen.twin, here)) return null
    if (isAtOnce && (seen.place.relay !== here.relay || seen.place.interface !== here.interface)) {
      seen.twin = here
      return null
    }
    const {place, before} = seen
    const returned = isSame(before, here) && nowMs - seen.leftMs < RETURN_MS
    Object.assign(seen, {place: here, twin: null, before: place, leftMs: nowMs})
    return returned && before !== null ? {places: [placeText(place), placeText(before)]} : null
  }

  function seeUuid(seen: Seen, guid: Uint8Array | null): Moved | null {
    if (guid === null || isSameUuid(seen.uuid, guid)) return null
    const nowMs = clock.monotonicMs()
    const {uuid, uuidBefore} = seen
    const returned = isSameUuid(uuidBefore, guid) && nowMs - seen.uuidLeftMs < RETURN_MS
    // A copy: the packet's own bytes would keep the whole datagram.
    Object.assign(seen, {uuid: Uint8Array.from(guid), uuidBefore: uuid, uuidLeftMs: nowMs})
    return returned && uuid !== null ? {uuids: [uuidText(uuid), uuidText(guid)]} : null
  }

  return {
    see(client: Client, xid: number, relay: Ipv4, circuit: string | null, arrival: Arrival): Moved | null {
      const seen = known.get(client.mac)
      const {guid} = client
      if (seen !== undefined && isAt(seen.place, arrival.interface, relay, circuit)) {
        if (seen.xid !== xid) {
          seen.xid = xid
          seen.atMs = clock.monotonicMs()
        }
        return seeUuid(seen, guid)
      }
      const place = {interface: arrival.interface, relay, circuit}
      if (seen !== undefined) return seePlace(seen, xid, place) ?? seeUuid(seen, guid)
      const uuid = guid === null ? null : Uint8Array.from(guid)
      const atMs = clock.monotonicMs()
      remember(client.mac, {xid, atMs, place, twin: null, before: null, leftMs: 0, uuid, uuidBefore: null, uuidLeftMs: 0})
      return null
    },
    size: () => known.size,
  }
}

function isSame(one: Place | null, other: Place): boolean {
  return one !== null && isAt(one, other.interface, other.relay, other.circuit)
}

function isAt(place: Place, name: string, relay: Ipv4, circuit: string | null): boolean {
  return place.relay === relay && place.circuit === circuit && place.interface === name
}

function isSameUuid(one: Uint8Array | null, other: Uint8Array): boolean {
  if (one === null) return false
  let at = 0
  while (at < one.length && one[at] === other[at]) at++
  if (at === one.length) return true
  return uuidTexts(one)?.big === uuidTexts(other)?.little
}

function placeText({interface: name, relay, circuit}: Place): string {
  const port = circuit === null ? '' : `, circuit ${circuit}`
  return relay === NO_ADDRESS ? `${name}${port}` : `relay ${relay}${port}`
}

function uuidText(guid: Uint8Array): string {
  return uuidTexts(guid)?.big ?? ''
}
