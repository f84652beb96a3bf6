/**
 * PostgreSQL's COPY as streams, over `pg`, which knows the messages but has no calls for them. With backpressure both ways: a table
 * larger than memory passes through.
 */
import type {Duplex} from 'node:stream'
import type pg from 'pg'

/** What pg gives a query object to write to; its published types leave COPY out. */
type CopyConnection = {
  readonly stream: Duplex
  query(text: string): void
  sendCopyFromChunk(chunk: Uint8Array): void
  endCopyFrom(): void
  sendCopyFail(reason: string): void
}

const QUEUE_LIMIT_BYTES = 1024 * 1024

/** Rows of `COPY … TO STDOUT`, in pieces of one row each. The client must be used for nothing else meanwhile. */
export async function* copyOut(client: pg.ClientBase, statement: string): AsyncGenerator<Buffer> {
  const queue: Buffer[] = []
  let queuedBytes = 0
  let connection: CopyConnection | undefined
  let ended = false
  let failure: unknown
  let wake = Promise.withResolvers<void>()
  const finish = (error?: unknown) => {
    failure ??= error
    ended = true
    wake.resolve()
  }
  client.query({
    submit(given: unknown) {
      connection = given as CopyConnection
      connection.query(statement)
    },
    handleCopyData({chunk}: {chunk: Buffer}) {
      // pg's parser uses its buffer again.
      queue.push(Buffer.from(chunk))
      queuedBytes += chunk.length
      if (queuedBytes > QUEUE_LIMIT_BYTES) connection?.stream.pause()
      wake.resolve()
    },
    handleCommandComplete: () => undefined,
    handleReadyForQuery: () => finish(),
    handleError: finish,
  })
  while (!ended || queue.length > 0) {
    if (queue.length === 0) {
      connection?.stream.resume()
      await wake.promise
      wake = Promise.withResolvers<void>()
      continue
    }
    const ready = queue.splice(0)
    queuedBytes = 0
    yield* ready
  }
  if (failure !== undefined) throw failure
}

/** Feeds `COPY … FROM STDIN`. When `source` throws, the server drops what it got and the error passes on. Returns the rows copied. */
export function copyIn(client: pg.ClientBase, statement: string, source: AsyncIterable<Uint8Array>): Promise<number> {
  return new Promise((resolve, reject) => {
    let rows = 0
    let sourceError: unknown
    client.query({
      submit: (connection: unknown) => (connection as CopyConnection).query(statement),
      handleCopyInResponse(connection: CopyConnection) {
        feed(connection, source).catch(error => {
          sourceError = error
          connection.sendCopyFail('the source failed')
        })
      },
      handleCommandComplete({text}: {text: string}) {
        rows = Number(text.split(' ')[1])
      },
      handleReadyForQuery: () => resolve(rows),
      handleError: (error: unknown) => reject(sourceError ?? error),
    })
  })
}

async function feed(connection: CopyConnection, source: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const chunk of source) {
    connection.sendCopyFromChunk(chunk)
    if (connection.stream.writableNeedDrain) await drained(connection.stream)
  }
  connection.endCopyFrom()
}

function drained(stream: Duplex): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error) => {
      stream.off('drain', done)
      stream.off('close', closed)
      if (error) reject(error)
      else resolve()
    }
    const closed = () => done(new Error('the connection was lost'))
    stream.once('drain', () => done())
    stream.once('close', closed)
  })
}
