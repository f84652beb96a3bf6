/**
 * `ingot ansible-inventory --list | --host NAME`: a dynamic inventory as Ansible asks for one. A script of the two lines `#!/bin/sh` and
 * `exec ingot ansible-inventory "$@"` is an inventory source.
 */
import {Command} from 'commander'
import {printJson} from './output.ts'
import {apiVerb, refuse} from './verb.ts'

type Inventory = {readonly _meta: {readonly hostvars: Readonly<Record<string, unknown>>}}

export function ansibleInventoryCommand(): Command {
  return apiVerb<[], {list?: boolean; host?: string}>(
    new Command('ansible-inventory')
      .description('active machines as an Ansible dynamic inventory, always JSON')
      .option('--list', 'all of it (what is printed without options, too)')
      .option('--host <name>', 'the variables of one machine'),
    async ({client}, {list, host}) => {
      if (list && host !== undefined) throw refuse('--list and --host exclude each other', 'Give one of the two.')
      const inventory = await client.get<Inventory>('/v1/ansible-inventory')
      // Ansible wants an empty object for a host that an inventory does not know.
      printJson(
        host === undefined ? inventory : Object.hasOwn(inventory._meta.hostvars, host) ? inventory._meta.hostvars[host] : {},
      )
    },
  )
}
