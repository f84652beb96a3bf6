/** `explain`: dhcpd's and boot's own explanations of one MAC, put together stage by stage. */
import type {Mac} from '../../lib/addresses.ts'
import type {Clock} from '../../lib/clock.ts'
import {IngotError} from '../../lib/errors.ts'
import type {ExplainedStage} from '../api/index.ts'
import type {Boot} from '../boot/index.ts'
import {ARCHITECTURES, explainDhcp} from '../dhcpd/index.ts'
import type {Inventory} from '../inventory/index.ts'
import {loadSnapshot, type SnapshotParts} from './snapshot-keeper.ts'

/** Names people use for option 93's commonest values (IANA "Processor Architecture Types"). */
const ARCHITECTURE_NAMES: Readonly<Record<string, number>> = {bios: 0, uefi: 7, 'uefi-http': 16, arm64: 11, 'arm64-http': 19}

export function createExplainer(parts: {
  snapshot: SnapshotParts
  inventory: Inventory
  boot: Pick<Boot, 'explain'>
  clock: Clock
}) {
  return async (mac: Mac, how: {arch?: string | undefined; stage?: string | undefined}): Promise<ExplainedStage[]> => {
    const {snapshot} = await loadSnapshot(parts.snapshot)
    const machine = await parts.inventory.machineByMac(mac)
    const architecture = how.arch === undefined ? (machine?.firmware === 'uefi' ? 7 : 0) : architectureOf(how.arch)
    const dhcp = explainDhcp(snapshot, {
      mac,
      now: parts.clock.now(),
      architecture,
      ...(machine?.dmi_uuid ? {uuid: machine.dmi_uuid} : {}),
    }).map((stage): ExplainedStage => {
      const {reply} = stage
      return {
        stage: `${stage.stage} ${stage.message}`,
        answer: reply
          ? `${reply.type} ${reply.yiaddr}${reply.file ? `, file ${reply.file}` : ''}`
          : `nothing: ${stage.ignored ?? 'no reply'}`,
        ...(reply
          ? {options: {...reply.options, siaddr: reply.siaddr, sent: `${reply.destination.via} ${reply.destination.to.address}`}}
          : {}),
        reasons: stage.reasons,
      }
    })
    const host = snapshot.hosts.get(mac)
    const open = snapshot.prefixes.find(row => row.window && row.window.until > parts.clock.now())
    const prefix = host ? snapshot.prefixes.find(row => row.id === host.prefixId) : (open ?? snapshot.prefixes[0])
    const from = host?.address ?? prefix?.dynamicRanges[0]?.first
    const http = prefix ? await parts.boot.explain(mac, {bootUrl: prefix.boot_url, from}) : []
    const stages = [...dhcp, ...http]
    return how.stage === undefined ? stages : stages.filter(stage => stage.stage.split(' ')[0] === how.stage)
  }
}

function architectureOf(text: string): number {
  const code = ARCHITECTURE_NAMES[text] ?? Number(text)
  if (ARCHITECTURES.some(row => row.code === code)) return code
  throw new IngotError('INVALID_INPUT', `'${text}' is no architecture`, {
    errors: [
      {
        field: 'arch',
        code: 'unknown',
        message: `use ${Object.keys(ARCHITECTURE_NAMES).join(', ')} or a number of the IANA table`,
      },
    ],
  })
}
