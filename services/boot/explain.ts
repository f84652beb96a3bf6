/** What a machine would be served over HTTP at each stage, from the very functions that serve it. Tokens are shown as a placeholder. */
import type {Kysely} from 'kysely'
import type {Mac} from '../../lib/addresses.ts'
import {printable} from '../../lib/bytes.ts'
import type {Reason} from '../../lib/decision.ts'
import type {Database} from '../../lib/schema.ts'
import type {Artefacts} from '../artefacts/index.ts'
import {lastReason, macOfPath, readBootFacts, renderTarget, TOKEN_SHOWN} from './entry.ts'
import {findRoute} from './routes.ts'
import {renderEntryScript, renderLocalScript} from './scripts.ts'
import {decideTarget, type Target} from './target.ts'

export type StageAnswer = {
  readonly stage: 'ipxe' | 'loader' | 'ramdisk' | 'installer' | 'os'
  /** What it asks for, where it asks over HTTP. */
  readonly asks?: string
  readonly answer: string
  readonly body?: string
  readonly reasons: readonly Reason[]
}

const CONSTANT_SCRIPT: Reason = {
  rule: 'constant_url',
  because: 'every iPXE gets the same script, which carries no secret and names the machine itself',
}

export async function explainBoot(
  services: {readonly db: Kysely<Database>; readonly artefacts: Artefacts; readonly consoles: readonly string[]},
  mac: Mac,
  how: {bootUrl: string; from: string | undefined},
): Promise<StageAnswer[]> {
  const facts = await readBootFacts(services.db, mac, how.from)
  const decision = decideTarget(facts)
  const {answer, reasons} = decision
  const entry: StageAnswer = {
    stage: 'ipxe',
    asks: `GET ${how.bootUrl}/boot.ipxe`,
    answer: 'the constant script',
    body: renderEntryScript(how.bootUrl),
    reasons: [CONSTANT_SCRIPT],
  }
  const asks = `GET ${how.bootUrl}/ipxe/${mac.replaceAll(':', '-')}`
  if (answer.kind === 'none') return [entry, {stage: 'loader', asks, answer: 'nothing (404)', reasons}]
  if (answer.kind === 'local') {
    const body = renderLocalScript(lastReason(decision))
    const local: StageAnswer = {stage: 'loader', asks, answer: 'its own disk', body, reasons}
    return [
      entry,
      local,
      {
        stage: 'os',
        answer: 'whatever its disk holds',
        reasons: [{rule: 'local_boot', because: 'the network hands over to firmware'}],
      },
    ]
  }
  const script = renderTarget(services, answer, {mac, bootUrl: how.bootUrl, token: TOKEN_SHOWN})
  const loader: StageAnswer = {stage: 'loader', asks, answer: `the ramdisk, to ${answer.stage}`, body: script, reasons}
  const ramdisk: StageAnswer = {stage: 'ramdisk', answer: ramdiskAnswer(answer.stage), reasons: ramdiskReasons(answer.stage)}
  const install = facts.plan?.install
  if (answer.stage !== 'install' || !install) return [entry, loader, ramdisk]
  return [
    entry,
    loader,
    ramdisk,
    {
      stage: 'installer',
      answer: `image ${install.image} (${install.image_digest.slice(0, 12)}…) onto disk ${install.disk}`,
      body: install.files.map(file => `${file.mode.toString(8)} /${file.path}`).join('\n'),
      reasons: [
        {
          rule: 'frozen_plan',
          because: 'template, files and image were fixed when the job was accepted',
          source: `job ${facts.job?.id}`,
        },
      ],
    },
    {
      stage: 'os',
      answer: `${install.hostname} at ${install.addresses.map(held => held.address).join(', ')}`,
      reasons: [{rule: 'local_boot', because: 'once the disk is written every further netboot leads to it'}],
    },
  ]
}

type Stage = Extract<Target, {kind: 'ramdisk'}>['stage']

const RAMDISK_DOES: Record<Stage, string> = {
  inspect: 'reads the hardware and reports facts',
  test: 'burns memory and processors in, reads the disks, and reports what they reached',
  clean: 'claims the job, wipes every disk and reads it back',
  install: 'claims the job, writes the image, sets local boot',
  service: 'stays for somebody’s work, until the job is left',
  rescue: 'stays with a shell, until the job is left',
}

function ramdiskAnswer(stage: Stage): string {
  return RAMDISK_DOES[stage]
}

function ramdiskReasons(stage: Stage): Reason[] {
  if (stage !== 'clean' && stage !== 'install')
    return [{rule: 'inspection_cannot_claim', because: `its token is for this stage (${stage}) only, and cannot claim`}]
  return [{rule: 'one_claim', because: 'it may write only after its claim is granted, once for this attempt'}]
}

export type RequestAnswer = {readonly status: number; readonly answer: string; readonly reasons: readonly Reason[]}

/** @param target path and query, or a whole URL, as the request line has it */
export async function explainRequest(
  services: {readonly db: Kysely<Database>; readonly artefacts: Pick<Artefacts, 'lookup' | 'byDigest'>},
  method: string,
  target: string,
  from: string | undefined,
): Promise<RequestAnswer> {
  const found = findRoute(method, target)
  if ('status' in found) {
    return {status: found.status, answer: found.because, reasons: [{rule: 'route', because: found.because, source: 'boot'}]}
  }
  const {path, rest} = found
  if (path === '/boot.ipxe') return {status: 200, answer: 'the constant script', reasons: [CONSTANT_SCRIPT]}
  if (path === '/loaders/') return artefactAnswer(rest, services.artefacts.lookup(`loaders/${rest}`))
  if (path === '/artefacts/') return artefactAnswer(rest, services.artefacts.byDigest(rest))
  if (path !== '/ipxe/') {
    const because = 'what the ramdisk or the installed system reports is answered by its token, which a capture does not prove'
    return {status: 200, answer: 'its callback', reasons: [{rule: 'token', because, source: 'boot'}]}
  }
  const mac = macOfPath(rest)
  if (!mac)
    return {status: 400, answer: 'that is no MAC address', reasons: [{rule: 'route', because: `'${printable(rest)}' is no MAC`}]}
  const {answer, reasons} = decideTarget(await readBootFacts(services.db, mac, from))
  if (answer.kind === 'none') return {status: 404, answer: 'nothing', reasons}
  return {status: 200, answer: answer.kind === 'local' ? 'its own disk' : `the ramdisk, to ${answer.stage}`, reasons}
}

function artefactAnswer(name: string, entry: {size_bytes: number} | undefined): RequestAnswer {
  const shown = printable(name)
  if (entry)
    return {status: 200, answer: `${entry.size_bytes} bytes`, reasons: [{rule: 'artefact', because: `'${shown}' was built`}]}
  return {
    status: 404,
    answer: 'there is no such artefact',
    reasons: [{rule: 'artefact', because: `no artefact is called '${shown}'`}],
  }
}
