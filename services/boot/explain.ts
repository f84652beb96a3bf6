/** What a machine would be served over HTTP at each stage, from the very functions that serve it. Tokens are shown as a placeholder. */
import type {Kysely} from 'kysely'
import type {Mac} from '../../lib/addresses.ts'
import type {Reason} from '../../lib/decision.ts'
import type {Database} from '../../lib/schema.ts'
import type {Artefacts} from '../artefacts/index.ts'
import {lastReason, readBootFacts, renderTarget, TOKEN_SHOWN} from './entry.ts'
import {renderEntryScript, renderLocalScript} from './scripts.ts'
import {decideTarget} from './target.ts'

export type StageAnswer = {
  readonly stage: 'ipxe' | 'loader' | 'ramdisk' | 'installer' | 'os'
  readonly answer: string
  readonly body?: string
  readonly reasons: readonly Reason[]
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
    answer: `GET ${how.bootUrl}/boot.ipxe`,
    body: renderEntryScript(how.bootUrl),
    reasons: [
      {rule: 'constant_url', because: 'every iPXE gets the same script, which carries no secret and names the machine itself'},
    ],
  }
  if (answer.kind === 'none') return [entry, {stage: 'loader', answer: 'nothing (404)', reasons}]
  if (answer.kind === 'local') {
    const local: StageAnswer = {stage: 'loader', answer: 'its own disk', body: renderLocalScript(lastReason(decision)), reasons}
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
  const loader: StageAnswer = {stage: 'loader', answer: `the ramdisk, to ${answer.stage}`, body: script, reasons}
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

function ramdiskAnswer(stage: 'inspect' | 'clean' | 'install'): string {
  if (stage === 'inspect') return 'reads the hardware and reports facts'
  return stage === 'clean'
    ? 'claims the job, wipes every disk and reads it back'
    : 'claims the job, writes the image, sets local boot'
}

function ramdiskReasons(stage: 'inspect' | 'clean' | 'install'): Reason[] {
  if (stage === 'inspect')
    return [{rule: 'inspection_cannot_claim', because: 'its token is for inspection only, and writes nothing'}]
  return [{rule: 'one_claim', because: 'it may write only after its claim is granted, once for this attempt'}]
}
