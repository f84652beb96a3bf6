/** Waits until an SSH server speaks: a TCP connection on which its version line arrives (RFC 4253 §4.2). Costs no key exchange. */
import {connect} from 'node:net'
import {type Clock, sleep} from '../../lib/clock.ts'

const NO_ANSWER = 'no answer'
const ATTEMPT_MS = 10_000
const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 2000
/** A server may send other lines before its version; this much of them is read. */
const PREAMBLE_BYTES = 8192

type Where = {readonly address: string; readonly port: number}
export type BannerAnswer = {readonly answers: true} | {readonly answers: false; readonly because: string}

/**
 * Tries again until something speaks SSH, `deadlineMs` (monotonic) passes or `signal` aborts. A refused connection answers at once
 * and says nothing about when the server will be there, hence the growing pauses.
 */
export async function waitForSsh(where: Where & {deadlineMs: number; clock: Clock; signal: AbortSignal}): Promise<BannerAnswer> {
  let because: string | undefined
  for (let pause_ms = FIRST_PAUSE_MS; ; pause_ms = Math.min(2 * pause_ms, LONGEST_PAUSE_MS)) {
    const left_ms = where.deadlineMs - where.clock.monotonicMs()
    const answer = await readBanner(where, Math.max(1, Math.min(ATTEMPT_MS, left_ms)), where.signal)
    if (answer.answers || where.signal.aborted) return answer
    // The last attempt may be cut too short to learn anything; what an earlier one met says more.
    if (because === undefined || answer.because !== NO_ANSWER || left_ms >= ATTEMPT_MS) because = answer.because
    const rest_ms = where.deadlineMs - where.clock.monotonicMs()
    if (rest_ms <= 0) return {answers: false, because}
    await sleep(Math.min(pause_ms, rest_ms), where.signal)
  }
}

function readBanner(where: Where, timeout_ms: number, signal: AbortSignal): Promise<BannerAnswer> {
  return new Promise(resolve => {
    let heard = ''
    const socket = connect({host: where.address, port: where.port})
    const timer = setTimeout(() => finish(NO_ANSWER), timeout_ms)
    const onAbort = () => finish('stopped')
    const finish = (because?: string) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      resolve(because === undefined ? {answers: true} : {answers: false, because})
    }
    socket.on('data', chunk => {
      heard += chunk.toString('latin1')
      if (/(^|\n)SSH-(2\.0|1\.99)-[^\n]*\n/.test(heard)) finish()
      else if (heard.length > PREAMBLE_BYTES) finish('what answers does not speak SSH')
    })
    socket.once('error', error => finish((error as NodeJS.ErrnoException).code ?? 'error'))
    socket.once('end', () => finish(heard === '' ? 'the connection was closed' : 'what answers does not speak SSH'))
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, {once: true})
  })
}
