/** The OpenAPI document is what OpenAPI 3.1 asks for, and says of every route what the server does with it. */
import {describe, expect, it} from 'vitest'
import {openApiDocument} from '../../services/api/openapi.ts'
import {ROUTES} from '../../services/api/routes/registry.ts'

type Json = Record<string, unknown>
type Parameter = {name: string; in: string; required: boolean; schema: Json}
type Operation = {
  operationId: string
  summary: string
  parameters: Parameter[]
  responses: Record<string, Json>
  requestBody?: {content: Record<string, {schema: Json}>}
}

const document = JSON.parse(JSON.stringify(openApiDocument(ROUTES, '1.2.3'))) as {
  openapi: string
  info: Json
  paths: Record<string, Record<string, Operation>>
  components: {schemas: Record<string, Json>; securitySchemes: Json}
  security: Json[]
}
const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({path, method, operation})),
)

/** Every object in a document, with where it stands. */
function* walk(value: unknown, at = '#'): Generator<{at: string; held: Json}> {
  if (typeof value !== 'object' || value === null) return
  yield {at, held: value as Json}
  for (const [key, held] of Object.entries(value)) yield* walk(held, `${at}/${key}`)
}

function resolve(reference: string): unknown {
  return reference
    .slice(2)
    .split('/')
    .reduce<unknown>((value, key) => (value as Json | undefined)?.[key.replaceAll('~1', '/').replaceAll('~0', '~')], document)
}

describe('the OpenAPI document', () => {
  it('names its version, title and security', () => {
    expect(document).toMatchObject({openapi: '3.1.0', info: {title: 'Ingot', version: '1.2.3'}, security: [{token: []}]})
    expect(document.components.securitySchemes).toHaveProperty('token')
    const known = [
      'openapi',
      'info',
      'jsonSchemaDialect',
      'servers',
      'paths',
      'webhooks',
      'components',
      'security',
      'tags',
      'externalDocs',
    ]
    expect(Object.keys(document).filter(key => !known.includes(key))).toEqual([])
  })

  it('has every route of the registry, and no other', () => {
    const wanted = ROUTES.map(route => `${route.method} ${route.path}`).toSorted()
    expect(operations.map(({method, path}) => `${method} ${path}`).toSorted()).toEqual(wanted)
    expect(new Set(wanted).size).toBe(wanted.length)
  })

  it('resolves every reference', () => {
    const references = [...walk(document)].flatMap(({at, held}) =>
      typeof held.$ref === 'string' ? [{at, reference: held.$ref}] : [],
    )
    expect(references.length).toBeGreaterThan(10)
    expect(references.filter(({reference}) => !reference.startsWith('#/') || resolve(reference) === undefined)).toEqual([])
    expect([...walk(document)].filter(({held}) => '$defs' in held)).toEqual([])
  })

  it('has one id for each operation, made of letters, digits and underscores', () => {
    const ids = operations.map(({operation}) => operation.operationId)
    expect(new Set(ids).size).toBe(ids.length)
    for (const id of ids) expect(id).toMatch(/^[a-z][a-z0-9_]*$/)
  })

  it.each(operations)('$method $path declares its path parameters and describes its answers', ({path, operation}) => {
    const declared = operation.parameters.filter(parameter => parameter.in === 'path')
    expect(declared.map(parameter => parameter.name).toSorted()).toEqual(
      [...path.matchAll(/\{(\w+)\}/g)].map(match => match[1]).toSorted(),
    )
    for (const parameter of operation.parameters) {
      expect(['path', 'query', 'header']).toContain(parameter.in)
      if (parameter.in === 'path') expect(parameter.required).toBe(true)
      expect(Object.keys(parameter.schema), `${parameter.name} has a schema that says something`).not.toEqual([])
    }
    const named = operation.parameters.map(parameter => `${parameter.in} ${parameter.name}`)
    expect(new Set(named).size).toBe(named.length)
    expect(operation.responses.default).toEqual({$ref: '#/components/responses/Problem'})
    for (const [status, answer] of Object.entries(operation.responses)) {
      expect(status).toMatch(/^([1-5]\d\d|default)$/)
      if (status !== 'default') expect(answer.description).toEqual(expect.stringMatching(/\w/))
    }
    expect(operation.summary).toMatch(/^[A-Z]/)
  })

  it('writes every schema in words of JSON Schema', () => {
    const types = ['null', 'boolean', 'object', 'array', 'number', 'string', 'integer']
    for (const {operation, path} of operations) {
      const schemas = [
        ...operation.parameters.map(parameter => parameter.schema),
        operation.requestBody?.content['application/json']?.schema,
      ]
      for (const {at, held} of schemas.flatMap(schema => [...walk(schema)])) {
        if (at.endsWith('/properties') || at.endsWith('/default')) continue
        if (typeof held.type === 'string') expect(types, `${path} ${at}`).toContain(held.type)
        if (typeof held.pattern === 'string') expect(() => new RegExp(String(held.pattern), 'u'), `${path} ${at}`).not.toThrow()
      }
    }
  })

  it('gives a change its Idempotency-Key, and nothing else one', () => {
    for (const route of ROUTES) {
      const {parameters} = document.paths[route.path]![route.method]!
      expect(parameters.some(parameter => parameter.name === 'Idempotency-Key')).toBe(route.changes)
      expect(route.changes, `${route.method} ${route.path}`).toBe(route.method !== 'get' && !route.upload)
    }
  })

  it('says of a file how large it may be and of what kind', () => {
    const {requestBody} = document.paths['/v1/explain/capture']!.post!
    const type = 'application/vnd.tcpdump.pcap'
    expect(requestBody?.content).toEqual({[type]: {schema: {type: 'string', contentMediaType: type, maxLength: 8 * 1024 * 1024}}})
  })

  it('lets nobody change anything with `view`', () => {
    expect(ROUTES.filter(route => route.changes && route.permission === 'view').map(route => route.path)).toEqual([])
  })
})
