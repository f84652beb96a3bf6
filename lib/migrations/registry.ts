/** Every migration, in order. Forward only; one concern each; never edited once released. */
import type {Migration} from 'kysely/migration'
import * as ipam from './0001-ipam.ts'
import * as inventory from './0002-inventory.ts'
import * as evidence from './0003-evidence.ts'
import * as lifecycle from './0004-lifecycle.ts'
import * as api from './0005-api.ts'
import * as changeFeed from './0006-change-feed.ts'
import * as bootViews from './0007-boot-views.ts'
import * as dhcpModes from './0010-dhcp-modes.ts'
import * as dhcpOptions from './0011-dhcp-options.ts'
import * as blocks from './0012-blocks.ts'
import * as watching from './0014-watching.ts'
import * as ipamTree from './0020-ipam-tree.ts'
import * as ipamHoldings from './0021-ipam-holdings.ts'
import * as ipamTenants from './0022-ipam-tenants.ts'
import * as profileLinks from './0023-profile-links.ts'
import * as powerMemory from './0030-power-memory.ts'
import * as keyholders from './0031-keyholders.ts'
import * as lifecycleTable from './0032-lifecycle-table.ts'
import * as phaseTimes from './0033-phase-times.ts'
import * as groups from './0034-groups.ts'
import * as powerDrift from './0039-power-drift.ts'

export const MIGRATIONS: Record<string, Migration> = {
  '0001-ipam': ipam,
  '0002-inventory': inventory,
  '0003-evidence': evidence,
  '0004-lifecycle': lifecycle,
  '0005-api': api,
  '0006-change-feed': changeFeed,
  '0007-boot-views': bootViews,
  '0010-dhcp-modes': dhcpModes,
  '0011-dhcp-options': dhcpOptions,
  '0012-blocks': blocks,
  '0014-watching': watching,
  '0020-ipam-tree': ipamTree,
  '0021-ipam-holdings': ipamHoldings,
  '0022-ipam-tenants': ipamTenants,
  '0023-profile-links': profileLinks,
  '0030-power-memory': powerMemory,
  '0031-keyholders': keyholders,
  '0032-lifecycle-table': lifecycleTable,
  '0033-phase-times': phaseTimes,
  '0034-groups': groups,
  '0039-power-drift': powerDrift,
}
