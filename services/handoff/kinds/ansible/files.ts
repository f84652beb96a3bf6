/** Everything that ansible-playbook is given, as files of the run's directory: no secret in an argument or in the environment. */
import {readFileSync} from 'node:fs'
import {lstat, mkdir, writeFile} from 'node:fs/promises'
import {join} from 'node:path'
import {scrubbedEnvironment} from '../../environment.ts'
import {ansibleInventory, hostVariables, type InventoryMachine, inert} from '../../inventory.ts'
import {renderSshConfig} from '../../ssh-master.ts'
import type {RunContext} from '../kind.ts'
import type {AnsibleConfig} from './config.ts'

// Read when this file is loaded: a checkout under /root cannot be read any more once privileges are given up.
const CALLBACK_PLUGIN = readFileSync(new URL('ingot_result.py', import.meta.url))

/** Answers `--list` and `--host NAME`, as Ansible asks a dynamic inventory. */
const INVENTORY_SCRIPT = `#!/bin/sh
here=$(dirname "$0")
case "$1" in
  --list) exec cat "$here/inventory.json" ;;
  --host)
    case "$2" in
      '' | .* | *[!A-Za-z0-9.-]*) ;;
      *) [ ! -f "$here/hosts/$2.json" ] || exec cat "$here/hosts/$2.json" ;;
    esac
    echo '{}' ;;
  *) echo "usage: $0 --list | --host NAME" >&2; exit 2 ;;
esac
`

export type AnsibleFiles = {
  readonly inventoryPath: string
  readonly extraVariablesPath: string
  readonly sshConfigPath: string
  readonly eventsPath: string
  readonly env: Readonly<Record<string, string>>
}

export async function writeAnsibleFiles(config: AnsibleConfig, context: RunContext, knownHosts: string): Promise<AnsibleFiles> {
  const {runDir, machine} = context
  const at = (name: string) => join(runDir, name)
  const put = (name: string, text: string, mode = 0o600) => writeFile(at(name), text, {mode})
  const inventoried: InventoryMachine = {...machine, user: userOf(config, context)}
  for (const folder of ['tmp', 'hosts', 'callbacks']) await mkdir(at(folder), {mode: 0o700})
  await put('known_hosts', knownHosts)
  await put(
    'ssh_config',
    renderSshConfig({runDir, knownHostsPath: at('known_hosts'), privateKeyPath: context.keyPair().privateKeyPath}),
  )
  await put('inventory.json', JSON.stringify(ansibleInventory([inventoried])))
  await put(`hosts/${machine.name}.json`, JSON.stringify(hostVariables(inventoried)))
  await put('inventory', INVENTORY_SCRIPT, 0o700)
  await put('extra-vars.json', JSON.stringify(inert(config.extra_vars ?? {})))
  await put('ansible.cfg', '')
  await put('events.jsonl', '')
  await writeFile(at('callbacks/ingot_result.py'), CALLBACK_PLUGIN)
  return {
    inventoryPath: at('inventory'),
    extraVariablesPath: at('extra-vars.json'),
    sshConfigPath: at('ssh_config'),
    eventsPath: at('events.jsonl'),
    env: ansibleEnvironment(context),
  }
}

/** The playbook's path, or why there is none. A link is not followed: the folder is the limit of what can be run by name. */
export async function placePlaybook(config: AnsibleConfig, context: RunContext): Promise<{path: string} | {missing: string}> {
  if (config.playbook_yaml !== undefined) {
    const path = join(context.runDir, 'playbook.yml')
    await writeFile(path, config.playbook_yaml, {mode: 0o600})
    return {path}
  }
  const path = join(context.kindDir, config.playbook ?? '')
  try {
    return (await lstat(path)).isFile() ? {path} : {missing: `${path} is not a plain file`}
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {missing: `there is no ${path}`}
    throw error
  }
}

export function userOf(config: AnsibleConfig, context: RunContext): string {
  return config.user ?? context.machine.user ?? 'root'
}

function ansibleEnvironment({runDir, kindDir, searchPath}: RunContext): Record<string, string> {
  const at = (name: string) => join(runDir, name)
  return {
    ...scrubbedEnvironment(runDir, searchPath),
    PYTHONDONTWRITEBYTECODE: '1',
    // An empty file of ours, so that none is picked up from the account, the system or the working directory.
    ANSIBLE_CONFIG: at('ansible.cfg'),
    ANSIBLE_HOME: at('tmp'),
    ANSIBLE_LOCAL_TEMP: at('tmp'),
    ANSIBLE_INVENTORY_ENABLED: 'script',
    ANSIBLE_ROLES_PATH: `${join(kindDir, 'roles')}:/usr/share/ansible/roles`,
    ANSIBLE_COLLECTIONS_PATH: `${join(kindDir, 'collections')}:/usr/share/ansible/collections`,
    ANSIBLE_HOST_KEY_CHECKING: 'True',
    ANSIBLE_SSH_ARGS: sshArguments(at('ssh_config'), at('known_hosts')),
    ANSIBLE_SSH_RETRIES: '3',
    ANSIBLE_PIPELINING: 'True',
    ANSIBLE_TIMEOUT: '30',
    ANSIBLE_PYTHON_INTERPRETER: 'auto_silent',
    ANSIBLE_STDOUT_CALLBACK: 'default',
    ANSIBLE_CALLBACK_PLUGINS: at('callbacks'),
    ANSIBLE_CALLBACKS_ENABLED: 'ingot_result',
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_NOCOWS: '1',
    ANSIBLE_RETRY_FILES_ENABLED: 'False',
    ANSIBLE_DEPRECATION_WARNINGS: 'False',
  }
}

/**
 * Quoted, since Ansible splits this as a shell would. What checks the host key stands here as well as in the file: the options that a
 * playbook's variables add come after these, and of equal options on a command line ssh takes the first.
 */
function sshArguments(configPath: string, knownHostsPath: string): string {
  return `-F '${configPath}' -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile="${knownHostsPath}"' -o GlobalKnownHostsFile=/dev/null`
}
