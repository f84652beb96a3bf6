/** Where the project lies, and which version it is. */
import {readFileSync} from 'node:fs'
import {join, resolve} from 'node:path'

export const PROJECT_ROOT = resolve(import.meta.dirname, '..', '..')

export function readVersion(): string {
  const {version} = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as {version: string}
  return version
}
