/** What a prefix's machines are told, as options of `ingot ip add` and `ingot ip set`. */
import {type Command, Option} from 'commander'
import {collect, parseNumber} from './verb.ts'

export type SettingOptions = {
  gateway?: string
  dns?: string[]
  bootUrl?: string
  lease?: number
  dhcp?: string
  bootp?: string
  ra?: boolean
  relay?: string[]
}

export function withSettings(command: Command): Command {
  return command
    .option('--gateway <address>')
    .option('--dns <address>', 'may be given again', collect)
    .option('--boot-url <url>', 'where its machines reach the boot service, such as http://10.0.0.1:8480')
    .option('--lease <seconds>', 'DHCP lease time; `infinite` has no end', parseLease)
    .addOption(
      new Option('--dhcp <mode>', 'who gives the addresses: Ingot, another server with Ingot beside it, or nobody').choices([
        'authoritative',
        'proxy',
        'off',
      ]),
    )
    .addOption(
      new Option('--bootp <policy>', 'what BOOTP clients get: nothing, or known machines their address').choices([
        'ignored',
        'static',
      ]),
    )
    .option('--relay <address>', 'a relay that may speak for it; may be given again', collect)
    .option('--ra', 'send the router advertisement that spares iPXE 14 s')
    .option('--no-ra', 'send none')
}

export function settingsOf(options: SettingOptions) {
  return {
    gateway: options.gateway,
    dns: options.dns,
    boot_url: options.bootUrl,
    lease_s: options.lease,
    dhcp: options.dhcp,
    bootp: options.bootp,
    relays: options.relay,
    router_advertisement: options.ra,
  }
}

/** RFC 2131 §3.3: all ones is a lease without an end. */
function parseLease(text: string): number {
  return text === 'infinite' ? 0xffffffff : parseNumber(text)
}
