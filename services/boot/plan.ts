/** Renders every file of an install from a loaded template. Pure: the same plan always gives the same bytes. */
import {type Cidr, type Ipv4, type Mac, prefixLength} from '../../lib/addresses.ts'
import {IngotError} from '../../lib/errors.ts'
import type {RenderedFile, TemplateSet} from '../../lib/template-set.ts'

export type InstallInput = {
  readonly template: string
  readonly hostname: string
  readonly mac: Mac
  readonly address: Ipv4
  readonly cidr: Cidr
  readonly gateway: Ipv4 | null
  readonly dns: readonly Ipv4[]
  /** further addresses of the same interface, each with the gateway on its network */
  readonly links: readonly {readonly address: string; readonly cidr: Cidr; readonly gateway: string | null}[]
  readonly bootUrl: string
  readonly parameters: Readonly<Record<string, unknown>>
  /** keys that the handoff needs, beside those of the parameters */
  readonly authorizedKeys: readonly string[]
}

/** @throws IngotError INVALID_INPUT for a parameter, TEMPLATE_INVALID for a template */
export type RenderInstall = (input: InstallInput) => RenderedFile[]

/** Stands in rendered files where a claimed session gets its first-boot token. */
export const FIRST_BOOT_TOKEN = '@@first-boot-token@@'

/** RFC 1123 §2.1, one label or several. */
const HOST_NAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/
/** `type base64 [comment]`, as authorized_keys(5) has it, without options. */
const PUBLIC_KEY =
  /^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) [A-Za-z0-9+/]{16,}={0,3}( [^\0\r\n]*)?$/

export function createInstallRenderer(templates: TemplateSet): RenderInstall {
  return input => {
    if (!HOST_NAME.test(input.hostname))
      throw refused('hostname', `'${input.hostname}' is not a host name (RFC 1123, lower case)`)
    const asked = input.parameters.ssh_keys
    const keys = [...(Array.isArray(asked) ? asked.map(String) : []), ...input.authorizedKeys]
    for (const key of keys)
      if (!PUBLIC_KEY.test(key)) throw refused('parameters.ssh_keys', `'${key.slice(0, 60)}' is not a public key`)
    return templates.get(input.template).render({
      hostname: input.hostname,
      mac: input.mac,
      address: input.address,
      prefix_length: prefixLength(input.cidr),
      gateway: input.gateway,
      dns: input.dns,
      links: input.links.map(link => ({address: link.address, prefix_length: prefixLength(link.cidr), gateway: link.gateway})),
      boot_url: input.bootUrl,
      first_boot_token: FIRST_BOOT_TOKEN,
      authorized_keys: [...new Set(keys)],
      parameters: input.parameters,
    })
  }
}

function refused(field: string, message: string): IngotError {
  return new IngotError('INVALID_INPUT', message, {errors: [{field, code: 'format', message}]})
}
