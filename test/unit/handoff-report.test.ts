import {describe, expect, test} from 'vitest'
import {judgeReport, readReport} from '../../services/handoff/kinds/ansible/report.ts'

const counts = (change: Record<string, number> = {}) => ({
  ...{ok: 1, changed: 0, failures: 0, unreachable: 0, skipped: 0, rescued: 0, ignored: 0},
  ...change,
})
const lines = (...events: unknown[]) => events.map(event => `${JSON.stringify(event)}\n`).join('')
const stats = (hosts: Record<string, Record<string, number>>) => ({event: 'stats', hosts})
const judge = (text: string, code: number | string | null = 0, said = '') => judgeReport(readReport(text), 'node1', code, said)

describe('judging a playbook', () => {
  test('is done when the machine was counted and nothing failed', () => {
    expect(judge(lines({event: 'task', task: 'a'}, stats({node1: counts({changed: 1})})))).toEqual({
      outcome: 'done',
      summary: {hosts: {node1: {ok: 1, changed: 1, failed: 0, unreachable: 0, skipped: 0, rescued: 0, ignored: 0}}},
    })
  })

  test.each([
    ['nothing was counted', lines(stats({})), 0, 'HANDOFF_PLAYBOOK'],
    ['only another host was counted', lines(stats({node2: counts()})), 0, 'HANDOFF_PLAYBOOK'],
    ['there is no count at all, though the tool is content', lines({event: 'task', task: 'a'}), 0, 'HANDOFF_FAILED'],
    ['it was killed', lines({event: 'task', task: 'a'}), 'SIGKILL', 'HANDOFF_FAILED'],
    ['the tool could not read it', '', 4, 'HANDOFF_PLAYBOOK'],
    ['the tool is not content, though the counts are', lines(stats({node1: counts()})), 1, 'HANDOFF_FAILED'],
    ['a task failed', lines(stats({node1: counts({failures: 1})})), 2, 'HANDOFF_FAILED'],
    ['another host failed', lines(stats({node1: counts(), node2: counts({failures: 1})})), 2, 'HANDOFF_FAILED'],
    ['the machine was lost', lines(stats({node1: counts({unreachable: 1})})), 4, 'HANDOFF_UNREACHABLE'],
  ])('has failed when %s', (_when, text, code, cause) => {
    expect(judge(text, code)).toMatchObject({outcome: 'failed', cause: {code: cause, detail: expect.stringMatching(/./)}})
  })

  test.each([
    ['Host key verification failed.', 'HANDOFF_HOST_KEY'],
    ['Permission denied (publickey).', 'HANDOFF_AUTH'],
    ['Connection timed out', 'HANDOFF_UNREACHABLE'],
  ])('a machine lost with %j has the cause %s', (message, cause) => {
    const text = lines({event: 'unreachable', host: 'node1', task: 'Ping', message}, stats({node1: counts({unreachable: 1})}))
    expect(judge(text, 4)).toMatchObject({cause: {code: cause, detail: `node1 was lost in task "Ping": ${message}`}})
  })

  test('names the last failure: an earlier one was rescued', () => {
    const failed = (task: string) => ({event: 'failed', host: 'node1', task, message: 'm\u001b\n'})
    const text = lines(failed('first'), failed('second'), stats({node1: counts({failures: 1, rescued: 1})}))
    expect(judge(text, 2)).toMatchObject({cause: {detail: 'node1 failed in task "second": m\\u{1b}'}})
  })

  test('says what the tool said when it could not begin', () => {
    expect(judge('', 4, "[WARNING]: x\nERROR! couldn't resolve module/action 'y'\n")).toMatchObject({
      cause: {detail: "ERROR! couldn't resolve module/action 'y'"},
    })
  })

  test('reads around lines that are broken or strange', () => {
    const text = `${lines({event: 'task', task: 'a'}, {event: 'other'}, 7, stats({node1: counts({ok: -1})}))}{"event":"ta`
    expect(readReport(text)).toEqual({task: 'a', ended: [], hosts: undefined})
  })
})
