/**
 * Tells a service of yours by a signed POST: once when the machine is installed, once when it is given back. Retried with growing pauses;
 * a receiver tells repetitions by the delivery's name.
 *
 * The signing key is a file that operators keep, `<state>/handoff/webhook/<key>.key`: it is in no database, plan or log. Which private
 * networks may be reached is in `<state>/handoff/webhook/allowed-networks`.
 */
import {lookup} from 'node:dns/promises'
import {readFile} from 'node:fs/promises'
import {join} from 'node:path'
import {z} from 'zod'
import {sleep} from '../../../lib/clock.ts'
import {type HandoffCauseCode, handoffCause} from '../causes.ts'
import {oneLine} from '../output.ts'
import {secretTexts} from '../redact.ts'
import type {HandoffKind, KindOutcome, RunContext} from './kind.ts'
import {parseAllowed} from './webhook/addresses.ts'
import {type Delivery, deliver, type Resolve, sign} from './webhook/deliver.ts'

const schema = z.strictObject({
  kind: z.literal('webhook'),
  url: z
    .string()
    .max(2048)
    .refine(text => isUsable(text), 'must be an http or https URL without user name and password'),
  key: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,63}$/, 'is the name of a file, without .key'),
  attempts: z.int().min(1).max(20).default(5),
  timeout_s: z.int().min(1).max(3600).default(300),
})

export type WebhookConfig = z.output<typeof schema>

const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 60_000
const ONE_TRY_MS = 30_000
const KEY_BYTES = 16

export const webhookKind = makeWebhookKind(async host => (await lookup(host, {all: true})).map(row => row.address))

/** @param resolve how names become addresses */
export function makeWebhookKind(resolve: Resolve, firstPause_ms = FIRST_PAUSE_MS): HandoffKind<WebhookConfig> {
  const tell = (event: 'provisioned' | 'withdrawn') => (config: WebhookConfig, context: RunContext) =>
    deliverPatiently(config, context, event, resolve, firstPause_ms)
  return {
    kind: 'webhook',
    about: 'A signed POST to a service of yours, when a machine is installed and when it is given back.',
    schema: schema as z.ZodType<WebhookConfig>,
    example: {kind: 'webhook', url: 'https://cmdb.example.org/ingot', key: 'cmdb', attempts: 5, timeout_s: 300},
    timeoutMs: config => config.timeout_s * 1000,
    publicKeys: () => [],
    secrets: (_config, machine) => secretTexts(machine.parameters, false),
    run: tell('provisioned'),
    withdraw: tell('withdrawn'),
  }
}

async function deliverPatiently(
  config: WebhookConfig,
  context: RunContext,
  event: 'provisioned' | 'withdrawn',
  resolve: Resolve,
  firstPause_ms: number,
): Promise<KindOutcome> {
  const key = await readKey(context.kindDir, config.key)
  if (typeof key === 'string') return fail('HANDOFF_WEBHOOK_KEY', key)
  const allowed = await readAllowed(context.kindDir)
  if ('wrong' in allowed)
    return fail('HANDOFF_WEBHOOK_KEY', `allowed-networks: '${allowed.wrong}' is no range such as 10.0.0.0/8`)
  const body = JSON.stringify({event, delivery: context.runId, machine: describe(context)})
  let last: Delivery = {unreachable: 'not tried'}
  for (let attempt = 1, pause_ms = firstPause_ms; attempt <= config.attempts; attempt++) {
    const seconds = Math.floor(context.clock.now().getTime() / 1000)
    last = await deliver({
      ...{url: new URL(config.url), body, allowed: allowed.ranges, resolve, signal: context.signal, timeout_ms: ONE_TRY_MS},
      headers: {'ingot-event': event, 'ingot-delivery': context.runId, 'ingot-signature': sign(key, seconds, body)},
    })
    context.output(`attempt ${attempt}: ${said(last)}\n`)
    if ('blocked' in last) return fail('HANDOFF_WEBHOOK_BLOCKED', last.blocked)
    if ('status' in last && last.status >= 200 && last.status < 300) {
      return {outcome: 'done', summary: {event, status: last.status, attempts: attempt, answer: oneLine(last.body, 500)}}
    }
    if ('status' in last && !mayPass(last.status)) return fail('HANDOFF_WEBHOOK_REFUSED', said(last))
    if (context.signal.aborted) return {outcome: 'aborted', at: `in attempt ${attempt}`, summary: {}}
    if (attempt === config.attempts) break
    await sleep(pause_ms, context.signal)
    if (context.signal.aborted) return {outcome: 'aborted', at: `after attempt ${attempt}: ${said(last)}`, summary: {}}
    pause_ms = Math.min(pause_ms * 2, LONGEST_PAUSE_MS)
  }
  return fail('HANDOFF_WEBHOOK_FAILED', `${config.attempts} attempts, the last: ${said(last)}`)
}

/** What may be otherwise in a moment: the receiver's own faults, and its wish for patience. */
function mayPass(status: number): boolean {
  return status >= 500 || status === 408 || status === 425 || status === 429
}

function said(delivery: Delivery): string {
  if ('blocked' in delivery) return `not sent: ${delivery.blocked}`
  if ('unreachable' in delivery) return `no answer: ${delivery.unreachable}`
  const moved = delivery.status >= 300 && delivery.status < 400 ? ' (redirects are not followed)' : ''
  return `answered ${delivery.status}${moved}: ${oneLine(delivery.body, 200)}`
}

function describe({machine}: RunContext) {
  const {id, name, address, sshHostKeys, facts, parameters} = machine
  return {id, name, address, ssh_host_keys: sshHostKeys, facts, parameters}
}

/** @returns the key, or what is wrong with it */
async function readKey(folder: string, name: string): Promise<Buffer | string> {
  const path = join(folder, `${name}.key`)
  try {
    const key = Buffer.from((await readFile(path, 'utf8')).trim())
    return key.length >= KEY_BYTES ? key : `${path} has fewer than ${KEY_BYTES} bytes`
  } catch (error) {
    return `${path} cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'failed'}`
  }
}

async function readAllowed(folder: string): Promise<ReturnType<typeof parseAllowed>> {
  try {
    return parseAllowed(await readFile(join(folder, 'allowed-networks'), 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {ranges: []}
    throw error
  }
}

function isUsable(text: string): boolean {
  const url = URL.parse(text)
  return url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '' && url.hostname !== ''
}

function fail(code: HandoffCauseCode, detail: string): KindOutcome {
  return {outcome: 'failed', cause: handoffCause(code, detail), summary: {}}
}
