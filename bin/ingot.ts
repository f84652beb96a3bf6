/** The one executable: `serve`, `init`, `db`, `secrets` and `images` for the host it runs on; every other verb is a client of the API. */
import {Command} from 'commander'
import {reportFailure} from '../cli/output.ts'
import {readVersion} from '../services/supervisor/version.ts'

/** Loaded only when asked for: a client of the API needs no database driver, and should answer at once. */
const VERBS: Readonly<Record<string, () => Promise<Command>>> = {
  init: async () => (await import('../cli/init.ts')).initCommand(),
  serve: async () => (await import('../cli/serve.ts')).serveCommand(),
  images: async () => (await import('../cli/images.ts')).imagesCommand(),
  windows: async () => (await import('../cli/windows.ts')).windowsCommand(),
  sightings: async () => (await import('../cli/windows.ts')).sightingsCommand(),
  machines: async () => (await import('../cli/machines.ts')).machinesCommand(),
  profiles: async () => (await import('../cli/profiles.ts')).profilesCommand(),
  provision: async () => (await import('../cli/actions.ts')).provisionCommand(),
  deprovision: async () => (await import('../cli/actions.ts')).actionCommand('deprovision'),
  clean: async () => (await import('../cli/actions.ts')).actionCommand('clean'),
  inspect: async () => (await import('../cli/actions.ts')).actionCommand('inspect'),
  retry: async () => (await import('../cli/actions.ts')).actionCommand('retry'),
  reinstall: async () => (await import('../cli/actions.ts')).reinstallCommand(),
  test: async () => (await import('../cli/machine-verbs.ts')).testCommand(),
  service: async () => (await import('../cli/machine-verbs.ts')).stayCommand('service'),
  rescue: async () => (await import('../cli/machine-verbs.ts')).stayCommand('rescue'),
  leave: async () => (await import('../cli/actions.ts')).actionCommand('leave'),
  reserve: async () => (await import('../cli/machine-verbs.ts')).reserveCommand(),
  unreserve: async () => (await import('../cli/machine-verbs.ts')).atOnceCommand('unreserve'),
  adopt: async () => (await import('../cli/machine-verbs.ts')).atOnceCommand('adopt'),
  maintenance: async () => (await import('../cli/machine-verbs.ts')).maintenanceCommand(),
  quarantine: async () => (await import('../cli/machine-verbs.ts')).quarantineCommand(),
  power: async () => (await import('../cli/actions.ts')).powerCommand(),
  groups: async () => (await import('../cli/groups.ts')).groupsCommand(),
  jobs: async () => (await import('../cli/jobs.ts')).jobsCommand(),
  events: async () => (await import('../cli/events.ts')).eventsCommand(),
  bundle: async () => (await import('../cli/bundle.ts')).bundleCommand(),
  explain: async () => (await import('../cli/explain.ts')).explainCommand(),
  dhcp: async () => (await import('../cli/dhcp.ts')).dhcpCommand(),
  ip: async () => (await import('../cli/ip.ts')).ipCommand(),
  'ansible-inventory': async () => (await import('../cli/ansible-inventory.ts')).ansibleInventoryCommand(),
  tokens: async () => (await import('../cli/tokens.ts')).tokensCommand(),
  db: async () => (await import('../cli/db.ts')).dbCommand(),
  secrets: async () => (await import('../cli/secrets.ts')).secretsCommand(),
}

const program = new Command('ingot')
  .description('Bare-metal provisioning: DHCP, TFTP and HTTP boot, IPAM, and one explicit lifecycle for every server')
  .version(readVersion())
  .showHelpAfterError()

const asked = process.argv[2] ?? ''
// Without a verb, or with one that does not exist, all of them are needed: to be listed.
const wanted = Object.hasOwn(VERBS, asked) ? [asked] : Object.keys(VERBS)
for (const verb of wanted) {
  const command = await VERBS[verb]?.()
  if (command) program.addCommand(command)
}

try {
  await program.parseAsync()
} catch (error) {
  reportFailure(error, process.argv.includes('--json'))
}
