/**
 * The DHCP options as one table: what Ingot reads, writes, and lets an operator set. Pure.
 * To add an option, add a row. Names follow RFC 2132 and the IANA registry "BOOTP Vendor Extensions and DHCP Options".
 */
import {hexColon, printable} from '../../lib/bytes.ts'
import {CODECS, type Codec, type OptionType, type OptionTypes} from './option-codecs.ts'

export {type IpPair, type Route, readIpv4, readSuboptions, writeIpv4} from './option-codecs.ts'

export type OptionRow = {
  readonly code: number
  readonly type: OptionType
  /** The only length in octets it may have. */
  readonly length?: number
  /** Bounds that are narrower than the type's. */
  readonly least?: number
  readonly most?: number
  /** Why an operator cannot set it. */
  readonly owned?: string
}

const BY_CLIENTS = 'only clients send it'
const ECHOED = 'it is given back as the client sent it'
const FROM_PREFIX = 'it follows from the prefix’s network'
const FROM_LEASE = 'it follows from the lease time of the prefix: `ingot ip set … --lease`'
const FROM_LOADER = 'the boot file and its server are chosen by stage and architecture: `ingot dhcp loaders set`'
const BY_SERVER = 'every reply carries it as the protocol wants it'

export const OPTIONS = {
  subnet_mask: {code: 1, type: 'ip', owned: FROM_PREFIX},
  time_offset: {code: 2, type: 'i32'},
  routers: {code: 3, type: 'ips'},
  time_servers: {code: 4, type: 'ips'},
  name_servers: {code: 5, type: 'ips'},
  dns_servers: {code: 6, type: 'ips'},
  log_servers: {code: 7, type: 'ips'},
  cookie_servers: {code: 8, type: 'ips'},
  lpr_servers: {code: 9, type: 'ips'},
  impress_servers: {code: 10, type: 'ips'},
  resource_location_servers: {code: 11, type: 'ips'},
  host_name: {code: 12, type: 'text'},
  boot_file_size: {code: 13, type: 'u16'},
  merit_dump_file: {code: 14, type: 'text'},
  domain_name: {code: 15, type: 'text'},
  swap_server: {code: 16, type: 'ip'},
  root_path: {code: 17, type: 'text'},
  extensions_path: {code: 18, type: 'text'},
  ip_forwarding: {code: 19, type: 'flag'},
  non_local_source_routing: {code: 20, type: 'flag'},
  policy_filters: {code: 21, type: 'ip_pairs'},
  maximum_datagram_reassembly: {code: 22, type: 'u16', least: 576},
  default_ip_ttl: {code: 23, type: 'u8', least: 1},
  path_mtu_aging_timeout: {code: 24, type: 'u32'},
  path_mtu_plateaus: {code: 25, type: 'u16s', least: 68},
  interface_mtu: {code: 26, type: 'u16', least: 68},
  all_subnets_local: {code: 27, type: 'flag'},
  broadcast_address: {code: 28, type: 'ip', owned: FROM_PREFIX},
  perform_mask_discovery: {code: 29, type: 'flag'},
  mask_supplier: {code: 30, type: 'flag'},
  perform_router_discovery: {code: 31, type: 'flag'},
  router_solicitation_address: {code: 32, type: 'ip'},
  static_routes: {code: 33, type: 'ip_pairs'},
  trailer_encapsulation: {code: 34, type: 'flag'},
  arp_cache_timeout: {code: 35, type: 'u32'},
  ethernet_encapsulation: {code: 36, type: 'flag'},
  tcp_default_ttl: {code: 37, type: 'u8', least: 1},
  tcp_keepalive_interval: {code: 38, type: 'u32'},
  tcp_keepalive_garbage: {code: 39, type: 'flag'},
  nis_domain: {code: 40, type: 'text'},
  nis_servers: {code: 41, type: 'ips'},
  ntp_servers: {code: 42, type: 'ips'},
  vendor_specific: {code: 43, type: 'suboptions'},
  netbios_name_servers: {code: 44, type: 'ips'},
  netbios_datagram_servers: {code: 45, type: 'ips'},
  netbios_node_type: {code: 46, type: 'u8', least: 1, most: 8},
  netbios_scope: {code: 47, type: 'text'},
  x_font_servers: {code: 48, type: 'ips'},
  x_display_managers: {code: 49, type: 'ips'},
  requested_address: {code: 50, type: 'ip', owned: BY_CLIENTS},
  lease_time: {code: 51, type: 'u32', owned: FROM_LEASE},
  overload: {code: 52, type: 'u8', owned: 'it is sent when options need the room of `file` and `sname`'},
  message_type: {code: 53, type: 'u8', owned: BY_SERVER},
  server_identifier: {code: 54, type: 'ip', owned: BY_SERVER},
  parameter_request_list: {code: 55, type: 'u8s', owned: BY_CLIENTS},
  message: {code: 56, type: 'text', owned: 'a refusal says in it why it refuses'},
  maximum_message_size: {code: 57, type: 'u16', owned: BY_CLIENTS},
  renewal_time: {code: 58, type: 'u32', owned: FROM_LEASE},
  rebinding_time: {code: 59, type: 'u32', owned: FROM_LEASE},
  vendor_class: {code: 60, type: 'text', owned: 'netboot clients that demand it get theirs, and others would misread it'},
  client_identifier: {code: 61, type: 'bytes', owned: ECHOED},
  netware_domain: {code: 62, type: 'text'},
  netware_suboptions: {code: 63, type: 'suboptions'},
  nis_plus_domain: {code: 64, type: 'text'},
  nis_plus_servers: {code: 65, type: 'ips'},
  tftp_server_name: {code: 66, type: 'text', owned: FROM_LOADER},
  boot_file_name: {code: 67, type: 'text', owned: FROM_LOADER},
  mobile_ip_home_agents: {code: 68, type: 'ips'},
  smtp_servers: {code: 69, type: 'ips'},
  pop3_servers: {code: 70, type: 'ips'},
  nntp_servers: {code: 71, type: 'ips'},
  www_servers: {code: 72, type: 'ips'},
  finger_servers: {code: 73, type: 'ips'},
  irc_servers: {code: 74, type: 'ips'},
  streettalk_servers: {code: 75, type: 'ips'},
  streettalk_directory_servers: {code: 76, type: 'ips'},
  user_class: {code: 77, type: 'bytes', owned: BY_CLIENTS},
  slp_directory_agents: {code: 78, type: 'bytes'},
  slp_service_scope: {code: 79, type: 'bytes'},
  rapid_commit: {code: 80, type: 'bytes', owned: 'an ACK that no REQUEST asked for would commit what nobody took'},
  client_fqdn: {code: 81, type: 'bytes', owned: 'Ingot keeps no DNS'},
  relay_agent_information: {code: 82, type: 'suboptions', owned: ECHOED},
  isns: {code: 83, type: 'bytes'},
  nds_servers: {code: 85, type: 'ips'},
  nds_tree: {code: 86, type: 'text'},
  nds_context: {code: 87, type: 'text'},
  bcmcs_domains: {code: 88, type: 'domains'},
  bcmcs_servers: {code: 89, type: 'ips'},
  authentication: {code: 90, type: 'bytes', owned: 'there is no key to sign it with'},
  client_last_transaction: {code: 91, type: 'u32', owned: 'it belongs to lease queries'},
  associated_ip: {code: 92, type: 'ips', owned: 'it belongs to lease queries'},
  client_architecture: {code: 93, type: 'u16s', owned: ECHOED},
  client_network_interface: {code: 94, type: 'bytes', length: 3, owned: ECHOED},
  ldap: {code: 95, type: 'text'},
  client_machine_identifier: {code: 97, type: 'bytes', length: 17, owned: ECHOED},
  user_authentication_servers: {code: 98, type: 'text'},
  geoconf_civic: {code: 99, type: 'bytes'},
  posix_timezone: {code: 100, type: 'text'},
  tzdb_timezone: {code: 101, type: 'text'},
  ipv6_only_preferred: {code: 108, type: 'u32'},
  netinfo_servers: {code: 112, type: 'ips'},
  netinfo_tag: {code: 113, type: 'text'},
  captive_portal: {code: 114, type: 'text'},
  auto_configure: {code: 116, type: 'u8', most: 1},
  name_service_search: {code: 117, type: 'u16s'},
  subnet_selection: {code: 118, type: 'ip', owned: BY_CLIENTS},
  domain_search: {code: 119, type: 'domains'},
  sip_servers: {code: 120, type: 'bytes'},
  classless_routes: {code: 121, type: 'routes'},
  cablelabs: {code: 122, type: 'suboptions'},
  geoconf: {code: 123, type: 'bytes', length: 16},
  vendor_identifying_class: {code: 124, type: 'bytes'},
  vendor_identifying_options: {code: 125, type: 'bytes'},
  pana_agents: {code: 136, type: 'ips'},
  lost_server: {code: 137, type: 'domains'},
  capwap_controllers: {code: 138, type: 'ips'},
  sip_ua_domains: {code: 141, type: 'domains'},
  andsf_servers: {code: 142, type: 'ips'},
  sztp_redirect: {code: 143, type: 'bytes'},
  geoloc: {code: 144, type: 'bytes', length: 16},
  forcerenew_nonce: {code: 145, type: 'bytes', owned: 'Ingot sends no FORCERENEW'},
  rdnss_selection: {code: 146, type: 'bytes'},
  dots_ri: {code: 147, type: 'domains'},
  dots_addresses: {code: 148, type: 'ips'},
  tftp_server_addresses: {code: 150, type: 'ips', owned: FROM_LOADER},
  mud_url: {code: 161, type: 'text'},
  dnr: {code: 162, type: 'bytes'},
  ipxe: {code: 175, type: 'suboptions', owned: 'it tells iPXE that there is no other server to wait for'},
  pxelinux_magic: {code: 208, type: 'bytes', length: 4},
  pxelinux_config_file: {code: 209, type: 'text'},
  pxelinux_path_prefix: {code: 210, type: 'text'},
  pxelinux_reboot_time: {code: 211, type: 'u32'},
  sixrd: {code: 212, type: 'bytes'},
  access_network_domain: {code: 213, type: 'domains'},
  subnet_allocation: {code: 220, type: 'bytes', owned: 'Ingot hands no subnets to DHCP clients'},
  virtual_subnet_selection: {code: 221, type: 'bytes', owned: BY_CLIENTS},
  microsoft_classless_routes: {code: 249, type: 'routes'},
  wpad_url: {code: 252, type: 'text'},
} as const satisfies Record<string, OptionRow>

export type OptionName = keyof typeof OPTIONS
type ValueOf<N extends OptionName> = OptionTypes[(typeof OPTIONS)[N]['type']]
export type Options = ReadonlyMap<number, Uint8Array>

/** Suboptions of option 82 that mean something here (RFC 3046, 3527, 5107). */
export const RELAY_SUBOPTIONS = {circuit_id: 1, remote_id: 2, link_selection: 5, server_identifier_override: 11} as const
/** Suboption of iPXE's option 175 that says "there is no ProxyDHCP; do not wait for one". */
export const IPXE_NO_PROXY = 176

export const MESSAGE_TYPES = ['', 'DISCOVER', 'OFFER', 'REQUEST', 'DECLINE', 'ACK', 'NAK', 'RELEASE', 'INFORM'] as const
export type MessageType = Exclude<(typeof MESSAGE_TYPES)[number], ''>

/** The option's value; undefined when it is absent or its length is not one its type may have. */
export function readOption<N extends OptionName>(options: Options, name: N): ValueOf<N> | undefined {
  const row: OptionRow = OPTIONS[name]
  const bytes = options.get(row.code)
  if (bytes === undefined || (row.length !== undefined && bytes.length !== row.length)) return undefined
  return CODECS[row.type].decode(bytes) as ValueOf<N> | undefined
}

/** Adds an option to a reply in the making; a later value replaces an earlier one. */
export function writeOption<N extends OptionName>(options: Map<number, Uint8Array>, name: N, value: ValueOf<N>): void {
  const row: OptionRow = OPTIONS[name]
  const codec: Codec<unknown> = CODECS[row.type]
  options.set(row.code, codec.encode(value))
}

/** Every option by name, with a value fit for JSON; one that is unknown or malformed shows its bytes. */
export function describeOptions(options: Options): Record<string, unknown> {
  const described: Record<string, unknown> = {}
  for (const [code, bytes] of options) {
    const name = optionName(code)
    const value = name === undefined ? undefined : readOption(options, name)
    described[name ?? `option_${code}`] = value === undefined ? hexColon(bytes) : describeValue(name, value)
  }
  return described
}

export function optionName(code: number): OptionName | undefined {
  return NAMES.get(code)
}

export function isOptionName(word: string): word is OptionName {
  return Object.hasOwn(OPTIONS, word)
}

const NAMES: ReadonlyMap<number, OptionName> = new Map(
  (Object.keys(OPTIONS) as OptionName[]).map(name => [OPTIONS[name].code, name] as const),
)

function describeValue(name: OptionName | undefined, value: unknown): unknown {
  if (name === 'message_type' && typeof value === 'number') return MESSAGE_TYPES[value] || value
  if (value instanceof Uint8Array) return hexColon(value)
  if (value instanceof Map) return Object.fromEntries([...value].map(([code, bytes]) => [code, hexColon(bytes)]))
  return typeof value === 'string' ? printable(value) : value
}
