/** Serves an artefact's bytes with one-part ranges (RFC 9110 §14). The caller found the entry by name or digest in the manifest. */
import type {IncomingMessage, ServerResponse} from 'node:http'
import {pipeline} from 'node:stream/promises'
import {type Artefacts, parseRange} from '../artefacts/index.ts'

export async function serveArtefact(
  artefacts: Artefacts,
  sha256: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const open = await artefacts.open(sha256)
  try {
    const size = open.artefact.size_bytes
    const range = parseRange(request.headers.range, size)
    const headers = {
      'content-type': 'application/octet-stream',
      'accept-ranges': 'bytes',
      etag: `"${sha256}"`,
      'cache-control': 'public, max-age=31536000, immutable',
    }
    if (range === 'unsatisfiable') {
      response.writeHead(416, {...headers, 'content-range': `bytes */${size}`}).end()
      return
    }
    const part = range === 'whole' ? {start: 0, end: size - 1} : range
    response.writeHead(range === 'whole' ? 200 : 206, {
      ...headers,
      'content-length': part.end - part.start + 1,
      ...(range === 'whole' ? {} : {'content-range': `bytes ${part.start}-${part.end}/${size}`}),
    })
    if (request.method === 'HEAD' || size === 0) response.end()
    else await pipeline(open.stream(part), response)
  } catch (error) {
    // A client that went away mid-transfer is ordinary; anything else is the caller's to log.
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
  } finally {
    await open.close()
  }
}
