/** Debian packages as build inputs, from the host's own apt sources: versions, downloads, contents. Nothing is installed on the host. */
import {mkdir, readdir} from 'node:fs/promises'
import {join} from 'node:path'
import {run, runText} from './run.ts'

export type PackageVersion = {readonly name: string; readonly version: string}

/** The versions apt would install now. Names without one are absent from the answer. */
export async function candidates(names: readonly string[]): Promise<readonly PackageVersion[]> {
  const text = await runText('apt-cache', ['policy', ...names])
  const found: PackageVersion[] = []
  let name: string | undefined
  for (const line of text.split('\n')) {
    const heading = /^(\S+):$/.exec(line)
    if (heading) name = heading[1]
    const version = /^ {2}Candidate: (\S+)$/.exec(line)?.[1]
    if (name && version && version !== '(none)') found.push({name, version})
  }
  return found
}

/** Like `candidates`, but a missing one is an error that says what to do. */
export async function requireCandidates(names: readonly string[]): Promise<readonly PackageVersion[]> {
  const found = await candidates(names)
  const missing = names.filter(name => !found.some(candidate => candidate.name === name))
  if (missing.length > 0)
    throw new Error(`apt knows no package ${missing.join(', ')}; run apt-get update, or add a source that has it`)
  return found
}

/** The real package behind a meta-package such as `linux-image-amd64`. */
export async function dependencyOf(meta: string, pattern: RegExp): Promise<string> {
  const text = await runText('apt-cache', ['depends', meta])
  for (const line of text.split('\n')) {
    const name = /^\s*\|?Depends: (\S+)$/.exec(line)?.[1]
    if (name && pattern.test(name)) return name
  }
  throw new Error(`${meta} depends on nothing that looks like ${pattern}; run apt-get update`)
}

/** Downloads into `folder` unless the very version is there, and returns the .deb's path. apt checks its digest against the signed index. */
export async function download(wanted: PackageVersion, folder: string): Promise<string> {
  await mkdir(folder, {recursive: true})
  const prefix = `${wanted.name}_${wanted.version.replaceAll(':', '%3a')}_`
  const existing = (await readdir(folder)).find(file => file.startsWith(prefix) && file.endsWith('.deb'))
  if (existing) return join(folder, existing)
  await run('apt-get', ['download', '-q', `${wanted.name}=${wanted.version}`], {cwd: folder})
  const fetched = (await readdir(folder)).find(file => file.startsWith(prefix) && file.endsWith('.deb'))
  if (!fetched) throw new Error(`apt-get download left no ${prefix}*.deb in ${folder}`)
  return join(folder, fetched)
}

/** Unpacks a .deb's files below `into`. */
export async function unpack(deb: string, into: string): Promise<void> {
  await mkdir(into, {recursive: true})
  await run('dpkg-deb', ['-x', deb, into])
}
