/** The parts of API answers that the CLI prints. Types only. */

export type Page<T> = {readonly items: readonly T[]; readonly next: string | null}

export type Machine = {
  readonly id: string
  readonly name: string
  readonly state: string
  readonly state_since?: string
  readonly failed_from?: string | null
  readonly flags: {
    readonly maintenance: boolean
    readonly quarantined: string | null
    readonly dirty: boolean
    readonly fault: string | null
  }
  readonly reservation?: {readonly for: string; readonly until: string} | null
  readonly power: {readonly observed: string | null; readonly desired?: string | null; readonly drift_since?: string | null}
  readonly firmware: string | null
  readonly serial: string | null
  readonly labels?: Readonly<Record<string, string>>
  readonly interfaces: readonly {
    readonly mac: string
    readonly name: string | null
    readonly kind: string
    readonly is_boot: boolean
  }[]
  readonly addresses?: readonly {readonly address: string; readonly purpose: string}[]
  readonly bmc?: {readonly driver: string; readonly address: string | null} | null
  readonly open_job?: Job
  readonly provisioned: Record<string, unknown> | null
  readonly facts?: {readonly inspection: unknown; readonly first_boot: unknown}
}

export type Job = {
  readonly id: string
  readonly machine_id: string
  readonly kind: string
  readonly state: string
  readonly phase: string | null
  readonly attempt: number
  readonly max_attempts: number
  readonly requested_by?: string
  readonly created_at: string
  readonly finished_at: string | null
  readonly hold_at?: string | null
  readonly eta?: string | null
  readonly cause: {readonly code: string; readonly detail: string; readonly mend: string} | null
  readonly attempts?: readonly {
    readonly number: number
    readonly started_at: string
    readonly outcome: string | null
    readonly phases: readonly {readonly phase: string; readonly at: string; readonly evidence: Record<string, unknown>}[]
  }[]
}

export type Event = {
  readonly id: number
  readonly at: string
  readonly actor: string
  readonly kind: string
  readonly machine_id: string | null
  readonly subject: string | null
  readonly detail: Record<string, unknown>
}

export type Reason = {readonly rule: string; readonly because: string; readonly source?: string}

export type ExplainedStep = {
  readonly asks?: string
  readonly answer: string
  readonly file?: string | null
  readonly sent?: string
  readonly options?: Readonly<Record<string, unknown>>
  readonly body?: string
  readonly reasons: readonly Reason[]
}

export type Explained = {
  readonly mac: string
  readonly machine: string | null
  readonly architecture: string
  readonly prefix: string | null
  readonly relay: string | null
  readonly stages: readonly {readonly stage: string; readonly steps: readonly ExplainedStep[]}[]
}

export type CaptureReport = {
  readonly format: string
  readonly packets: number
  readonly began_at: string | null
  readonly seconds: number
  readonly machines: readonly {readonly mac: string; readonly machine: string | null}[]
  readonly notes: readonly string[]
  readonly shown: readonly {
    readonly number: number
    readonly at_s: number
    readonly mac: string | null
    readonly vlan: number | null
    readonly what: string
    readonly options?: Readonly<Record<string, unknown>>
    readonly ingot?: Pick<ExplainedStep, 'answer' | 'file' | 'options' | 'reasons'>
  }[]
  readonly left_out: Readonly<Record<string, number>>
  readonly findings: readonly {
    readonly cause: string
    readonly mac: string | null
    readonly machine: string | null
    readonly weight: string
    readonly title: string
    readonly detail: string
    readonly packets: readonly number[]
    readonly mend: string
  }[]
}
