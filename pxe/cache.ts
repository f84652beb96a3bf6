/** Build results by the hash of their inputs: built once, in a folder of their own that appears whole or not at all. */
import {createHash} from 'node:crypto'
import {cp, mkdir, readdir, readFile, rename, rm, stat, writeFile} from 'node:fs/promises'
import {join} from 'node:path'
import {sleep} from '../lib/clock.ts'

const DAY_MS = 86_400_000

/** A short key over texts and whole source folders: same inputs, same key. */
export async function inputKey(texts: readonly string[], paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256')
  for (const text of texts) hash.update(`${text.length}:${text}`)
  for (const path of paths) await addPath(hash, path)
  return hash.digest('hex').slice(0, 24)
}

/** The folder of `key`, built by `build` in a scratch folder if it is not there yet. Other processes building the same wait for it. */
export async function cached(
  cacheDir: string,
  name: string,
  key: string,
  build: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(cacheDir, `${name}-${key}`)
  if (await exists(folder)) return folder
  await mkdir(cacheDir, {recursive: true})
  return withLock(`${folder}.lock`, async () => {
    if (await exists(folder)) return folder
    const scratch = `${folder}.building`
    await rm(scratch, {recursive: true, force: true})
    await mkdir(scratch, {recursive: true})
    try {
      await build(scratch)
      await rename(scratch, folder)
    } finally {
      await rm(scratch, {recursive: true, force: true})
    }
    return folder
  })
}

/** Copies a finished folder to where it is wanted, unless `stampFile` there says that it is the same already. */
export async function publish(from: string, to: string, stampFile: string): Promise<void> {
  const [wanted, present] = await Promise.all([
    readFile(join(from, stampFile)),
    readFile(join(to, stampFile)).catch(() => undefined),
  ])
  if (present && wanted.equals(present) && (await sameSizes(from, to))) return
  const scratch = `${to}.${process.pid}.new`
  await rm(scratch, {recursive: true, force: true})
  await cp(from, scratch, {recursive: true, mode: 2}) // 2: copy-on-write where the file system can (COPYFILE_FICLONE)
  await rm(to, {recursive: true, force: true})
  await rename(scratch, to)
}

/** Removes other results of the same name that are more than a day old; a younger one may be another process's, just being copied. */
export async function forgetOthers(cacheDir: string, name: string, keep: string): Promise<void> {
  const pattern = new RegExp(`^${name}-[0-9a-f]{24}$`)
  for (const entry of await readdir(cacheDir)) {
    if (!pattern.test(entry) || entry === `${name}-${keep}`) continue
    const path = join(cacheDir, entry)
    if (Date.now() - (await stat(path)).mtimeMs > DAY_MS) await rm(path, {recursive: true, force: true})
  }
}

async function addPath(hash: ReturnType<typeof createHash>, path: string): Promise<void> {
  if ((await stat(path)).isDirectory()) {
    for (const entry of (await readdir(path)).sort()) {
      hash.update(`/${entry}`)
      await addPath(hash, join(path, entry))
    }
  } else {
    const data = await readFile(path)
    hash.update(`${data.length}:`).update(data)
  }
}

async function sameSizes(from: string, to: string): Promise<boolean> {
  for (const name of await readdir(from)) {
    const [a, b] = await Promise.all([stat(join(from, name)), stat(join(to, name)).catch(() => undefined)])
    if (a.size !== b?.size) return false
  }
  return true
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/** One process at a time. A lock whose owner is dead is taken over. */
async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  for (;;) {
    const taken = await writeFile(path, String(process.pid), {flag: 'wx'}).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error
        return false
      },
    )
    if (taken) break
    const owner = Number(await readFile(path, 'utf8').catch(() => '0'))
    if (owner > 0 && !(await exists(`/proc/${owner}`))) await rm(path, {force: true})
    else await sleep(500)
  }
  try {
    return await work()
  } finally {
    await rm(path, {force: true})
  }
}
