/**
 * Contents: files named by their own SHA-256. A name from outside never becomes part of a path here, only a digest out of the manifest,
 * and a symbolic link in the place of a content is refused.
 */
import {createHash, randomBytes} from 'node:crypto'
import {constants} from 'node:fs'
import {type FileHandle, open, rename, rm} from 'node:fs/promises'
import {join} from 'node:path'
import type {Readable} from 'node:stream'
import {IngotError, messageOf} from '../../lib/errors.ts'
import type {Artefact} from './manifest.ts'
import {isSha256} from './names.ts'
import type {ByteRange} from './range.ts'

const COPY_BYTES = 1024 * 1024
const READ_BYTES = 256 * 1024

/** An open content; close it. */
export type OpenArtefact = {
  readonly artefact: Artefact
  readonly handle: FileHandle
  /** Both ends included. The stream does not close the handle. */
  stream(range?: ByteRange): Readable
  close(): Promise<void>
}

/** Bytes copied into the directory under a passing name, waiting for their place. */
export type StagedContent = {readonly path: string; readonly sha256: string; readonly sizeBytes: number}

export function contentPath(dir: string, sha256: string): string {
  if (!isSha256(sha256)) throw new Error('a content is named by its SHA-256')
  return join(dir, sha256)
}

/**
 * Copies a file into `dir` and hashes it on the way, so the digest is of the bytes that were stored. Synced to disk.
 * @throws IngotError ARTEFACT_MISSING, STORAGE_FULL
 */
export async function stageContent(dir: string, sourcePath: string): Promise<StagedContent> {
  const path = join(dir, `.content.${process.pid}.${randomBytes(8).toString('hex')}.part`)
  const source = await openRegular(sourcePath)
  try {
    const target = await open(path, 'wx', 0o644)
    try {
      const digest = await copyAndHash(source, target)
      await target.chmod(0o644)
      await target.sync()
      return {path, ...digest}
    } finally {
      await target.close()
    }
  } catch (error) {
    await rm(path, {force: true})
    throw storageError(error, sourcePath)
  } finally {
    await source.close()
  }
}

/** Gives staged bytes their place. What is there already has the same digest, and is replaced all the same: it may have been damaged. */
export async function placeContent(dir: string, staged: StagedContent): Promise<void> {
  await rename(staged.path, contentPath(dir, staged.sha256))
}

/** @throws IngotError ARTEFACT_MISSING when the file is gone, is not a regular file, or has another size */
export async function openContent(dir: string, artefact: Artefact): Promise<OpenArtefact> {
  const handle = await openRegular(contentPath(dir, artefact.sha256), artefact)
  return {
    artefact,
    handle,
    stream: range =>
      handle.createReadStream({
        autoClose: false,
        highWaterMark: READ_BYTES,
        start: range?.start ?? 0,
        ...(range ? {end: range.end} : {}),
      }),
    close: () => handle.close(),
  }
}

/** Hashes a stored content again. */
export async function hashContent(dir: string, artefact: Artefact): Promise<string> {
  const opened = await openContent(dir, artefact)
  try {
    return (await copyAndHash(opened.handle, undefined)).sha256
  } finally {
    await opened.close()
  }
}

async function openRegular(path: string, expected?: Artefact): Promise<FileHandle> {
  const what = expected ? `${expected.name} (${expected.sha256})` : path
  let handle: FileHandle
  try {
    // O_NONBLOCK: a named pipe must not hang the caller before it is refused.
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    throw new IngotError('ARTEFACT_MISSING', `${what} cannot be opened: ${messageOf(error)}`, {cause: error})
  }
  const stat = await handle.stat()
  const wrong = !stat.isFile()
    ? 'is not a regular file'
    : expected && stat.size !== expected.size_bytes
      ? `has ${stat.size} bytes instead of ${expected.size_bytes}`
      : undefined
  if (!wrong) return handle
  await handle.close()
  throw new IngotError('ARTEFACT_MISSING', `${what} ${wrong}`)
}

async function copyAndHash(source: FileHandle, target: FileHandle | undefined): Promise<{sha256: string; sizeBytes: number}> {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(COPY_BYTES)
  let sizeBytes = 0
  for (;;) {
    const {bytesRead} = await source.read(buffer, 0, COPY_BYTES, sizeBytes)
    if (bytesRead === 0) return {sha256: hash.digest('hex'), sizeBytes}
    const piece = buffer.subarray(0, bytesRead)
    hash.update(piece)
    await target?.writeFile(piece)
    sizeBytes += bytesRead
  }
}

function storageError(error: unknown, sourcePath: string): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error
  return new IngotError('STORAGE_FULL', `no space for a copy of ${sourcePath}`, {cause: error})
}
