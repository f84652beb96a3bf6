/** The OpenAPI 3.1 document, made from the routes' own schemas. */
import {z} from 'zod'
import {ERRORS} from '../../lib/errors.ts'
import type {Route} from './route.ts'

type Json = Record<string, unknown>

export function openApiDocument(routes: readonly Route[], version: string): Json {
  const definitions: Json = {}
  const paths: Record<string, Json> = {}
  for (const route of routes) {
    paths[route.path] = {...paths[route.path], [route.method]: operation(route, definitions)}
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Ingot',
      version,
      description: 'Bare-metal provisioning. Errors are RFC 9457 problem documents with a `mend`.',
      license: {name: 'Apache-2.0', identifier: 'Apache-2.0'},
    },
    servers: [{url: '/'}],
    security: [{token: []}],
    paths,
    components: {
      securitySchemes: {token: {type: 'http', scheme: 'bearer'}},
      responses: {
        Problem: {
          description: 'a problem: what went wrong, and what to do about it',
          content: {'application/problem+json': {schema: {$ref: '#/components/schemas/Problem'}}},
        },
      },
      schemas: {...definitions, Problem: problemSchema()},
    },
  }
}

function operation(route: Route, definitions: Json): Json {
  const problem = {content: {'application/problem+json': {schema: {$ref: '#/components/schemas/Problem'}}}}
  const answers = Object.entries(route.answers).map(([status, description]) => {
    if (Number(status) >= 400) return [status, {description, ...problem}]
    return [status, {description, ...(status === '204' ? {} : {content: {'application/json': {}}})}]
  })
  const id = operationId(route)
  return {
    operationId: id,
    tags: [route.path.split('/')[2] ?? 'ingot'],
    summary: route.summary,
    'x-permission': route.permission,
    parameters: [
      ...parametersOf(route.params, 'path', id, definitions),
      ...parametersOf(route.query, 'query', id, definitions),
      ...(route.changes
        ? [
            {
              name: 'Idempotency-Key',
              in: 'header',
              required: false,
              description: 'the same request again under the same key gets the same answer and changes nothing',
              schema: {type: 'string', minLength: 1, maxLength: 200},
            },
          ]
        : []),
    ],
    ...(route.body
      ? {requestBody: {required: true, content: {'application/json': {schema: schemaOf(route.body, id, definitions)}}}}
      : {}),
    ...(route.upload ? {requestBody: uploadBody(route.upload)} : {}),
    responses: {...Object.fromEntries(answers), default: {$ref: '#/components/responses/Problem'}},
  }
}

function uploadBody({type, mostBytes, description}: NonNullable<Route['upload']>): Json {
  const schema = {type: 'string', contentMediaType: type, maxLength: mostBytes}
  return {required: true, description, content: {[type]: {schema}}}
}

/** `GET /v1/machines/{id}/events` → `get_machines_id_events` */
function operationId(route: Route): string {
  return `${route.method}${route.path.replace(/^\/v1/, '').replace(/[{}]/g, '').replace(/[/-]/g, '_')}`
}

function parametersOf(schema: z.ZodObject | undefined, place: 'path' | 'query', id: string, definitions: Json) {
  if (!schema) return []
  const json = schemaOf(schema, id, definitions) as {properties?: Record<string, Json>; required?: string[]}
  return Object.entries(json.properties ?? {}).map(([name, {description, ...property}]) => ({
    name,
    in: place,
    required: place === 'path' || (json.required ?? []).includes(name),
    ...(description === undefined ? {} : {description}),
    schema: property,
  }))
}

/** Definitions that a schema refers to move to the components, under a name of their own. */
function schemaOf(schema: z.ZodType, id: string, definitions: Json): unknown {
  const json = z.toJSONSchema(schema, {io: 'input', unrepresentable: 'any'}) as Json
  const {$schema: _dialect, $defs, ...rest} = json
  const rename = (name: string) => `${id}_${name.replace(/\W/g, '')}`
  const text = (value: unknown) =>
    JSON.stringify(value, (key, held) =>
      key === '$ref' && typeof held === 'string' && held.startsWith('#/$defs/')
        ? `#/components/schemas/${rename(held.slice('#/$defs/'.length))}`
        : held,
    )
  for (const [name, definition] of Object.entries($defs ?? {})) definitions[rename(name)] = JSON.parse(text(definition))
  return JSON.parse(text(rest))
}

function problemSchema(): Json {
  return {
    type: 'object',
    required: ['type', 'title', 'status', 'code', 'detail', 'mend'],
    properties: {
      type: {type: 'string', format: 'uri'},
      title: {type: 'string'},
      status: {type: 'integer'},
      code: {type: 'string', enum: Object.keys(ERRORS)},
      detail: {type: 'string'},
      mend: {type: 'string'},
      request_id: {type: 'string'},
      errors: {
        type: 'array',
        items: {
          type: 'object',
          required: ['field', 'code', 'message'],
          properties: {field: {type: 'string'}, code: {type: 'string'}, message: {type: 'string'}},
        },
      },
    },
  }
}
