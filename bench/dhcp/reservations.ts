/** 60 000 machines with reservations and 60 000 dynamic leases, put straight into Ingot's database. */
import {readFileSync} from 'node:fs'
import type {Mac} from '../../lib/addresses.ts'
import type {RunningIngot} from './ingot.ts'

export const RESERVED_BASE = '00:0c:01:02:03:04' as Mac
export const LEASED_BASE = '00:0d:01:02:03:04' as Mac

const SQL = new URL('many.sql', import.meta.url)

export async function declareMany(ingot: RunningIngot): Promise<void> {
  await ingot.query(readFileSync(SQL, 'utf8'))
  // dhcpd reads what clients have at its start.
  await ingot.restart()
}
