import {execFileSync} from 'node:child_process'
import {mkdtempSync, readFileSync, rmSync, statSync, writeFileSync} from 'node:fs'
import {tmpdir} from 'node:os'
import {join} from 'node:path'
import {expect, it} from 'vitest'
import {writeTar} from '../../lib/tar.ts'

it('writes what the system’s tar unpacks with the same names, modes and bytes', () => {
  const dir = mkdtempSync(join(tmpdir(), 'ingot-tar-'))
  try {
    const files = [
      {path: 'root/.ssh/', mode: 0o700, body: ''},
      {path: 'root/.ssh/authorized_keys', mode: 0o600, body: 'key\n'},
      {path: 'etc/big', mode: 0o644, body: 'x'.repeat(70_000)},
      {path: 'etc/empty', mode: 0o755, body: ''},
      {path: 'etc/aligned', mode: 0o644, body: 'y'.repeat(512)},
    ]
    writeFileSync(join(dir, 'a.tar'), writeTar(files))
    execFileSync('tar', ['-xpf', join(dir, 'a.tar'), '-C', dir])
    for (const file of files) {
      expect(statSync(join(dir, file.path)).mode & 0o777, file.path).toBe(file.mode)
      if (!file.path.endsWith('/')) expect(readFileSync(join(dir, file.path), 'utf8')).toBe(file.body)
    }
  } finally {
    rmSync(dir, {recursive: true})
  }
})

it('gives the same bytes for the same files', () => {
  const files = [{path: 'a', mode: 0o644, body: 'b'}]
  expect(Buffer.from(writeTar(files)).equals(Buffer.from(writeTar(files)))).toBe(true)
})

it('refuses a name that does not fit rather than cutting it', () => {
  expect(() => writeTar([{path: 'x'.repeat(101), mode: 0o644, body: ''}])).toThrow(/longer/)
})
