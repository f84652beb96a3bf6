/** `ingot.json`: defaults, what overrides what, and errors that name the field. */
import {mkdtempSync, readFileSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {inspect} from 'node:util'
import {afterEach, expect, it} from 'vitest'
import {loadConfig, parseEndpoint, parseServices, saveConfigFile} from '../../lib/config.ts'
import {IngotError} from '../../lib/errors.ts'

const folders: string[] = []

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, {recursive: true, force: true})
})

it('without a file serves no interface, the API to this host only, and the embedded database', () => {
  expect(loadConfig({state: makeState(), env: {}})).toMatchObject({
    databaseUrl: undefined,
    interfaces: [],
    boot: {listen: {host: '0.0.0.0', port: 8480}},
    api: {listen: {host: '127.0.0.1', port: 8481}},
    services: ['dhcpd', 'tftpd', 'boot', 'api', 'worker'],
  })
})

it('takes the state directory from the option before INGOT_STATE, and DATABASE_URL before the file', () => {
  const state = makeState({database_url: 'postgresql://file/x'})
  const env = {INGOT_STATE: '/elsewhere', DATABASE_URL: 'postgresql://environment/x'}
  expect(loadConfig({state, env})).toMatchObject({stateDir: state})
  expect(loadConfig({env: {INGOT_STATE: state}}).stateDir).toBe(state)
  expect(loadConfig({state, env}).databaseUrl?.reveal()).toBe('postgresql://environment/x')
  expect(loadConfig({state, env: {}}).databaseUrl?.reveal()).toBe('postgresql://file/x')
})

it('takes the sealing key from where systemd put it, unless the file names another', () => {
  const env = {CREDENTIALS_DIRECTORY: '/run/credentials/ingot.service'}
  expect(loadConfig({state: makeState(), env}).sealingKeyFile).toBe('/run/credentials/ingot.service/ingot-sealing-key')
  expect(loadConfig({state: makeState({sealing_key_file: '/etc/key'}), env}).sealingKeyFile).toBe('/etc/key')
})

it('names every wrong field at once, and for an unknown one those that exist', () => {
  const state = makeState({
    retention: 3,
    boot: {listen: 'localhost:8480'},
    interfaces: [{name: 'eth0'}, {name: 'far too long a name'}],
    services: ['dhcp'],
  })
  const error = failure(() => loadConfig({state, env: {}}))
  expect(error.code).toBe('INVALID_INPUT')
  expect(error.errors?.map(({field}) => field).sort()).toEqual(['', 'boot.listen', 'interfaces.1.name', 'services.0'])
  expect(error.detail).toContain('retention_days')
  expect(error.detail).toContain(join(state, 'ingot.json'))
})

it('says where a file stops being JSON without quoting it', () => {
  const state = makeState()
  writeFileSync(join(state, 'ingot.json'), '{\n  "database_url": "postgresql://u:hidden@h/x" oops\n}')
  const error = failure(() => loadConfig({state, env: {}}))
  expect(error.detail).toMatch(/line 2/)
  expect(error.message + inspect(error)).not.toContain('hidden')
})

it('does not print the database URL', () => {
  const config = loadConfig({state: makeState(), env: {DATABASE_URL: 'postgresql://u:hidden@h/x'}})
  expect(inspect(config, {depth: 9}) + JSON.stringify(config)).not.toContain('hidden')
})

it('saves a file that only its owner reads and that loads again, and refuses to save a wrong one', () => {
  const state = makeState()
  const path = saveConfigFile(state, {interfaces: [{name: 'eth1'}]})
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(loadConfig({state, env: {}}).interfaces).toEqual([{name: 'eth1'}])
  const before = readFileSync(path, 'utf8')
  expect(failure(() => saveConfigFile(state, {workers: 0})).code).toBe('INVALID_INPUT')
  expect(readFileSync(path, 'utf8')).toBe(before)
})

it('reads addresses with a port, never names', () => {
  expect(parseEndpoint('0.0.0.0:8480')).toEqual({host: '0.0.0.0', port: 8480})
  expect(parseEndpoint('[::1]:1')).toEqual({host: '::1', port: 1})
  for (const wrong of ['localhost:1', '1.2.3.4', '1.2.3.4:0', '1.2.3.4:65536', '::1:80', '1.2.3:80', ':80', '']) {
    expect(parseEndpoint(wrong)).toBeUndefined()
  }
})

it('reads a list of services in any order, and names the one that does not exist', () => {
  expect(parseServices('worker, dhcpd')).toEqual(['dhcpd', 'worker'])
  expect(failure(() => parseServices('dhcpd,tftp')).detail).toContain('"tftp"')
  expect(failure(() => parseServices('')).code).toBe('INVALID_INPUT')
})

function makeState(file?: object): string {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-config-'))
  folders.push(folder)
  if (file) writeFileSync(join(folder, 'ingot.json'), JSON.stringify(file))
  return folder
}

function failure(work: () => unknown): IngotError {
  try {
    work()
  } catch (error) {
    if (error instanceof IngotError) return error
    throw error
  }
  throw new Error('it did not fail')
}
