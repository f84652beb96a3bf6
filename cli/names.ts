/** What people call machines and prefixes, by their ids: asked for once each, and the id's beginning where nobody knows. */
import {ApiProblem, type Client} from './client.ts'
import type {Page} from './shapes.ts'

export type Names = (id: string | null) => Promise<string | null>

export function machineNames(client: Client): Names {
  const known = new Map<string, Promise<string>>()
  return async id => {
    if (id === null) return null
    const name = known.get(id) ?? nameOf(client, id)
    known.set(id, name)
    return await name
  }
}

export async function prefixNames(client: Client): Promise<Names> {
  const {items} = await client.get<Page<{id: string; cidr: string}>>('/v1/prefixes')
  const known = new Map(items.map(prefix => [prefix.id, prefix.cidr]))
  return async id => (id === null ? null : (known.get(id) ?? id.slice(0, 8)))
}

async function nameOf(client: Client, id: string): Promise<string> {
  try {
    return (await client.get<{name: string}>(`/v1/machines/${encodeURIComponent(id)}`)).name
  } catch (error) {
    if (error instanceof ApiProblem) return id.slice(0, 8)
    throw error
  }
}
