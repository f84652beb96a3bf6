/** `ingot ip …`: prefixes and addresses. Each file of verbs adds its own. */
import {Command} from 'commander'
import {addAllocationVerbs} from './ip-allocations.ts'
import {addExchangeVerbs} from './ip-exchange.ts'
import {addPlaceVerbs} from './ip-places.ts'
import {addPrefixVerbs} from './ip-prefixes.ts'

export function ipCommand(): Command {
  const ip = new Command('ip').description('prefixes and addresses')
  addPrefixVerbs(ip)
  addAllocationVerbs(ip)
  addPlaceVerbs(ip)
  addExchangeVerbs(ip)
  return ip
}
