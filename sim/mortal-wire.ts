/** The wire role, mortal at every boundary. */

import type {PreparedRole, RoleStart} from '../services/supervisor/roles.ts'
import {prepare as prepareReal} from '../services/supervisor/wire.ts'
import {mortalSeams} from './death.ts'

export function prepare(start: RoleStart): Promise<PreparedRole> {
  return prepareReal({...start, seams: mortalSeams(start)})
}
