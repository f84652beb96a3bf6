/**
 * How long a machine takes from power-on to SSH, provisioned by Ingot and by the hand-made way (dnsmasq, nginx, `wget | zstd | dd`,
 * reboot) with the same image, kernel and machine; what of it is waiting for Ingot itself; how soon Ingot answers after its start, and
 * what memory it takes when idle. Who goes first alternates from round to round; medians are compared.
 */
import {parseArgs} from 'node:util'
import {buildLabArtefacts} from '../lab/artefacts.ts'
import type {LabNetwork} from '../lab/network.ts'
import {createRack, type Rack} from '../lab/rack.ts'
import {sleep} from '../lib/clock.ts'
import {installPackages} from './packages.ts'
import {createClientNetwork, type Start, startUntilOffer} from './provision/first-offer.ts'
import {
  type ControlWaits,
  enrolAndClean,
  giveBack,
  isAnswer,
  type OurRound,
  provisionByIngot,
  sumOf,
} from './provision/ingot-side.ts'
import {type Memory, readMemory} from './provision/memory.ts'
import {PEER_PACKAGES, type PeerRound, preparePeer, provisionByPeer} from './provision/peer-side.ts'
import {type ComparedPhase, comparePhases, median, medians} from './provision/phases.ts'
import type {Wait} from './provision/server-waits.ts'
import type {Benchmark, Goal, Report, Row, Table} from './report.ts'

const USAGE = `npm run bench -- provision [--rounds N] [--firmware bios|uefi] [--json] [--keep] [--name NAME]
  --rounds    of each way (default 3)
  --firmware  of the machine (default bios)
  --json      print one JSON object as the last line
  --keep      leave the machine's files and the logs
  --name      of the network namespace (default ingot-bench)`

/** The whole, ours to the peer's: what digests, zeroing and evidence may cost, and what is aimed for. */
const WHOLE_AT_MOST = 1.15
const WHOLE_GOAL = 0.75
const CONTROL_AT_MOST_S = 2
const START_AT_MOST_S = 2
/** After its start a process settles before it counts as idle. */
const SETTLE_MS = 10_000

type Options = {readonly rounds: number; readonly firmware: 'bios' | 'uefi'; readonly keep: boolean; readonly name: string}
type Measured = {ours: OurRound[]; peer: PeerRound[]; starts: Start[]; memory: Memory[]}

export const provision: Benchmark = {
  name: 'provision',
  about: 'power-on to SSH against the hand-made way; waiting for Ingot; its start and its memory',
  usage: USAGE,
  run: async args => reportOf(await measure(parseOptions(args))),
}

function parseOptions(args: readonly string[]): Options {
  const {values} = parseArgs({
    args: [...args],
    options: {
      rounds: {type: 'string', default: '3'},
      firmware: {type: 'string', default: 'bios'},
      keep: {type: 'boolean', default: false},
      name: {type: 'string', default: 'ingot-bench'},
    },
  })
  const {firmware, keep, name} = values
  const rounds = Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds is a number from 1')
  if (firmware !== 'bios' && firmware !== 'uefi') throw new Error('--firmware is bios or uefi')
  return {rounds, firmware, keep, name}
}

async function measure(options: Options): Promise<Measured> {
  if (process.getuid?.() !== 0) throw new Error('it makes network namespaces and a bridge, which only root may: run it as root')
  await installPackages(PEER_PACKAGES, note)
  note('building loaders, ramdisk and image from Debian packages (kept for the next time)')
  const builtDir = await buildLabArtefacts(line => note(`  ${line}`))
  const rack = await createRack({name: options.name, builtDir, firmware: options.firmware})
  let client: LabNetwork | undefined
  let failed = true
  try {
    client = await createClientNetwork(rack)
    const measured = await runRounds(rack, client, builtDir, options.rounds)
    failed = false
    return measured
  } finally {
    const keepFiles = options.keep || failed
    await client?.close()
    await rack.close({keepFiles})
    if (keepFiles) note(`files are left in ${rack.network.dir}`)
  }
}

async function runRounds(rack: Rack, client: LabNetwork, builtDir: string, rounds: number): Promise<Measured> {
  note('preparing the peer: the same image as one zstd file, a ramdisk with wget, zstd and dd')
  const inputs = await preparePeer(rack, builtDir)
  note('Ingot enrols the machine and cleans it (not timed)')
  await rack.ingot.start()
  await enrolAndClean(rack)
  await rack.ingot.stop()

  const measured: Measured = {ours: [], peer: [], starts: [], memory: []}
  const peerTurn = async () => {
    const round = await provisionByPeer(rack, inputs)
    measured.peer.push(round)
    note(`  peer:  ${round.at_s.ssh.toFixed(1)} s from power-on to SSH`)
  }
  const ourTurn = async (isLast: boolean) => {
    measured.starts.push(await startUntilOffer(rack, client))
    await sleep(SETTLE_MS)
    measured.memory.push(await readMemory(rack.ingot))
    const round = await provisionByIngot(rack)
    measured.ours.push(round)
    note(`  Ingot: ${round.at_s.ssh?.toFixed(1)} s from power-on to SSH`)
    if (!isLast) await giveBack(rack)
    await rack.ingot.stop()
    await rack.machine.powerOff()
  }
  for (let round = 1; round <= rounds; round++) {
    note(`round ${round} of ${rounds}`)
    if (round % 2 === 1) await peerTurn()
    await ourTurn(round === rounds)
    if (round % 2 === 0) await peerTurn()
  }
  return measured
}

function reportOf({ours, peer, starts, memory}: Measured): Report {
  const phases = comparePhases(
    ours.map(round => round.at_s),
    peer.map(round => round.at_s),
  )
  const control = medians(ours.map(round => round.control))
  const controlS = median(ours.map(round => totalOf(round.control))) / 1000
  const start = medians(starts)
  const idle = medians(memory)
  const whole = {ours: phases.at(-1)?.ours_at_s ?? Number.NaN, peer: phases.at(-1)?.peer_at_s ?? Number.NaN}
  const ratio = whole.ours / whole.peer
  const goals: Goal[] = [
    {id: 'G10.whole', what: `power-on to SSH, s: at most ${WHOLE_AT_MOST} × peer`, ...whole, ratio, met: ratio <= WHOLE_AT_MOST},
    {id: 'G10', what: `image and reboot, s: at most ${WHOLE_GOAL} × peer`, ...whole, ratio, met: ratio <= WHOLE_GOAL},
    alone('G10.control', `waiting for Ingot, s: under ${CONTROL_AT_MOST_S}`, controlS, CONTROL_AT_MOST_S),
    alone('start', `from start to the first DHCP offer, s: under ${START_AT_MOST_S}`, start.offer_s, START_AT_MOST_S),
  ]
  const waits = waitRows(ours, peer, control)
  const startRows: Row[] = [
    {measured: 'from `ingot serve` to the first DHCP offer', s: start.offer_s},
    {measured: 'from `ingot serve` to the API’s first answer', s: start.api_s},
  ]
  const memoryRows: Row[] = [
    ...Object.entries(idle).map(([process, mb]) => ({process: process.replace('_mb', ''), pss_mb: mb})),
    {process: 'all', pss_mb: Object.values(idle).reduce((sum, mb) => sum + mb, 0)},
  ]
  const tables: Table[] = [
    {title: `Power-on to SSH, seconds, medians of ${ours.length}`, rows: phaseRows(phases, ratio)},
    {title: 'Rounds: CPU seconds of the machine, and of all else on this host meanwhile', rows: cpuRows(ours, peer)},
    {title: 'Waiting for the servers, milliseconds, medians', rows: waits},
    {title: 'Start on an existing database', rows: startRows},
    {title: 'Idle memory, PSS in MB', rows: memoryRows},
  ]
  return {bench: 'provision', goals, tables, rows: [...rounds(ours, peer), ...phases, ...waits, ...startRows, ...memoryRows]}
}

function phaseRows(phases: readonly ComparedPhase[], ratio: number): Row[] {
  const percent = (share: number) => `${(share * 100).toFixed(0).padStart(3)} %`
  const rows = phases.map(row => ({
    phase: row.phase,
    'ours at': row.ours_at_s,
    'peer at': row.peer_at_s,
    'ours took': row.ours_took_s,
    share: percent(row.ours_share),
    'peer took': row.peer_took_s,
    'its share': percent(row.peer_share),
    ratio: row.ratio,
  }))
  const last = phases.at(-1)
  return [...rows, {phase: 'whole', 'ours took': last?.ours_at_s ?? null, 'peer took': last?.peer_at_s ?? null, ratio}]
}

/** The peer has no order to take up, no BMC and no job to close: a person does that. */
function waitRows(ours: readonly OurRound[], peer: readonly PeerRound[], control: ControlWaits): Row[] {
  const of = (waits: readonly Wait[], wanted: (wait: Wait) => boolean) => sumOf(waits.filter(wanted))
  const both = (wanted: (wait: Wait) => boolean) => ({
    ours: median(ours.map(round => of(round.waits, wanted))),
    peer: median(peer.map(round => of(round.waits, wanted))),
  })
  const isDhcp = (wait: Wait) => /^[A-Z]+$/.test(wait.request)
  const longest = ours.flatMap(round => round.waits.filter(isAnswer)).toSorted((a, b) => b.waited_ms - a.waited_ms)[0]
  return [
    {waiting: 'POST …/provision is answered', ours: control.answered_ms, peer: null},
    {waiting: 'until the power cycle is begun', ours: control.taken_up_ms, peer: null},
    {waiting: 'off and boot device, over the BMC', ours: control.prepared_ms, peer: null},
    {waiting: 'DHCP answers', ...both(isDhcp)},
    {waiting: 'HTTP answers but files', ...both(wait => isAnswer(wait) && !isDhcp(wait))},
    {waiting: 'from the first boot’s report to active', ours: control.closed_ms, peer: null},
    {waiting: 'all of these', ours: median(ours.map(round => totalOf(round.control))), peer: both(isAnswer).peer},
    {waiting: '(not counted) the BMC switches on', ours: median(ours.map(round => round.bmc_on_ms)), peer: null},
    {waiting: '(not counted) first bytes of files', ...both(wait => !isAnswer(wait))},
    {waiting: `(within) the longest answer: ${longest?.request ?? 'none'}`, ours: longest?.waited_ms ?? null, peer: null},
  ]
}

function rounds(ours: readonly OurRound[], peer: readonly PeerRound[]): Row[] {
  return [
    ...ours.map((round, index) => ({round: index + 1, by: 'ingot', ...round.at_s, ...round.control, ...cpuOf(round)})),
    ...peer.map((round, index) => ({round: index + 1, by: 'peer', ...round.at_s, ...cpuOf(round)})),
  ]
}

/** In the order in which they ran. A rest of many seconds means that the host had other work, and that this round says little. */
function cpuRows(ours: readonly OurRound[], peer: readonly PeerRound[]): Row[] {
  return ours.flatMap((round, index) => {
    const other = peer[index]
    const rows = [
      ...(other ? [{round: index + 1, by: 'peer', whole: other.at_s.ssh, ...cpuOf(other)}] : []),
      {round: index + 1, by: 'ingot', whole: round.at_s.ssh ?? null, ...cpuOf(round)},
    ]
    return index % 2 === 0 ? rows : rows.toReversed()
  })
}

function cpuOf({cpu}: OurRound | PeerRound) {
  return {machine_cpu_s: cpu.machine_s, rest_cpu_s: cpu.rest_s}
}

function alone(id: string, what: string, ours: number, limit: number): Goal {
  return {id, what, ours, peer: null, ratio: null, met: ours < limit}
}

function totalOf(control: ControlWaits): number {
  return Object.values(control).reduce((sum, ms) => sum + ms, 0)
}

/** The story goes to standard error, so that standard output holds the answer alone. */
function note(text: string): void {
  process.stderr.write(`${text}\n`)
}
