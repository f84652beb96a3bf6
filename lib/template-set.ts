/**
 * The templates of this checkout, read once at start: `templates/<os>/<version>/manifest.json` names the files of an install, where each
 * goes, and the parameters people may set. Rendering is pure.
 */
import {readdirSync, readFileSync} from 'node:fs'
import {join} from 'node:path'
import {z} from 'zod'
import {type FieldError, IngotError, messageOf} from './errors.ts'
import {type CompiledTemplate, compileTemplate} from './templates.ts'

/** A path that ends in `/` is a directory. */
export type RenderedFile = {readonly path: string; readonly mode: number; readonly body: string}

export type LoadedTemplate = {
  readonly name: string
  readonly title: string
  readonly parameters: readonly Parameter[]
  /**
   * @param data what the install knows; `parameters` in it are checked and defaulted first
   * @throws IngotError INVALID_INPUT for a parameter, TEMPLATE_INVALID for a template
   */
  render(data: Readonly<Record<string, unknown>> & {readonly parameters: Readonly<Record<string, unknown>>}): RenderedFile[]
}

export type TemplateSet = {get(name: string): LoadedTemplate; names(): readonly string[]}

/** A path inside the installed system: relative, without `..`. */
const filePath = z.string().regex(/^(?!.*(^|\/)\.\.?(\/|$))[\w.@-]+(\/[\w.@-]+)*$/)

const Parameter = z.strictObject({
  name: z.string().regex(/^[a-z][a-z0-9_]*$/),
  type: z.enum(['text', 'boolean', 'integer', 'texts', 'domains', 'programs']),
  title: z.string(),
  default: z.unknown(),
})
export type Parameter = z.output<typeof Parameter>

const Manifest = z.strictObject({
  name: z.string().regex(/^[a-z0-9-]+\/[\w.-]+$/),
  title: z.string(),
  parameters: z.array(Parameter),
  /** directories whose mode matters; those of the image that are there already need not be named */
  directories: z.array(z.strictObject({path: filePath, mode: z.string().regex(/^0[0-7]{3}$/)})).default([]),
  files: z.array(
    z.strictObject({path: filePath, mode: z.string().regex(/^0[0-7]{3}$/), template: z.string().regex(/^[\w.-]+$/)}),
  ),
  /** where the parameter `user_data` goes, one executable each, in order */
  user_data_path: filePath.optional(),
})
type Manifest = z.output<typeof Manifest>

const LONGEST_TEXT = 16 * 1024
const LONGEST_PROGRAM = 256 * 1024
/** RFC 1123 §2.1: labels of letters, digits and inner hyphens. */
const DOMAIN = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/

/** What each type of parameter takes. */
const TYPES: Record<Parameter['type'], z.ZodType> = {
  text: z.string().max(LONGEST_TEXT),
  boolean: z.boolean(),
  integer: z.int(),
  texts: z.array(z.string().max(LONGEST_TEXT)).max(256),
  domains: z.array(z.string().max(253).regex(DOMAIN, 'must be a domain name in lower case (RFC 1123)')).max(32),
  programs: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[a-zA-Z0-9][\w-]{0,63}$/),
        body: z.string().startsWith('#!', 'must begin with #!').max(LONGEST_PROGRAM),
      }),
    )
    .max(90),
}

/** @throws IngotError TEMPLATE_INVALID naming the file: a broken template is found at start, not at boot */
export function loadTemplates(dir: string): TemplateSet {
  const loaded = new Map<string, LoadedTemplate>()
  for (const os of directoriesIn(dir)) {
    for (const version of directoriesIn(join(dir, os))) {
      const template = loadTemplate(join(dir, os, version), `${os}/${version}`)
      loaded.set(template.name, template)
    }
  }
  return {
    get(name) {
      const template = loaded.get(name)
      if (template) return template
      throw new IngotError('TEMPLATE_INVALID', `there is no template '${name}'`, {
        mend: `There are: ${[...loaded.keys()].join(', ')}.`,
      })
    },
    names: () => [...loaded.keys()].sort(),
  }
}

export function loadTemplate(dir: string, expectedName: string): LoadedTemplate {
  const manifest = readManifest(dir, expectedName)
  const files = manifest.files.map(file => ({
    path: file.path,
    mode: Number.parseInt(file.mode, 8),
    template: compileTemplate(`${manifest.name}/${file.template}`, readFileSync(join(dir, 'files', file.template), 'utf8')),
  }))
  return {
    name: manifest.name,
    title: manifest.title,
    parameters: manifest.parameters,
    render: data => render(manifest, files, data),
  }
}

function render(
  manifest: Manifest,
  files: readonly {path: string; mode: number; template: CompiledTemplate}[],
  data: Readonly<Record<string, unknown>> & {readonly parameters: Readonly<Record<string, unknown>>},
): RenderedFile[] {
  const parameters = checkParameters(manifest, data.parameters)
  const rendered = [
    ...manifest.directories.map(entry => ({path: `${entry.path}/`, mode: Number.parseInt(entry.mode, 8), body: ''})),
    ...files.map(file => ({path: file.path, mode: file.mode, body: file.template.render({...data, parameters})})),
  ]
  const programs = (parameters.user_data ?? []) as readonly {name: string; body: string}[]
  if (manifest.user_data_path === undefined) return rendered
  const executables = programs.map((program, index) => ({
    path: `${manifest.user_data_path}/${String(index + 10)}-${program.name}`,
    mode: 0o755,
    body: program.body,
  }))
  return [...rendered, ...executables]
}

/** Defaults filled in; unknown names and wrong types are refused by name. */
function checkParameters(manifest: Manifest, given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const errors: FieldError[] = Object.keys(given)
    .filter(name => !manifest.parameters.some(parameter => parameter.name === name))
    .map(name => ({
      field: `parameters.${name}`,
      code: 'unknown',
      message: `${manifest.name} has no such parameter; it has ${manifest.parameters.map(parameter => parameter.name).join(', ')}`,
    }))
  const checked: Record<string, unknown> = {}
  for (const parameter of manifest.parameters) {
    const result = TYPES[parameter.type].safeParse(given[parameter.name] ?? parameter.default)
    if (result.success) checked[parameter.name] = result.data
    else {
      for (const issue of result.error.issues) {
        const field = ['parameters', parameter.name, ...issue.path.map(String)].join('.')
        errors.push({field, code: issue.code ?? 'invalid', message: issue.message})
      }
    }
  }
  if (errors.length === 0) return checked
  throw new IngotError('INVALID_INPUT', errors.map(error => `${error.field}: ${error.message}`).join('; '), {errors})
}

function readManifest(dir: string, expectedName: string): Manifest {
  const path = join(dir, 'manifest.json')
  try {
    const manifest = Manifest.parse(JSON.parse(readFileSync(path, 'utf8')))
    if (manifest.name !== expectedName) throw new Error(`its name is ${manifest.name}, its folder says ${expectedName}`)
    return manifest
  } catch (error) {
    throw new IngotError('TEMPLATE_INVALID', `${path}: ${messageOf(error)}`, {cause: error})
  }
}

function directoriesIn(dir: string): string[] {
  return readdirSync(dir, {withFileTypes: true})
    .filter(entry => entry.isDirectory() && !entry.name.startsWith('_'))
    .map(entry => entry.name)
    .sort()
}
