/**
 * By what else than its MAC a machine is known: a client identifier or circuit that an operator declared, or the UUID that inspection
 * read. Asked only when nobody declared the MAC (a NIC that was replaced, a second NIC), in that order. Pure.
 *
 * A UUID that two machines have identifies neither, nor does a filler that a board maker left in (see `client.ts`).
 */
import type {Ipv4} from '../../lib/addresses.ts'
import {uuidTexts} from '../../lib/bytes.ts'
import {type Client, clientIdText} from './client.ts'
import type {Link} from './link.ts'
import type {DhcpHost} from './snapshot.ts'

/** A declared key; `relay` narrows a circuit to the relay that names it, for circuit names repeat from switch to switch. */
export type DeclaredKey = {
  readonly machineId: string
  readonly kind: 'client_id' | 'circuit_id'
  /** Hexadecimal with colons. */
  readonly value: string
  readonly relay: Ipv4 | null
}

export type ClientKeys = {
  readonly byClientId: ReadonlyMap<string, DhcpHost>
  readonly byCircuit: ReadonlyMap<string, DhcpHost>
  /** `null` is the UUID of more than one machine. */
  readonly byUuid: ReadonlyMap<string, DhcpHost | null>
}

/** @param hosts any one of each machine's */
export function indexClientKeys(hosts: Iterable<DhcpHost>, declared: readonly DeclaredKey[]): ClientKeys {
  const byMachine = new Map<string, DhcpHost>()
  const byUuid = new Map<string, DhcpHost | null>()
  for (const host of hosts) {
    if (byMachine.has(host.machineId)) continue
    byMachine.set(host.machineId, host)
    const uuid = host.uuid?.toLowerCase()
    if (uuid !== undefined) byUuid.set(uuid, byUuid.has(uuid) ? null : host)
  }
  const pick = (kind: DeclaredKey['kind'], keyOf: (key: DeclaredKey) => string) =>
    new Map(
      declared.flatMap(key => {
        const host = key.kind === kind ? byMachine.get(key.machineId) : undefined
        return host === undefined ? [] : [[keyOf(key), host] as const]
      }),
    )
  return {
    byClientId: pick('client_id', key => key.value),
    byCircuit: pick('circuit_id', key => circuitKey(key.relay, key.value)),
    byUuid,
  }
}

export type Identified = {readonly host: DhcpHost; readonly by: string}

export function identifyByKey(keys: ClientKeys | undefined, client: Client, link: Link): Identified | null {
  if (keys === undefined) return null
  return byClientId(keys, client) ?? byUuid(keys, client) ?? byCircuit(keys, link)
}

function byClientId({byClientId: known}: ClientKeys, {clientId}: Client): Identified | null {
  const text = known.size === 0 ? null : clientIdText(clientId)
  const host = text === null ? undefined : known.get(text)
  return host === undefined ? null : {host, by: `its client identifier ${text}`}
}

function byUuid({byUuid: known}: ClientKeys, {guid}: Client): Identified | null {
  const texts = known.size === 0 || guid === null ? undefined : uuidTexts(guid)
  if (texts === undefined) return null
  // A text of each order that leads to two machines leads to neither.
  const found = new Set([known.get(texts.big), known.get(texts.little)].filter(host => host !== undefined))
  const [host] = found
  return found.size !== 1 || host === null || host === undefined ? null : {host, by: `its UUID ${host.uuid}`}
}

function byCircuit({byCircuit: known}: ClientKeys, {relay}: Link): Identified | null {
  if (known.size === 0 || relay === null || relay.circuitId === null) return null
  const host = known.get(circuitKey(relay.giaddr, relay.circuitId)) ?? known.get(circuitKey(null, relay.circuitId))
  return host === undefined ? null : {host, by: `the circuit ${relay.circuitId} it is on`}
}

function circuitKey(relay: Ipv4 | null, circuit: string): string {
  return `${relay ?? ''} ${circuit}`
}
