/** Chooses kernel modules: the listed ones and everything they depend on. Pure but for reading `modules.dep`. */
import {readFile} from 'node:fs/promises'
import {join} from 'node:path'

/** Module names of `modules.list`: words, with `#` comments. */
export function parseModuleList(text: string): readonly string[] {
  return text
    .split('\n')
    .flatMap(line => line.replace(/#.*/, '').split(/\s+/))
    .filter(word => word !== '')
}

/** `modules.dep`: each module's file and the files of all its dependencies. */
export function parseDependencies(text: string): ReadonlyMap<string, readonly string[]> {
  const files = new Map<string, readonly string[]>()
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':')
    if (colon < 0) continue
    const file = line.slice(0, colon)
    files.set(moduleName(file), [
      file,
      ...line
        .slice(colon + 1)
        .split(' ')
        .filter(Boolean),
    ])
  }
  return files
}

/**
 * Files to copy, sorted. Built-in modules need none.
 *
 * @throws when a listed module exists nowhere: a typing error, or a kernel that dropped it
 */
export async function chooseModules(modulesDir: string, wanted: readonly string[]): Promise<readonly string[]> {
  const [dependencies, builtin] = await Promise.all([
    readFile(join(modulesDir, 'modules.dep'), 'utf8').then(parseDependencies),
    readFile(join(modulesDir, 'modules.builtin'), 'utf8').then(text => new Set(text.split('\n').filter(Boolean).map(moduleName))),
  ])
  const unknown = wanted.filter(name => !dependencies.has(moduleName(name)) && !builtin.has(moduleName(name)))
  if (unknown.length > 0) throw new Error(`the kernel has no module ${unknown.join(', ')}`)
  return [...new Set(wanted.flatMap(name => dependencies.get(moduleName(name)) ?? []))].sort()
}

/** `kernel/drivers/char/hw_random/virtio-rng.ko` → `virtio_rng`. */
function moduleName(file: string): string {
  return file
    .slice(file.lastIndexOf('/') + 1)
    .replace(/\.ko$/, '')
    .replaceAll('-', '_')
}
