/** What the boot server takes: methods and paths. Pure; the server and `explain` both ask here. */

type Row = {readonly method: 'GET' | 'POST'; readonly head?: true; readonly path: string}

/**
 * A path ending in `/` takes the rest as its argument. HEAD is taken where a GET changes nothing: of a boot target it would use up the
 * one time that an installer is served.
 */
export const BOOT_ROUTES = [
  {method: 'GET', head: true, path: '/boot.ipxe'},
  {method: 'GET', path: '/ipxe/'},
  {method: 'GET', head: true, path: '/loaders/'},
  {method: 'GET', head: true, path: '/artefacts/'},
  {method: 'POST', path: '/ramdisk/hello'},
  {method: 'POST', path: '/ramdisk/facts'},
  {method: 'POST', path: '/ramdisk/claim'},
  {method: 'POST', path: '/ramdisk/events'},
  {method: 'POST', path: '/ramdisk/log'},
  {method: 'GET', path: '/ramdisk/config'},
  {method: 'GET', path: '/ramdisk/order'},
  {method: 'POST', path: '/first-boot'},
  {method: 'GET', head: true, path: '/healthz'},
] as const satisfies readonly Row[]

export type BootPath = (typeof BOOT_ROUTES)[number]['path']

export type FoundRoute =
  | {readonly path: BootPath; readonly rest: string; readonly url: URL}
  | {readonly status: 400 | 404; readonly because: string}
  | {readonly status: 405; readonly because: string; readonly allow: string}

/** @param target of the request line: path and query, or a whole URL */
export function findRoute(method: string, target: string): FoundRoute {
  const url = URL.parse(target, 'http://boot.invalid')
  if (!url) return {status: 400, because: 'bad URL'}
  const rows: readonly (Row & {readonly path: BootPath})[] = BOOT_ROUTES
  const row = rows.find(({path}) => (path.endsWith('/') ? url.pathname.startsWith(path) : url.pathname === path))
  if (!row) return {status: 404, because: 'there is nothing here'}
  if (method !== row.method && !(method === 'HEAD' && row.head)) {
    return {status: 405, because: 'not with this method', allow: row.head ? `${row.method}, HEAD` : row.method}
  }
  return {path: row.path, rest: row.path.endsWith('/') ? url.pathname.slice(row.path.length) : '', url}
}
