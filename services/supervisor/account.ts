/** The unprivileged user that PostgreSQL and the children run as. */
import {execFileSync} from 'node:child_process'
import {statSync} from 'node:fs'
import {dirname} from 'node:path'
import {IngotError, messageOf} from '../../lib/errors.ts'
import type {Log} from '../../lib/log.ts'

export type Account = {readonly name: string; readonly uid: number; readonly gid: number}

/**
 * As root, the system user `name`, made when it is missing; otherwise whoever runs this.
 * @throws IngotError PREFLIGHT_FAILED when it cannot be made
 */
export function ensureAccount(name: string, log: Log): Account {
  const uid = process.getuid?.() ?? 0
  if (uid !== 0) return {name: String(uid), uid, gid: process.getgid?.() ?? 0}
  const known = findAccount(name)
  if (known) return checkUnprivileged(known)
  log.info({user: name}, `making the system user ${name}, which PostgreSQL and the network services run as`)
  try {
    execFileSync('useradd', ['--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', name], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
  } catch (error) {
    const raced = findAccount(name)
    if (raced) return checkUnprivileged(raced)
    throw new IngotError('PREFLIGHT_FAILED', `the system user ${name} is missing and useradd failed: ${messageOf(error)}`, {
      mend: `Make it (useradd --system ${name}), or name an existing one as "user" in ingot.json.`,
      cause: error,
    })
  }
  const made = findAccount(name)
  if (!made) throw new IngotError('PREFLIGHT_FAILED', `the system user ${name} was made but is not found`)
  return made
}

/** Looked up through the name service switch, so that directory users count too. */
export function findAccount(name: string): Account | undefined {
  try {
    const [found = '', , uid, gid] = execFileSync('getent', ['passwd', name], {encoding: 'utf8'}).trim().split(':')
    return {name: found, uid: Number(uid), gid: Number(gid)}
  } catch {
    return undefined
  }
}

/**
 * Says which folder on the way to `path` the account may not pass, if any: under /root or a 0700 home nothing it runs would start.
 * Looks at owner, group and others, not at access lists.
 */
export function requireReachable(path: string, account: Account): void {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const {uid, gid, mode} = statSync(folder)
    const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001
    if ((mode & bit) === 0) {
      throw new IngotError('PREFLIGHT_FAILED', `the user ${account.name} may not enter ${folder}, so it cannot reach ${path}`, {
        mend: `Choose a state directory elsewhere with --state, or let it in: chmod o+x ${folder}`,
      })
    }
    if (folder === dirname(folder)) return
  }
}

function checkUnprivileged(account: Account): Account {
  if (account.uid === 0)
    throw new IngotError('PREFLIGHT_FAILED', `the user ${account.name} is root; an unprivileged one is needed`)
  return account
}
