/** Every route. */
import type {Route} from '../route.ts'
import {addressPlaceRoutes} from './address-places.ts'
import {addressRoutes} from './addresses.ts'
import {allocationRoutes} from './allocations.ts'
import {ansibleRoutes} from './ansible.ts'
import {bmcRoutes} from './bmc.ts'
import {bundleRoutes} from './bundles.ts'
import {catalogueRoutes} from './catalogue.ts'
import {dhcpRoutes} from './dhcp.ts'
import {enrolmentRoutes} from './enrolment.ts'
import {explainRoutes} from './explain.ts'
import {groupRoutes} from './groups.ts'
import {jobRoutes} from './jobs.ts'
import {machineActionRoutes} from './machine-actions.ts'
import {machineHistoryRoutes} from './machine-history.ts'
import {machineRoutes} from './machines.ts'
import {tokenRoutes} from './tokens.ts'

export const ROUTES: readonly Route[] = [
  ...machineRoutes,
  ...machineHistoryRoutes,
  ...bundleRoutes,
  ...explainRoutes,
  ...machineActionRoutes,
  ...bmcRoutes,
  ...jobRoutes,
  ...groupRoutes,
  ...enrolmentRoutes,
  ...addressRoutes,
  ...allocationRoutes,
  ...addressPlaceRoutes,
  ...dhcpRoutes,
  ...catalogueRoutes,
  ...ansibleRoutes,
  ...tokenRoutes,
]
