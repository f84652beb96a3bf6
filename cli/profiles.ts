/** `ingot profiles …`: what machines become. */
import {Command} from 'commander'
import {printJson, printLine, printTable} from './output.ts'
import type {Page} from './shapes.ts'
import {apiVerb, readYamlFile} from './verb.ts'

type Profile = {name: string; template: string; image: string; disk: string; handoff: {kind: string}}

export function profilesCommand(): Command {
  const profiles = new Command('profiles').description('what a machine becomes: template, image, parameters, handoff')
  apiVerb<[], object>(profiles.command('list', {isDefault: true}).description('list them'), async ({client, json}) => {
    const page = await client.get<Page<Profile>>('/v1/profiles')
    if (json) return printJson(page)
    const rows = page.items.map(profile => ({...profile, handoff: profile.handoff.kind}))
    printTable(rows, ['name', 'template', 'image', 'disk', 'handoff'], 'There are no profiles: `ingot profiles write` makes one.')
  })
  apiVerb<[string], {template?: string; image?: string; disk?: string; file?: string}>(
    profiles
      .command('write')
      .description('write a profile, from options or from a YAML file; it takes the place of one with this name')
      .argument('<name>')
      .option('--template <name>', 'such as debian/12')
      .option('--image <name>')
      .option('--disk <rule>', 'smallest, serial=…, wwn=… or name=…')
      .option('--file <file>', 'YAML with template, image, disk, parameters, handoff'),
    async ({client, json}, options, name) => {
      const given = Object.fromEntries(
        (['template', 'image', 'disk'] as const).flatMap(key => (options[key] ? [[key, options[key]]] : [])),
      )
      const body = {...(options.file ? readYamlFile(options.file) : {}), ...given}
      const profile = await client.send<Profile>('PUT', `/v1/profiles/${encodeURIComponent(name)}`, body)
      if (json) return printJson(profile)
      printLine(
        `Profile ${profile.name}: ${profile.template}, image ${profile.image}, disk ${profile.disk}, handoff ${profile.handoff.kind}.`,
      )
    },
  )
  return profiles
}
