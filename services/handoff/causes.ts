/** Why a handoff failed, as one table: the code, its meaning in a line, and what to do about it. */

export const HANDOFF_CAUSES = {
  HANDOFF_FAILED: {
    title: 'Config management ran and failed',
    mend: 'Read the failed task in the output, mend the playbook or the machine, then retry the job.',
  },
  HANDOFF_UNREACHABLE: {
    title: 'The machine does not answer on SSH',
    mend: 'Check that the installed system is up, that sshd listens on its address and that no firewall is between; then retry the job.',
  },
  HANDOFF_HOST_KEY: {
    title: 'The machine that answers is not the one that was installed',
    mend: 'Find out who answers on this address. If the host keys were changed on purpose, provision the machine again.',
  },
  HANDOFF_AUTH: {
    title: "The machine refuses Ingot's SSH key",
    mend: "Check the user, and that Ingot's public key is in that user's authorized_keys: provisioning puts it there.",
  },
  HANDOFF_TIMEOUT: {
    title: 'The handoff was not finished in time',
    mend: 'Look in the output for the task that hangs; raise `timeout_s` if the playbook needs longer; then retry the job.',
  },
  HANDOFF_STOPPED: {title: 'The handoff was stopped', mend: 'Retry the job when you want it to run again.'},
  HANDOFF_PLAYBOOK: {
    title: 'The playbook cannot be used',
    mend: 'Correct what the detail names; `ansible-playbook --syntax-check` finds most of it.',
  },
  HANDOFF_TOOL_MISSING: {
    title: 'A program that the handoff needs is missing',
    mend: 'Install it on the host where Ingot runs: on Debian, `apt-get install ansible-core openssh-client`.',
  },
  HANDOFF_WEBHOOK_KEY: {
    title: 'The webhook has no usable key or list of networks',
    mend: 'Put a key of at least 16 bytes into `<state>/handoff/webhook/<key>.key`, readable by the user of Ingot; mend what the detail names.',
  },
  HANDOFF_WEBHOOK_BLOCKED: {
    title: 'The webhook leads to an address that it may not reach',
    mend: 'If it is meant to, put its network into `<state>/handoff/webhook/allowed-networks`; link-local addresses are never reached.',
  },
  HANDOFF_WEBHOOK_REFUSED: {
    title: 'The receiver of the webhook refused it',
    mend: 'Look at the answer in the detail and at the receiver; then retry the job.',
  },
  HANDOFF_WEBHOOK_FAILED: {
    title: 'The receiver of the webhook did not take it in all attempts',
    mend: 'Look at the receiver; raise `attempts` if it is away for longer; then retry the job.',
  },
  HANDOFF_INTERNAL: {title: 'Ingot itself failed', mend: 'Look for the run in the log and report it; then retry the job.'},
} as const satisfies Record<string, {title: string; mend: string}>

export type HandoffCauseCode = keyof typeof HANDOFF_CAUSES

export type HandoffCause = {readonly code: HandoffCauseCode; readonly detail: string; readonly mend: string}

/** @param detail what happened here, with names and values */
export function handoffCause(code: HandoffCauseCode, detail: string): HandoffCause {
  return {code, detail, mend: HANDOFF_CAUSES[code].mend}
}
