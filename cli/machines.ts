/** `ingot machines …`: declare, list, show, and how their power is reached. */
import {readFileSync} from 'node:fs'
import {Command} from 'commander'
import {machineLines} from './machine-lines.ts'
import {printJson, printLine, printTable} from './output.ts'
import type {Machine, Page} from './shapes.ts'
import {apiVerb, collectLabel, parseNumber, refuse} from './verb.ts'

type BmcOptions = {bmc?: string; bmcPort?: number; bmcUser?: string; bmcPasswordFile?: string; manual?: boolean}

export function machinesCommand(): Command {
  const machines = new Command('machines').description('declare and look at machines')
  apiVerb<[], {in?: string; mac?: string; limit: number; after?: string}>(
    machines
      .command('list', {isDefault: true})
      .description('list machines by name')
      .option('--in <states>', 'only in these states, comma-separated')
      .option('--mac <mac>', 'only the one with this MAC')
      .option('--limit <n>', 'rows', parseNumber, 100)
      .option('--after <name>', 'go on after this name'),
    async ({client, json}, {in: state, mac, limit, after}) => {
      const page = await client.get<Page<Machine>>('/v1/machines', {state, mac, limit, after})
      if (json) return printJson(page)
      const filtered = state !== undefined || mac !== undefined
      const nothing = filtered
        ? 'No machine is like that.'
        : 'There are no machines: `ingot machines add` or `ingot windows open` brings them.'
      printTable(page.items.map(row), ['name', 'state', 'power', 'mac', 'flags', 'id'], nothing)
      if (page.next) printLine(`… more: --after ${page.next}`)
    },
  )
  apiVerb<[string], object>(
    machines.command('show').description('everything about one machine').argument('<machine>', 'id or name'),
    async ({client, json}, _options, id) => {
      const machine = await client.get<Machine>(`/v1/machines/${encodeURIComponent(id)}`)
      if (json) return printJson(machine)
      for (const line of machineLines(machine)) printLine(line)
    },
  )
  machines.addCommand(addCommand())
  machines.addCommand(setBmcCommand())
  apiVerb<[string], object>(
    machines.command('retire').description('take a machine out of service').argument('<machine>', 'id or name'),
    async ({client, json}, _options, id) => {
      await client.send('POST', `/v1/machines/${encodeURIComponent(id)}/retire`)
      if (json) return printJson({retired: id})
      printLine(`${id} is retired.`)
    },
  )
  apiVerb<[string], object>(
    machines.command('actions').description('what is possible now, and why the rest is not').argument('<machine>', 'id or name'),
    async ({client, json}, _options, id) => {
      const {items} = await client.get<Page<{action: string; allowed: boolean; to?: string; why: string}>>(
        `/v1/machines/${encodeURIComponent(id)}/actions`,
      )
      if (json) return printJson(items)
      const rows = items.map(item => ({...item, allowed: item.allowed ? 'yes' : 'no'}))
      printTable(rows, ['action', 'allowed', 'to', 'why'], 'Nothing is possible.')
    },
  )
  return machines
}

type AddOptions = BmcOptions & {
  name?: string
  prefix?: string
  firmware?: string
  serial?: string
  label?: Record<string, string>
}

function addCommand(): Command {
  const command = new Command('add')
    .description('declare a machine')
    .argument('<mac...>', 'its MACs; it boots from the first')
    .option('--name <name>')
    .option('--prefix <prefix>', 'id or CIDR of the prefix it boots from')
    .option('--firmware <kind>', 'bios or uefi')
    .option('--serial <serial>')
    .option('--label <name=value>', 'a label; may be given again', collectLabel)
  return apiVerb<[string[]], AddOptions>(withBmcOptions(command), async ({client, json}, options, macs) => {
    const {name, prefix, firmware, serial, label} = options
    const body = {macs, name, prefix, firmware, serial, labels: label, bmc: bmcBody(options)}
    const machine = await client.send<Machine>('POST', '/v1/machines', body)
    if (json) return printJson(machine)
    printLine(`Declared ${machine.name} (${machine.id}). \`ingot inspect ${machine.name}\` looks at its hardware.`)
  })
}

function setBmcCommand(): Command {
  const command = new Command('set-bmc')
    .description('say how a machine’s power is reached; what is not given again is forgotten')
    .argument('<machine>', 'id or name')
  return apiVerb<[string], BmcOptions>(withBmcOptions(command), async ({client, json}, options, id) => {
    const body = bmcBody(options)
    if (!body) throw refuse('nothing says how its power is reached', 'Give --bmc and its credentials, or --manual.')
    const bmc = await client.send<unknown>('PUT', `/v1/machines/${encodeURIComponent(id)}/bmc`, body)
    if (json) return printJson(bmc)
    printLine(options.manual ? `The power of ${id} is switched by hand.` : `Set. \`ingot power status ${id}\` asks it.`)
  })
}

function withBmcOptions(command: Command): Command {
  return command
    .option('--bmc <address>', 'IPMI address of its BMC')
    .option('--bmc-port <port>', 'UDP port', parseNumber)
    .option('--bmc-user <name>')
    .option('--bmc-password-file <file>', 'file with the BMC’s password')
    .option('--manual', 'its power is switched by hand')
}

function bmcBody(options: BmcOptions) {
  const {bmc, bmcPort: port, bmcUser: username, bmcPasswordFile: file} = options
  const given = [bmc, port, username, file].some(value => value !== undefined)
  if (options.manual && given) throw refuse('--manual and a BMC exclude each other', 'Give one of the two.')
  if (options.manual) return {driver: 'manual'}
  if (!given) return undefined
  if (bmc === undefined) throw refuse('there are credentials, but no BMC to use them at', 'Give its address with --bmc.')
  const password = file === undefined ? undefined : readFileSync(file, 'utf8').trim()
  return {driver: 'ipmi', address: bmc, port, username, password}
}

function row(machine: Machine) {
  const {maintenance, quarantined, fault} = machine.flags
  const flags = [maintenance && 'maintenance', quarantined && 'quarantined', fault && 'fault'].filter(Boolean).join(',')
  return {
    name: machine.name,
    state: machine.state,
    power: machine.power.observed,
    mac: machine.interfaces.find(nic => nic.is_boot)?.mac,
    flags,
    id: machine.id,
  }
}
