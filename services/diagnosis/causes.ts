/**
 * What can go wrong on a boot network and be seen in a capture: each cause by its code, what it means, and what to do about it.
 * The one table: `ingot explain --pcap`, the API and docs/captures.md show it. Its finders are listed in `finders.ts`.
 */

type CauseRow = {
  /** `failure`: the boot stopped there. `slow`: it went on, and lost time. `notice`: not wrong yet. */
  readonly weight: 'failure' | 'slow' | 'notice'
  readonly title: string
  readonly mend: string
}

export const CAUSES = {
  NO_DHCP_ANSWER: {
    weight: 'failure',
    title: 'it asked for an address and nobody answered',
    mend: 'Look what Ingot says of the DISCOVER above; if it would answer, the packet does not reach it: check VLAN, relay and interface.',
  },
  UNKNOWN_MACHINE: {
    weight: 'failure',
    title: 'nobody declared this MAC, and no enrolment window is open',
    mend: 'Declare it with `ingot machines add`, or open a window with `ingot windows open <prefix>`.',
  },
  RELAY_NOT_LISTED: {
    weight: 'failure',
    title: 'it speaks through a relay that no prefix lists',
    mend: 'If the relay is yours, list it with `ingot ip set <prefix> --relay <address>`; else find out whose it is.',
  },
  LINK_NOT_SERVED: {
    weight: 'failure',
    title: 'no prefix with a boot URL is served on its link',
    mend: 'Add the prefix with `ingot ip add <cidr> --boot-url <url>`; or plug the machine where it belongs.',
  },
  OFFER_NEVER_REQUESTED: {
    weight: 'failure',
    title: 'it was offered an address and never asked for it',
    mend: 'The offer did not reach it or did not please it: see whether it was sent to where the client listens, and what it lacks.',
  },
  NO_BOOT_FILE: {
    weight: 'failure',
    title: 'a network boot got an address but no boot file',
    mend: 'The server that answered does not know about booting: let Ingot answer, or set `next-server` and file there.',
  },
  HTTP_OFFER_INCOMPLETE: {
    weight: 'failure',
    title: 'UEFI HTTP boot was offered no URL, or not the word HTTPClient',
    mend: 'It wants option 60 `HTTPClient` and a whole URL in option 67, as Ingot sends them: which server sent this?',
  },
  TWO_DHCP_SERVERS: {
    weight: 'notice',
    title: 'more than one DHCP server answers it',
    mend: 'Keep one on this link, or `ingot ip set <prefix> --dhcp proxy`, so that Ingot only adds what booting needs.',
  },
  OTHER_SERVER_CHOSEN: {
    weight: 'failure',
    title: 'it took the offer of another DHCP server',
    mend: 'Switch the other server off on this link (its address is given), or let both live with `ingot ip set <prefix> --dhcp proxy`.',
  },
  REQUEST_REFUSED: {
    weight: 'failure',
    title: 'its request was refused (NAK)',
    mend: 'It asked for an address that is not its own here, often one remembered from another link; it should begin anew with DISCOVER.',
  },
  REQUEST_UNANSWERED: {
    weight: 'failure',
    title: 'it asked for the address it was offered, and got no answer',
    mend: 'The lease could not be committed: is the database there? `ingot events` and the log of wire say so.',
  },
  OFFER_TOO_LARGE: {
    weight: 'failure',
    title: 'a DHCP answer was larger than the client takes',
    mend: 'It travels as IP fragments or passes option 57: send fewer options, or shorter ones.',
  },
  TWO_CLIENT_KEYS: {
    weight: 'notice',
    title: 'it shows several client identifiers (option 61)',
    mend: 'Harmless with Ingot, which goes by the MAC; a server that goes by the identifier may give it several addresses.',
  },
  TWO_ADDRESSES: {
    weight: 'failure',
    title: 'one machine was given several addresses on the way',
    mend: 'The server goes by client identifier and not by MAC. Ingot gives one address; with others, match by hardware address.',
  },
  DUPLICATE_MAC: {
    weight: 'failure',
    title: 'two machines use the same MAC',
    mend: 'The UUIDs or switch ports given alternate under one MAC: change the MAC of one of the two.',
  },
  ADDRESS_CONFLICT: {
    weight: 'failure',
    title: 'its address is in use by somebody else',
    mend: 'Find the device by the MAC given, and give it another address; then free this one with `ingot ip`.',
  },
  CHAIN_LOOP: {
    weight: 'failure',
    title: 'iPXE was given its own loader again instead of a script',
    mend: 'The server ignores user class 77 `iPXE`: let Ingot answer, or give iPXE the script URL there.',
  },
  TFTP_NO_ANSWER: {
    weight: 'failure',
    title: 'it asked for a file by TFTP and got no answer',
    mend: 'Is TFTP served at that address, and does a firewall let answers come from another port than 69?',
  },
  TFTP_FILE_MISSING: {
    weight: 'failure',
    title: 'the boot file is not there',
    mend: 'Build loaders with `ingot images build`, or correct the name that DHCP hands out.',
  },
  TFTP_STOPS: {
    weight: 'failure',
    title: 'a transfer stopped in the middle',
    mend: 'The same block was sent again and again without being acknowledged: look at loss, duplex and firewalls on the way.',
  },
  TFTP_MTU: {
    weight: 'failure',
    title: 'a transfer stops at its first full block: frames of that size do not get through',
    mend: 'Some link on the way has a smaller MTU (tunnel, VLAN on old switches): raise it, or serve a smaller block size.',
  },
  LOADER_REFUSED: {
    weight: 'failure',
    title: 'the loader was fetched whole and never ran',
    mend: 'Is it the loader for this architecture? A BIOS cannot run an .efi file, nor UEFI a .kpxe.',
  },
  SECURE_BOOT_REFUSED: {
    weight: 'failure',
    title: 'UEFI fetched the loader and went on to the next boot option: Secure Boot refused it',
    mend: 'Switch Secure Boot off for network boots, or boot shim and a signed GRUB: our iPXE is not signed.',
  },
  SCRIPT_NEVER_FETCHED: {
    weight: 'failure',
    title: 'iPXE got the script’s URL and never fetched it',
    mend: 'Can the machine reach that address and port? Check the boot URL of the prefix, its gateway, and firewalls.',
  },
  BOOT_SERVER_SILENT: {
    weight: 'failure',
    title: 'the boot server does not accept the connection',
    mend: 'Is `ingot serve` running there, and TCP 8480 (or the port of the boot URL) open to this network?',
  },
  BOOT_URL_OUT_OF_REACH: {
    weight: 'failure',
    title: 'the boot server is on another network, and the machine got no router',
    mend: '`ingot ip set <prefix> --gateway <address>`, or a `--boot-url` inside of it.',
  },
  HTTP_REFUSED: {
    weight: 'failure',
    title: 'the boot server refused a file',
    mend: 'See the status and what Ingot would answer now: `ingot explain <machine> --stage loader` has the reasons.',
  },
  NO_DNS: {
    weight: 'failure',
    title: 'an installer got no DNS server, or no router',
    mend: 'It stops and asks a person: `ingot ip set <prefix> --dns <address> --gateway <address>`.',
  },
  NO_ROUTER_ADVERTISEMENT: {
    weight: 'slow',
    title: 'iPXE waits some 14 s for a router to advertise itself',
    mend: 'Let Ingot send one: `ingot ip set <prefix> --ra`.',
  },
  WAITS_FOR_PROXY: {
    weight: 'slow',
    title: 'iPXE waits some 3 s for a proxy DHCP server',
    mend: 'The answer lacks option 175 suboption 176, which Ingot sends: let Ingot answer.',
  },
  ONLY_DHCPV6: {
    weight: 'failure',
    title: 'it asks for an IPv6 address only, and nobody answers',
    mend: 'Ingot boots over IPv4: switch IPv4 network boot on in the firmware, before IPv6.',
  },
} as const satisfies Record<string, CauseRow>

export type CauseCode = keyof typeof CAUSES

/** A cause found in a capture. */
export type Finding = {
  readonly cause: CauseCode
  readonly mac: string | null
  /** What was seen, with names and values. */
  readonly detail: string
  /** The packets that show it, as Wireshark numbers them. */
  readonly packets: readonly number[]
}
