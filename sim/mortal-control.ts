/** The control role, mortal at every boundary. */
import {prepare as prepareReal} from '../services/supervisor/control.ts'
import type {PreparedRole, RoleStart} from '../services/supervisor/roles.ts'
import {mortalSeams} from './death.ts'

export function prepare(start: RoleStart): Promise<PreparedRole> {
  return prepareReal({...start, seams: mortalSeams(start)})
}
