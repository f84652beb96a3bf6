/** `explain`: dhcpd's and boot's own explanations of one MAC, put together stage by stage. */
import type {Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import {readInterfaces} from '../../lib/interfaces.ts'
import {type Explained, type ExplainedStep, type ExplainHow, STAGES, type StageName} from '../api/index.ts'
import type {Boot} from '../boot/index.ts'
import {
  ARCHITECTURES,
  type AskingStage,
  type DhcpPrefix,
  type DhcpSnapshot,
  type ExplainedReply,
  type ExplainedStage,
  explainDhcp,
  NO_ADDRESS,
  prefixOfQuestion,
  type StoredLease,
} from '../dhcpd/index.ts'
import type {Inventory} from '../inventory/index.ts'
import type {Ipam} from '../ipam/index.ts'
import {loadSnapshot, type SnapshotParts} from './snapshot-keeper.ts'

/** Names people use for option 93's commonest values (IANA "Processor Architecture Types"). */
const ARCHITECTURE_NAMES: Readonly<Record<string, number>> = {bios: 0, uefi: 7, 'uefi-http': 16, arm64: 11, 'arm64-http': 19}

/** The same firmware booting over HTTP. */
const OVER_HTTP: Readonly<Record<number, number>> = {0: 20, 6: 15, 7: 16, 9: 17, 10: 18, 11: 19}

const ASKING: readonly string[] = ['rom', 'http', 'ipxe', 'ramdisk', 'installer', 'os'] satisfies AskingStage[]

export type ExplainerParts = {
  readonly snapshot: SnapshotParts
  readonly inventory: Pick<Inventory, 'machineByMac'>
  readonly ipam: Pick<Ipam, 'findLease'>
  readonly boot: Pick<Boot, 'explain' | 'explainRequest'>
  readonly clock: Clock
}

export function createExplainer(parts: ExplainerParts): (mac: Mac, how: ExplainHow) => Promise<Explained> {
  return async (mac, how) => {
    const {snapshot} = await loadSnapshot(parts.snapshot)
    const machine = await parts.inventory.machineByMac(mac)
    const architecture = architectureOf(how, machine?.firmware === 'uefi' ? 7 : 0)
    const question = {
      mac,
      now: parts.clock.now(),
      servers: ownAddresses(),
      lease: await leaseOf(parts.ipam, mac),
      architecture,
      ...(machine?.dmi_uuid ? {uuid: machine.dmi_uuid} : {}),
      ...(how.relay === undefined ? {} : {relay: how.relay}),
      ...(how.circuit_id === undefined ? {} : {circuitId: how.circuit_id}),
      ...(how.user_class === undefined ? {} : {userClass: how.user_class}),
      ...(how.vendor_class === undefined ? {} : {vendorClass: how.vendor_class}),
      ...(how.prefix === undefined ? {} : {prefixId: prefixNamed(snapshot, how.prefix).id}),
      ...(isAsking(how.stage) ? {stages: [how.stage]} : {}),
    }
    const prefix = prefixOfQuestion(snapshot, question)
    const from = snapshot.hosts.get(mac)?.address ?? question.lease?.address ?? prefix?.dynamicRanges[0]?.first
    const overDhcp = explainDhcp(snapshot, question).map(toStep)
    const overHttp = prefix ? await parts.boot.explain(mac, {bootUrl: prefix.boot_url, from}) : []
    const steps: readonly Step[] = [...overDhcp, ...overHttp]
    return {
      mac,
      machine: machine?.name ?? null,
      architecture: ARCHITECTURES.find(row => row.code === architecture)?.name ?? String(architecture),
      prefix: prefix?.cidr ?? null,
      relay: how.relay ?? null,
      stages: STAGES.flatMap(name => {
        const ofStage = steps.filter(step => step.stage === name)
        const wanted = how.stage === undefined || how.stage === name
        return wanted && ofStage.length > 0 ? [{stage: name, steps: ofStage.map(({stage: _stage, ...step}) => step)}] : []
      }),
    }
  }
}

type Step = ExplainedStep & {readonly stage: StageName}

function toStep({stage, message, reply, ignored, reasons}: ExplainedStage): Step {
  if (reply === null) return {stage, asks: message, answer: `nothing: ${ignored ?? 'no reply'}`, reasons}
  const {message_type: _type, ...options} = reply.options
  return {
    stage,
    asks: message,
    answer: answerOf(reply),
    file: fileOf(reply.file, reply.options),
    sent: `${reply.octets} octets by ${reply.destination.via} to ${reply.destination.to.address}`,
    options: {...options, siaddr: reply.siaddr},
    reasons,
  }
}

/** Beside another server an offer names a boot file, and no address. */
function answerOf({type, yiaddr}: ExplainedReply): string {
  if (type === 'NAK') return type
  return `${type} ${yiaddr === NO_ADDRESS ? 'of a boot file and no address' : yiaddr}`
}

/** The field and option 67 agree where both are sent; a long URL travels in the option alone. */
function fileOf(file: string, options: Readonly<Record<string, unknown>>): string | null {
  return file || (typeof options.boot_file_name === 'string' ? options.boot_file_name : null)
}

export async function leaseOf(ipam: Pick<Ipam, 'findLease'>, mac: Mac): Promise<StoredLease | null> {
  const lease = await ipam.findLease({mac})
  if (!lease) return null
  const {address, prefixId, machineId, expiresAt} = lease
  const kind = lease.kind === 'reservation' ? 'reserved' : 'dynamic'
  return {address, prefixId, kind, machineId, expires_at: expiresAt}
}

/** This host's addresses: where it serves DHCP itself, its server-id is one of them. */
export function ownAddresses() {
  return readInterfaces().flatMap(link => link.addresses.map(({address}) => address))
}

export function prefixNamed(snapshot: DhcpSnapshot, idOrCidr: string): DhcpPrefix {
  const prefix = snapshot.prefixes.find(row => row.id === idOrCidr || row.cidr === idOrCidr)
  if (!prefix) throw new IngotError('NOT_FOUND', `no prefix '${idOrCidr}' that DHCP serves`)
  return prefix
}

function isAsking(stage: StageName | undefined): stage is StageName & AskingStage {
  return stage !== undefined && ASKING.includes(stage)
}

function architectureOf({arch, stage}: ExplainHow, ofMachine: number): number {
  const code = arch === undefined ? ofMachine : (ARCHITECTURE_NAMES[arch] ?? Number(arch))
  if (ARCHITECTURES.some(row => row.code === code)) return stage === 'http' ? (OVER_HTTP[code] ?? code) : code
  throw new IngotError('INVALID_INPUT', `'${arch}' is no architecture`, {
    errors: [
      {
        field: 'arch',
        code: 'unknown',
        message: `use ${Object.keys(ARCHITECTURE_NAMES).join(', ')} or a number of the IANA table`,
      },
    ],
  })
}
