/**
 * A share of `npm run torture`: real `ingot serve` over real packets, with simulated machines, under faults that tests in one process
 * cannot inject. One run of the command; each test looks at its part of the report.
 */
import {spawn} from 'node:child_process'
import {join} from 'node:path'
import {beforeAll, expect, it} from 'vitest'
import type {TortureReport} from '../../sim/torture-report.ts'

const TORTURE = join(import.meta.dirname, '..', '..', 'sim', 'torture.ts')
const SEED = 20
const FAULTS = ['F1b', 'F4', 'F8', 'F18']

let report: TortureReport
let story = ''

beforeAll(async () => {
  const args = [TORTURE, '--seed', String(SEED), '--machines', '8', '--only', FAULTS.join(','), '--json']
  const child = spawn(process.execPath, args, {stdio: ['ignore', 'pipe', 'pipe']})
  let said = ''
  child.stdout.on('data', chunk => {
    said += chunk
  })
  child.stderr.on('data', chunk => {
    story += chunk
  })
  await new Promise(resolve => child.once('close', resolve))
  const last = said.trim().split('\n').at(-1) ?? ''
  if (!last.startsWith('{')) throw new Error(`torture did not come to an end:\n${story}`)
  report = JSON.parse(last) as TortureReport
})

const round = (start: string) => {
  const found = report.rounds.find(({scenario}) => scenario.startsWith(`${start} `))
  if (!found) throw new Error(`there was no round of ${start}:\n${story}`)
  return found
}

it('F1 takes every job to its end although control and wire are killed before and after commits and power orders', () => {
  const {failure, violations, facts} = round('F1b')
  expect({failure, violations}, story).toEqual({failure: null, violations: []})
  expect(facts.deaths).toBeGreaterThan(0)
})

it('F4 answers 507 to writes while the disk is full, goes on with reads and renewals, and heals by itself', () => {
  const {failure, violations, facts} = round('F4')
  expect({failure, violations}, story).toEqual({failure: null, violations: []})
  expect(facts.answers_507).toBeGreaterThan(0)
})

it('F8 finds out by evidence that a BMC says on while the machine is off, tries at most three times, and names the cause', () => {
  const {failure, violations, facts} = round('F8')
  expect({failure, violations}, story).toEqual({failure: null, violations: []})
  expect(facts.causes).toMatch(/NO_DHCP|POWER_/)
})

it('F18 brings all machines to a result when they come at once and a third of them fails', () => {
  const {failure, violations, facts} = round('F18')
  expect({failure, violations}, story).toEqual({failure: null, violations: []})
  expect(facts.jobs).toBe(8)
})
