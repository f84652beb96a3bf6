/** Every finder: a pure function of one machine's story. To add one, write it, list it here, and give its cause a row in `causes.ts`. */
import type {Finding} from './causes.ts'
import * as boot from './find-boot.ts'
import * as dhcp from './find-dhcp.ts'
import * as identity from './find-identity.ts'
import type {Story} from './story.ts'

export const FINDERS: readonly ((story: Story) => Finding[])[] = [
  dhcp.findUnanswered,
  dhcp.findUnrequested,
  dhcp.findLackingBoot,
  dhcp.findSeveralServers,
  dhcp.findOtherServer,
  dhcp.findRefused,
  dhcp.findUnacknowledged,
  dhcp.findTooLarge,
  dhcp.findWithoutDns,
  dhcp.findProxyWait,
  identity.findClientKeys,
  identity.findAddresses,
  identity.findDuplicateMac,
  identity.findConflict,
  boot.findChainLoop,
  boot.findSilentTftp,
  boot.findMissingFile,
  boot.findStoppedTransfer,
  boot.findRefusedLoader,
  boot.findUnfetchedScript,
  boot.findRefusedRequest,
  boot.findMissingAdvertisement,
  boot.findOnlyDhcpv6,
]
