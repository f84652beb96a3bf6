/** How things look in JSON. Field names are SQL's; times are ISO 8601. What only some may see is hidden here. */
import type {InterfaceRow, MachineView, ProfileRow, SightingRow, WindowRow} from '../inventory/index.ts'
import type {Allocation, Delegation, PastAllocation, Prefix, PrefixWithUse} from '../ipam/index.ts'
import type {AttemptRow, JobPlan, JobRow, MachineStateRow, PhaseRow} from '../lifecycle/index.ts'
import type {TokenRow} from './store.ts'
import {type Permission, permits} from './tokens.ts'

type MachineParts = {
  machine: MachineView
  state: MachineStateRow | undefined
  addresses?: readonly Allocation[]
  bmc?: unknown
  openJob?: JobRow | undefined
}

export function machineView({machine, state, addresses, bmc, openJob}: MachineParts) {
  return {
    id: machine.id,
    name: machine.name,
    state: state?.state ?? 'discovered',
    state_since: state?.state_since,
    failed_from: state?.failed_from ?? null,
    flags: {
      maintenance: state?.maintenance ?? false,
      quarantined: state?.quarantined ?? null,
      dirty: state?.dirty ?? true,
      fault: state?.fault ?? null,
    },
    reservation: state?.reserved_until ? {for: state.reserved_for, until: state.reserved_until} : null,
    power: powerView(state),
    firmware: machine.firmware,
    serial: machine.serial,
    dmi_uuid: machine.dmi_uuid,
    origin: machine.origin,
    labels: machine.labels,
    interfaces: machine.interfaces.map(interfaceView),
    provisioned: state?.provisioned ?? null,
    created_at: machine.created_at,
    ...(addresses ? {addresses: addresses.map(allocationView)} : {}),
    ...(bmc === undefined ? {} : {bmc}),
    ...(openJob === undefined ? {} : {open_job: jobSummary(openJob)}),
  }
}

/** `drift_since`: since when it is known not to be as it should; a job that set it right in between ended that. */
function powerView(state: MachineStateRow | undefined) {
  const [desired, observed] = [state?.power_desired ?? null, state?.power_observed ?? null]
  const drifted = desired !== null && desired !== observed
  return {desired, observed, at: state?.power_at ?? null, drift_since: drifted ? (state?.power_drift_since ?? null) : null}
}

function interfaceView(row: InterfaceRow) {
  return {mac: row.mac, name: row.name, kind: row.kind, is_boot: row.is_boot}
}

export function jobSummary(job: JobRow) {
  return {
    id: job.id,
    machine_id: job.machine_id,
    kind: job.kind,
    state: job.state,
    phase: job.phase,
    attempt: job.attempt,
    max_attempts: job.max_attempts,
    requested_by: job.requested_by,
    created_at: job.created_at,
    finished_at: job.finished_at,
    deadline: job.finished_at ? null : job.deadline,
    cancel_requested: job.cancel_requested,
    hold_at: job.hold_at,
    held_at: job.held_at,
    cause: job.cause,
  }
}

export function jobView(job: JobRow, attempts: readonly AttemptRow[], phases: readonly PhaseRow[], eta: Date | null) {
  const plan = job.plan as unknown as JobPlan
  return {
    ...jobSummary(job),
    eta,
    plan_hash: job.plan_hash,
    plan: {
      phases: plan.phases,
      power: plan.power,
      wipe: plan.wipe,
      test: plan.test ?? null,
      install: plan.install && {
        profile: plan.install.profile,
        template: plan.install.template,
        image: plan.install.image,
        image_digest: plan.install.image_digest,
        disk: plan.install.disk,
        hostname: plan.install.hostname,
        addresses: plan.install.addresses,
        files: plan.install.files.map(file => ({path: file.path, mode: file.mode.toString(8)})),
        handoff: plan.install.handoff.kind,
      },
    },
    attempts: attempts.map(attempt => ({
      number: attempt.number,
      fence: attempt.fence,
      started_at: attempt.started_at,
      powered_at: attempt.powered_at,
      served_at: attempt.served_at,
      claimed_at: attempt.claimed_at,
      ended_at: attempt.ended_at,
      outcome: attempt.outcome,
      phases: phases
        .filter(row => row.fence === attempt.fence)
        .map(row => ({phase: row.phase, at: row.at, evidence: row.evidence})),
    })),
  }
}

export function allocationView(allocation: PastAllocation) {
  return {
    id: allocation.id,
    address: allocation.address,
    prefix_id: allocation.prefixId,
    cidr: allocation.cidr,
    holder: allocation.holder,
    purpose: allocation.purpose,
    reason: allocation.reason,
    client_key: allocation.clientKey,
    interface: allocation.interface,
    tenant: allocation.tenant,
    /** a hold: over then, unless confirmed or renewed */
    expires_at: allocation.expiresAt,
    anycast: allocation.anycast,
    created_at: allocation.createdAt,
    created_by: allocation.createdBy,
    freed_at: allocation.freedAt,
    freed_by: allocation.freedBy,
    freed_reason: allocation.freedReason,
  }
}

export function delegationView(delegation: Delegation) {
  return {
    id: delegation.id,
    cidr: delegation.cidr,
    vrf: delegation.vrf,
    prefix_id: delegation.prefixId,
    holder: delegation.holder,
    purpose: delegation.purpose,
    reason: delegation.reason,
    tenant: delegation.tenant,
    created_at: delegation.createdAt,
    created_by: delegation.createdBy,
    freed_at: delegation.freedAt,
    freed_by: delegation.freedBy,
    freed_reason: delegation.freedReason,
  }
}

export function prefixView(prefix: PrefixWithUse | Prefix) {
  return prefix
}

export function windowView(window: WindowRow) {
  return {
    id: window.id,
    prefix_id: window.prefix_id,
    until: window.until,
    closed_at: window.closed_at,
    clean: window.clean,
    machine_limit: window.machine_limit,
    bmc_username: window.bmc_username,
    created_by: window.created_by,
    created_at: window.created_at,
  }
}

export function sightingView(row: SightingRow) {
  return row
}

/** Parameters (first-boot programs) and handoffs (extra variables) may hold secrets: who may not write them sees only their names. */
export function profileView(row: ProfileRow, permission: Permission) {
  return {
    ...row,
    parameters: permits(permission, 'operate') ? row.parameters : hideValues(row.parameters),
    handoff: permits(permission, 'administer') ? row.handoff : hideHandoff(row.handoff),
  }
}

const HIDDEN = '[hidden]'

/** Whatever a kind calls its fields, one of them may be a password. */
function hideHandoff({kind, ...rest}: ProfileRow['handoff']): ProfileRow['handoff'] {
  return {...hideValues(rest), kind}
}

function hideValues(values: unknown): Record<string, string> {
  return Object.fromEntries(Object.keys(values ?? {}).map(name => [name, HIDDEN]))
}

export function tokenView(row: TokenRow) {
  return {
    id: row.id,
    name: row.name,
    permission: row.permission,
    tenant: row.tenant,
    created_at: row.created_at,
    expires_at: row.expires_at,
    revoked_at: row.revoked_at,
  }
}
