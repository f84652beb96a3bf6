/**
 * Entry of every child process: takes the start message, loads the role's code while it still may read the checkout, gives up all
 * privileges, and only then lets the role serve. Ends with its supervisor, however that ends.
 */
import {createLog} from '../../lib/log.ts'
import {openKeyPipe, openSupervisorLink, roleStart, type StartMessage} from './child-start.ts'
import {call} from './libc.ts'
import type {RoleModule, RunningRole} from './roles.ts'

const PR_SET_PDEATHSIG = 1
const PR_SET_DUMPABLE = 4
const PR_SET_NO_NEW_PRIVS = 38
const SIGKILL = 9
const STOP_LIMIT_MS = 10_000

await runChild()

async function runChild(): Promise<void> {
  // Ctrl-C reaches the whole terminal group; the supervisor answers it and stops us in order.
  process.on('SIGINT', () => undefined)
  const link = await openSupervisorLink()
  const {message} = link
  const log = createLog(message.role)
  process.title = `ingot ${message.role}`
  process.on('uncaughtException', error => {
    log.fatal({err: error}, 'an unexpected fault ends this process; the supervisor starts it again')
    process.exit(1)
  })
  link.onGone(() => process.exit(1))

  const sealingKeys = message.sealingKeyFd === undefined ? undefined : await openKeyPipe(message.sealingKeyFd)
  const module = (await import(message.module)) as RoleModule
  const prepared = await module.prepare(roleStart(message, sealingKeys))
  dropPrivileges(message)
  const running = await prepared.start()
  process.once('SIGTERM', () => void stopAndExit(running))
  link.tellReady()
  log.info({services: message.services, uid: process.getuid?.()}, `${message.role} serves`)

  async function stopAndExit(role: RunningRole): Promise<void> {
    setTimeout(() => process.exit(1), STOP_LIMIT_MS).unref()
    await role.stop()
    process.exit(0)
  }
}

/**
 * Irrevocable. The death signal comes last, for changing the user clears it (prctl(2)); a supervisor that died before it was set is
 * noticed by the changed parent. Not dumpable: another process of the same user, a taken-over wire above all, may not read the
 * sealing key out of this one's memory (ptrace(2)).
 */
function dropPrivileges({account, supervisorPid}: StartMessage): void {
  if (account && process.setgroups && process.setgid && process.setuid) {
    process.setgroups([])
    process.setgid(account.gid)
    process.setuid(account.uid)
    if (process.getuid?.() !== account.uid || process.getgid?.() !== account.gid) throw new Error('privileges were not given up')
  }
  process.umask(0o077)
  call('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
  call('prctl', PR_SET_DUMPABLE, 0, 0, 0, 0)
  call('prctl', PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
  if (process.ppid !== supervisorPid) process.exit(1)
}
