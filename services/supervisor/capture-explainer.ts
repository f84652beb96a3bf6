/** `explain --pcap`: diagnosis, with answers from dhcpd's, tftpd's and boot's own functions over what is in the database now. */
import type {Mac} from '../../lib/addresses.ts'
import type {Artefacts} from '../artefacts/index.ts'
import {explainPacket, type StoredLease} from '../dhcpd/index.ts'
import {type CaptureAnswers, type CaptureReport, explainCapture} from '../diagnosis/index.ts'
import {artefactFiles, explainRead} from '../tftpd/index.ts'
import {type ExplainerParts, leaseOf, ownAddresses, prefixNamed} from './explainer.ts'
import {loadSnapshot} from './snapshot-keeper.ts'

/** Each costs a query; a capture of more machines shows addresses of the range for the rest. */
const LEASES_AT_MOST = 200

export function createCaptureExplainer(
  parts: ExplainerParts & {readonly artefacts: Pick<Artefacts, 'lookup' | 'read'>},
): (bytes: Uint8Array, how: {readonly prefix?: string | undefined}) => Promise<CaptureReport> {
  const files = artefactFiles(parts.artefacts)
  return async (bytes, how) => {
    const {snapshot} = await loadSnapshot(parts.snapshot)
    const prefixId = how.prefix === undefined ? undefined : prefixNamed(snapshot, how.prefix).id
    const place = {now: parts.clock.now(), servers: ownAddresses(), ...(prefixId === undefined ? {} : {prefixId})}
    const leases = new Map<Mac, StoredLease | null>()
    async function leaseFor(mac: Mac | null): Promise<StoredLease | null> {
      if (mac === null) return null
      const known = leases.get(mac)
      if (known !== undefined || leases.size >= LEASES_AT_MOST) return known ?? null
      const lease = await leaseOf(parts.ipam, mac)
      leases.set(mac, lease)
      return lease
    }
    const answers: CaptureAnswers = {
      async dhcp(packet, mac, seen, proxyFrom) {
        const lease = await leaseFor(mac)
        return explainPacket(snapshot, packet, {...place, seen, lease, ...(proxyFrom ? {proxyFrom} : {})})
      },
      tftp: request => explainRead(request, files),
      async http(method, target, from) {
        const {status, answer, reasons} = await parts.boot.explainRequest(method, target, from)
        return {answer: `${status}: ${answer}`, reasons}
      },
      nameOf: mac => snapshot.hosts.get(mac as Mac)?.name ?? null,
    }
    return explainCapture(bytes, answers)
  }
}
