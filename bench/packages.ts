/** Peers come from Debian: installs what is missing, and says so. */
import {existsSync, rmSync, writeFileSync} from 'node:fs'
import {runCommand} from '../lab/commands.ts'

const POLICY = '/usr/sbin/policy-rc.d'

export async function installPackages(names: readonly string[], note: (line: string) => void): Promise<void> {
  const missing: string[] = []
  for (const name of names) {
    const {stdout} = await runCommand(['dpkg-query', '-W', '-f=${db:Status-Status}', name], {anyExit: true})
    if (stdout !== 'installed') missing.push(name)
  }
  if (missing.length === 0) return
  note(`installing Debian packages: apt-get install ${missing.join(' ')}`)
  // A daemon that starts with its installation would hold the ports that are measured. 101: "not allowed", says Debian Policy §9.3.3.
  const ours = !existsSync(POLICY)
  if (ours) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', {mode: 0o755})
  try {
    const options = {timeout_ms: 600_000, env: {DEBIAN_FRONTEND: 'noninteractive'}}
    await runCommand(['apt-get', 'update', '-qq'], options)
    await runCommand(['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...missing], options)
  } finally {
    if (ours) rmSync(POLICY, {force: true})
  }
}
