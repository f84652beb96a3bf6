/** The TFTP clients that people have: how each is asked for a file, and which options it asks for. */
import {execFile} from 'node:child_process'
import {accessSync, constants} from 'node:fs'
import {promisify} from 'node:util'

const run = promisify(execFile)

export type TftpClient = {
  readonly name: string
  /** The Debian package that brings it. */
  readonly debian: string
  readonly path: string
  readonly fetch: (port: number, file: string, to: string) => readonly string[]
}

export const TFTP_CLIENTS: readonly TftpClient[] = [
  {
    name: 'curl, as it comes (tsize, blksize 512, timeout)',
    debian: 'curl',
    path: '/usr/bin/curl',
    fetch: (port, file, to) => ['-sS', '-o', to, '--max-time', '100', `tftp://127.0.0.1:${port}/${file}`],
  },
  {
    name: 'curl without options',
    debian: 'curl',
    path: '/usr/bin/curl',
    fetch: (port, file, to) => ['-sS', '-o', to, '--max-time', '100', '--tftp-no-options', `tftp://127.0.0.1:${port}/${file}`],
  },
  {
    name: 'curl with blksize 1468',
    debian: 'curl',
    path: '/usr/bin/curl',
    fetch: (port, file, to) => [
      '-sS',
      '-o',
      to,
      '--max-time',
      '100',
      '--tftp-blksize',
      '1468',
      `tftp://127.0.0.1:${port}/${file}`,
    ],
  },
  {
    name: 'atftp without options',
    debian: 'atftp',
    path: '/usr/bin/atftp',
    fetch: (port, file, to) => ['-g', '-r', file, '-l', to, '127.0.0.1', String(port)],
  },
  {
    name: 'atftp with blksize, tsize and windowsize 16',
    debian: 'atftp',
    path: '/usr/bin/atftp',
    fetch: (port, file, to) => {
      const options = ['blksize 1432', 'tsize 0', 'windowsize 16'].flatMap(option => ['--option', option])
      return [...options, '-g', '-r', file, '-l', to, '127.0.0.1', String(port)]
    },
  },
  {
    name: 'tftp-hpa in binary mode',
    debian: 'tftp-hpa',
    path: '/usr/bin/tftp',
    fetch: (port, file, to) => ['-m', 'binary', '127.0.0.1', String(port), '-c', 'get', file, to],
  },
  {
    name: 'busybox tftp',
    debian: 'busybox-static',
    path: '/bin/busybox',
    fetch: (port, file, to) => ['tftp', '-g', '-r', file, '-l', to, '127.0.0.1', String(port)],
  },
  {
    name: 'busybox tftp with blksize 1428',
    debian: 'busybox-static',
    path: '/bin/busybox',
    fetch: (port, file, to) => ['tftp', '-b', '1428', '-g', '-r', file, '-l', to, '127.0.0.1', String(port)],
  },
]

export function isInstalled(client: TftpClient): boolean {
  try {
    accessSync(client.path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** @returns what the client said; it is stopped after 100 s */
export async function fetchWith(client: TftpClient, port: number, file: string, to: string): Promise<string> {
  const {stdout, stderr} = await run(client.path, [...client.fetch(port, file, to)], {timeout: 100_000, killSignal: 'SIGKILL'})
  return stdout + stderr
}
