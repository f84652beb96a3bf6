/** The plan of an install: profile and request merged, addresses held, every file rendered, the image pinned by digest. */
import type {Kysely} from 'kysely'
import {type Cidr, type Ipv4, isIpv4Cidr, type Mac, prefixLength} from '../../lib/addresses.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Database, ProfileLink} from '../../lib/schema.ts'
import type {InstallInput} from '../boot/plan.ts'
import {PLANS} from './phases.ts'
import type {InstallPlan, JobPlan} from './plan-types.ts'
import type {LifecycleServices} from './services.ts'

export type ProvisionRequest = {
  profile?: string | undefined
  template?: string | undefined
  image?: string | undefined
  disk?: string | undefined
  hostname?: string | undefined
  /** id or CIDR of the prefix its host address comes from; without, the boot address is the host address */
  prefix?: string | undefined
  parameters?: Record<string, unknown> | undefined
  handoff?: ({kind: string} & Record<string, unknown>) | undefined
}

export async function planProvision(
  services: LifecycleServices,
  tx: Kysely<Database>,
  input: {machineId: string; request: ProvisionRequest; actor: string; now: Date},
): Promise<JobPlan> {
  const {request} = input
  const machine = await services.inventory.requireMachine(input.machineId, tx)
  const profile = request.profile ? await services.inventory.requireProfile(request.profile, tx) : undefined
  const template = request.template ?? profile?.template
  const image = request.image ?? profile?.image
  if (!template || !image) {
    throw new IngotError('INVALID_INPUT', 'neither the request nor a profile says what to install', {
      errors: [{field: 'profile', code: 'required', message: 'name a profile, or template and image'}],
    })
  }
  const artefact = requireImage(services, image)
  const handoff = services.handoff.validate(request.handoff ?? profile?.handoff ?? {kind: 'none'})
  const parameters = {...profile?.parameters, ...request.parameters}
  const hostname = request.hostname ?? machine.name
  const held = await holdAddresses(services, tx, {...input, name: machine.name, links: profile?.links ?? []})
  const bootMac = machine.interfaces.find(row => row.is_boot)?.mac
  if (!bootMac) throw new IngotError('INVALID_INPUT', `machine '${machine.name}' has no boot interface`)
  const files = services.renderInstall({
    template,
    hostname,
    mac: bootMac as Mac,
    address: held.host.address,
    cidr: held.host.cidr,
    gateway: held.host.gateway,
    dns: held.host.dns,
    links: held.more,
    bootUrl: held.boot.bootUrl,
    parameters,
    authorizedKeys: services.handoff.publicKeys(handoff),
  })
  const bmc = await services.inventory.describeBmc(machine.id, tx)
  const install: InstallPlan = {
    profile: profile?.name ?? null,
    template,
    image,
    ...artefact,
    disk: request.disk ?? profile?.disk ?? 'smallest',
    hostname,
    addresses: held.addresses,
    files,
    parameters,
    handoff,
    frees: held.frees,
    gives_back: held.givesBack,
  }
  return {
    phases: PLANS.provision,
    power: bmc?.driver ?? 'manual',
    end: 'reboot',
    boot_url: held.boot.bootUrl,
    window_id: null,
    install,
    wipe: null,
    verb: null,
    model: await services.inventory.modelOf(machine.id, tx),
  }
}

function requireImage(services: LifecycleServices, image: string): {image_digest: string; image_lines_digest: string} {
  const manifest = services.artefacts.lookup(`images/${image}/manifest.json`)
  const lines = services.artefacts.lookup(`images/${image}/manifest.lines`)
  if (!manifest || !lines) throw new IngotError('ARTEFACT_MISSING', `there is no image '${image}'`)
  for (const name of ['ramdisk/vmlinuz', 'ramdisk/initrd']) {
    if (!services.artefacts.lookup(name))
      throw new IngotError('ARTEFACT_MISSING', `there is no ${name}: the ramdisk was never built`)
  }
  return {image_digest: manifest.sha256, image_lines_digest: lines.sha256}
}

type Network = {address: Ipv4; cidr: Cidr; gateway: Ipv4 | null; dns: Ipv4[]; bootUrl: string}

/**
 * Its boot address; the networks of its own that the profile asks for; and the host address if another prefix was asked for, else that of
 * its IPv4 network, else the boot address. What it held before and no longer needs is freed later.
 */
async function holdAddresses(
  services: LifecycleServices,
  tx: Kysely<Database>,
  input: {
    machineId: string
    name: string
    request: ProvisionRequest
    links: readonly ProfileLink[]
    actor: string
    now: Date
  },
): Promise<{
  boot: Network
  host: Network
  more: InstallInput['links']
  addresses: InstallPlan['addresses']
  frees: string[]
  givesBack: string[]
}> {
  const {machineId, name, request, actor, now} = input
  const held = await services.ipam.allocationsOf(machineId, tx)
  const bootAllocation = held.find(allocation => allocation.purpose === 'boot')
  if (!bootAllocation) throw new IngotError('CONFLICT', `machine '${name}' holds no boot address`)
  const boot = await networkOf(services, tx, bootAllocation)
  const {links, givesBack, inLinks} = await holdLinks(services, tx, input)
  const hosts = held.filter(allocation => allocation.purpose === 'host' && !inLinks.has(allocation.prefixId))
  const asked = request.prefix === undefined ? null : await services.ipam.getPrefix(request.prefix, undefined, tx)
  if (request.prefix !== undefined && !asked) throw new IngotError('NOT_FOUND', `no prefix '${request.prefix}'`)
  const bootOnly = asked !== null && asked.id === bootAllocation.prefixId
  const own = asked ? undefined : links.find(link => isIpv4Cidr(link.cidr))
  let host = bootOnly || own ? undefined : hosts.find(allocation => !asked || allocation.prefixId === asked.id)
  if (!host && asked && !bootOnly) {
    const holder = {kind: 'machine' as const, machineId, name}
    host = await services.ipam.allocate(tx, {prefixId: asked.id, holder, purpose: 'host', reason: 'provision'}, actor, now)
  }
  const frees = hosts.filter(allocation => allocation.id !== host?.id).map(allocation => allocation.id)
  const addresses: InstallPlan['addresses'] = [
    {address: bootAllocation.address, prefix: boot.cidr, purpose: 'boot'},
    ...(host ? [{address: host.address, prefix: (await networkOf(services, tx, host)).cidr, purpose: 'host' as const}] : []),
    ...links.map(link => ({address: link.address, prefix: link.cidr, purpose: 'host' as const})),
  ]
  const ownNetwork = own && {...boot, address: own.address as Ipv4, cidr: own.cidr, gateway: own.gateway as Ipv4 | null}
  return {
    boot,
    host: host ? await networkOf(services, tx, host) : (ownNetwork ?? boot),
    more: links.filter(link => link !== own),
    addresses,
    frees,
    givesBack,
  }
}

/** Networks that it has already and the profile asks for again stay its own. */
async function holdLinks(
  services: LifecycleServices,
  tx: Kysely<Database>,
  input: {machineId: string; name: string; links: readonly ProfileLink[]; actor: string; now: Date},
): Promise<{links: InstallInput['links']; givesBack: string[]; inLinks: Set<string>}> {
  const {machineId, name, actor, now} = input
  const holder = {kind: 'machine' as const, machineId, name}
  const had = await services.ipam.linksOf(machineId, tx)
  const rest = [...had]
  const links = []
  for (const {from, length} of input.links) {
    const {prefix: text, ...wish} = from
    const container = text === undefined ? undefined : await services.ipam.getPrefix(text, from.vrf, tx)
    if (container === null) throw new IngotError('NOT_FOUND', `no prefix '${text}'`)
    const source = container ? {...wish, prefixIds: [container.id]} : wish
    const containers = await services.ipam.containersOf(source, tx)
    const at = rest.findIndex(
      link => prefixLength(link.cidr) === length && link.parent !== null && containers.includes(link.parent),
    )
    const [kept] = at < 0 ? [] : rest.splice(at, 1)
    if (kept) links.push(kept)
    else {
      const ask = {from: source, length, link: true, holder, purpose: 'host' as const, reason: 'provision'}
      const {prefix, address} = await services.ipam.carve(tx, ask, actor, now)
      if (address) links.push({address: address.address, cidr: prefix.cidr, gateway: prefix.gateway})
    }
  }
  return {
    links: links.map(({address, cidr, gateway}) => ({address, cidr, gateway})),
    givesBack: rest.map(link => link.delegationId),
    inLinks: new Set(had.map(link => link.prefixId)),
  }
}

async function networkOf(
  services: LifecycleServices,
  tx: Kysely<Database>,
  allocation: {address: string; prefixId: string},
): Promise<Network> {
  const prefix = await services.ipam.getPrefix(allocation.prefixId, undefined, tx)
  if (!prefix) throw new IngotError('NOT_FOUND', `no prefix ${allocation.prefixId}`)
  return {
    address: allocation.address as Ipv4,
    cidr: prefix.cidr as Cidr,
    gateway: prefix.gateway as Ipv4 | null,
    dns: prefix.dns as Ipv4[],
    bootUrl: prefix.boot_url ?? '',
  }
}
