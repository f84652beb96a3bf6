/** `ingot tokens …`: who may use the API. Needs an administrator's token itself. */
import {Command} from 'commander'
import {printJson, printLine, printTable, timeOf} from './output.ts'
import type {Page} from './shapes.ts'
import {apiVerb, parseNumber} from './verb.ts'

type Token = {
  id: string
  name: string
  permission: string
  created_at: string
  expires_at: string | null
  revoked_at: string | null
}

export function tokensCommand(): Command {
  const tokens = new Command('tokens').description('API tokens: make, list and revoke them')
  apiVerb<[], object>(tokens.command('list', {isDefault: true}).description('oldest first'), async ({client, json}) => {
    const page = await client.get<Page<Token>>('/v1/tokens')
    if (json) return printJson(page)
    const rows = page.items.map(token => ({...token, made: timeOf(token.created_at), ends: endOf(token)}))
    printTable(rows, ['name', 'permission', 'made', 'ends', 'id'], 'There are no tokens.')
  })
  apiVerb<[string], {permission: string; days?: number}>(
    tokens
      .command('make')
      .description('make a token; it is shown this once')
      .argument('<name>', 'events name its holder by it')
      .option('--permission <permission>', 'view, operate or administer', 'view')
      .option('--days <n>', 'until it expires; without, it does not', parseNumber),
    async ({client, json}, {permission, days}, name) => {
      const made = await client.send<Token & {token: string | null}>('POST', '/v1/tokens', {name, permission, days})
      if (json) return printJson(made)
      if (made.token === null) return printLine(`${name} was made, but its answer was lost: revoke ${made.id} and make another.`)
      printLine(made.token)
    },
  )
  apiVerb<[string], object>(
    tokens.command('revoke').description('end a token now, for good').argument('<id>', 'as `ingot tokens` lists it'),
    async ({client, json}, _options, id) => {
      await client.send('DELETE', `/v1/tokens/${encodeURIComponent(id)}`)
      if (json) return printJson({revoked: id})
      printLine('Revoked.')
    },
  )
  return tokens
}

function endOf(token: Token): string {
  if (token.revoked_at) return `revoked ${timeOf(token.revoked_at)}`
  if (!token.expires_at) return 'never'
  return `${Date.parse(token.expires_at) > Date.now() ? '' : 'expired '}${timeOf(token.expires_at)}`
}
