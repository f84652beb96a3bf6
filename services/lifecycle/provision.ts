/** The plan of an install: profile and request merged, addresses held, every file rendered, the image pinned by digest. */
import type {Kysely} from 'kysely'
import type {Cidr, Ipv4, Mac} from '../../lib/addresses.ts'
import {IngotError} from '../../lib/errors.ts'
import type {Database} from '../../lib/schema.ts'
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
  const held = await holdAddresses(services, tx, {...input, name: machine.name})
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

/** Its boot address, and the host address if another prefix was asked for; what it held before and no longer needs is freed later. */
async function holdAddresses(
  services: LifecycleServices,
  tx: Kysely<Database>,
  input: {machineId: string; name: string; request: ProvisionRequest; actor: string; now: Date},
): Promise<{boot: Network; host: Network; addresses: InstallPlan['addresses']; frees: string[]}> {
  const {machineId, name, request, actor, now} = input
  const held = await services.ipam.allocationsOf(machineId, tx)
  const bootAllocation = held.find(allocation => allocation.purpose === 'boot')
  if (!bootAllocation) throw new IngotError('CONFLICT', `machine '${name}' holds no boot address`)
  const boot = await networkOf(services, tx, bootAllocation)
  const hosts = held.filter(allocation => allocation.purpose === 'host')
  const asked = request.prefix === undefined ? null : await services.ipam.getPrefix(request.prefix, undefined, tx)
  if (request.prefix !== undefined && !asked) throw new IngotError('NOT_FOUND', `no prefix '${request.prefix}'`)
  const bootOnly = asked !== null && asked.id === bootAllocation.prefixId
  let host = bootOnly ? undefined : hosts.find(allocation => !asked || allocation.prefixId === asked.id)
  if (!host && asked && !bootOnly) {
    const holder = {kind: 'machine' as const, machineId, name}
    host = await services.ipam.allocate(tx, {prefixId: asked.id, holder, purpose: 'host', reason: 'provision'}, actor, now)
  }
  const frees = hosts.filter(allocation => allocation.id !== host?.id).map(allocation => allocation.id)
  const addresses: InstallPlan['addresses'] = [
    {address: bootAllocation.address, prefix: boot.cidr, purpose: 'boot'},
    ...(host ? [{address: host.address, prefix: (await networkOf(services, tx, host)).cidr, purpose: 'host' as const}] : []),
  ]
  return {boot, host: host ? await networkOf(services, tx, host) : boot, addresses, frees}
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
