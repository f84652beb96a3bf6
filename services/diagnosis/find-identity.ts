/** What goes wrong when it is not clear who is who. Each finder is pure. */
import {uuidTexts} from '../../lib/bytes.ts'
import {clientIdText, NO_ADDRESS} from '../dhcpd/index.ts'
import type {Finding} from './causes.ts'
import {found} from './find-dhcp.ts'
import type {DhcpMessage} from './messages.ts'
import type {Story} from './story.ts'

export function findClientKeys(story: Story): Finding[] {
  const first = firstOfEach(asks(story), ({client}) => clientIdText(client?.clientId ?? null) ?? 'none')
  if (first.size < 2) return []
  return [found(story, 'TWO_CLIENT_KEYS', [...first.keys()].join(', then '), [...first.values()])]
}

export function findAddresses(story: Story): Finding[] {
  const granted = story.exchanges.flatMap(({acks}) => acks.filter(({packet}) => packet.yiaddr !== NO_ADDRESS))
  const first = firstOfEach(granted, ({packet}) => packet.yiaddr)
  if (first.size < 2) return []
  return [found(story, 'TWO_ADDRESSES', [...first.keys()].join(', then '), [...first.values()])]
}

export function findDuplicateMac(story: Story): Finding[] {
  const byGuid = firstOfEach(asks(story), guidOf)
  if (byGuid.size > 1) return [found(story, 'DUPLICATE_MAC', `UUIDs ${[...byGuid.keys()].join(' and ')}`, [...byGuid.values()])]
  const ports = asks(story).flatMap(message => {
    const port = portOf(message)
    return port === undefined ? [] : [{port, message}]
  })
  // A machine that was moved shows another port once; two machines go back and forth.
  const turns = ports.filter(({port}, index) => index === 0 || ports[index - 1]?.port !== port)
  const back = turns.findIndex(({port}, index) => turns.slice(0, index).some(earlier => earlier.port === port))
  if (back < 0) return []
  const shown = turns.slice(0, back + 1)
  const names = [...new Set(shown.map(({port}) => port))]
  return [
    found(
      story,
      'DUPLICATE_MAC',
      `switch ports ${names.join(' and ')} alternate`,
      shown.map(({message}) => message),
    ),
  ]
}

export function findConflict(story: Story): Finding[] {
  const declined = story.declines.map(message =>
    found(story, 'ADDRESS_CONFLICT', 'it declined the address it was given', [message]),
  )
  const own = new Set(story.exchanges.flatMap(({acks}) => acks.map(({packet}) => packet.yiaddr)))
  own.delete(NO_ADDRESS)
  const others = [...own].flatMap(address => story.arpsOf(address)).filter(arp => arp.mac !== story.mac)
  const byMac = firstOfEach(others, ({senderMac}) => senderMac)
  const claimed = [...byMac.values()].map(arp =>
    found(story, 'ADDRESS_CONFLICT', `${arp.senderMac} says by ARP that ${arp.sender} is its own`, [arp]),
  )
  return [...declined.slice(0, 1), ...claimed]
}

function asks(story: Story): readonly DhcpMessage[] {
  return story.exchanges.flatMap(({discovers, requests}) => [...discovers, ...requests])
}

/** Firmware disagrees about the byte order of a UUID, and may change its mind from stage to stage: the lesser of both texts stands for it. */
function guidOf({client}: DhcpMessage): string | undefined {
  const texts = client?.guid ? uuidTexts(client.guid) : undefined
  return texts && [texts.big, texts.little].sort()[0]
}

function portOf({packet}: DhcpMessage): string | undefined {
  const circuit = packet.options.get(82)
  return circuit === undefined ? undefined : `${packet.giaddr} ${Buffer.from(circuit).toString('hex')}`
}

function firstOfEach<T>(list: readonly T[], keyOf: (item: T) => string | undefined): Map<string, T> {
  const first = new Map<string, T>()
  for (const item of list) {
    const key = keyOf(item)
    if (key !== undefined && !first.has(key)) first.set(key, item)
  }
  return first
}
