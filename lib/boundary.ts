/**
 * Where a process meets the world: every commit, every lone write, every order to a machine. A root may be handed something that stands
 * around each of them; that is how tests let a process die at any of them, or between two.
 *
 * Names say what is changed and not how often it came: `commit attempts+jobs`, `write workers`, `queue complete_job`, `power on`.
 */
import type {Client} from 'pg'

export type Boundary = <T>(name: string, work: () => Promise<T>) => Promise<T>

type Query = (...parameters: unknown[]) => unknown

/** Puts the boundary around whatever this connection makes durable. */
export function boundConnection(client: Pick<Client, 'query'>, boundary: Boundary): void {
  const query = client.query.bind(client) as Query
  let written: Set<string> | undefined
  Object.assign(client, {
    query(...parameters: unknown[]): unknown {
      const text = textOf(parameters[0])
      // Who brings a callback or an object of its own does not wait for a promise: LISTEN, and no write.
      if (text === undefined || typeof parameters.at(-1) === 'function') return query(...parameters)
      const word = /^\s*(\w+)/.exec(text)?.[1]?.toLowerCase() ?? ''
      if (word === 'begin' || word === 'start') written = new Set()
      if (word === 'rollback') written = undefined
      if (word === 'commit') {
        const tables = written
        written = undefined
        if (!tables?.size) return query(...parameters)
        return boundary(`commit ${[...tables].toSorted().join('+')}`, async () => await query(...parameters))
      }
      const changes = changesOf(text)
      if (changes.length === 0) return query(...parameters)
      if (!written) return boundary(nameOf(changes), async () => await query(...parameters))
      for (const change of changes) written.add(change)
      return query(...parameters)
    },
  })
}

function nameOf(changes: readonly string[]): string {
  const [first = ''] = changes
  return first.startsWith('queue ') ? first : `write ${changes.join('+')}`
}

function textOf(query: unknown): string | undefined {
  if (typeof query === 'string') return query
  const text = typeof query === 'object' && query !== null && 'text' in query ? query.text : undefined
  return typeof text === 'string' ? text : undefined
}

/** The tables that a statement writes, and the queue's functions that it calls. */
function changesOf(text: string): string[] {
  const found = new Set<string>()
  for (const match of text.matchAll(/\b(?:insert\s+into|update|delete\s+from)\s+((?:"?\w+"?\.)?"?\w+"?)/gi)) {
    const table = (match[1] ?? '').replaceAll('"', '')
    // `FOR UPDATE` and `DO UPDATE SET` name no table.
    if (!/^(set|of|nowait|skip)$/i.test(table))
      found.add(table.includes('graphile_worker') ? `queue ${table.split('.')[1]}` : table)
  }
  for (const match of text.matchAll(/\bgraphile_worker"?\.(\w+)\s*\(/g)) found.add(`queue ${match[1]}`)
  return [...found]
}
