/** From which of our addresses a service on an interface answers. */
import {readInterfaces} from '../../lib/interfaces.ts'

/** The address the socket is bound to, else the first IPv4 address of its interface, else none in particular. */
export function localAddressOn(socket: {readonly interface: string | undefined; readonly address: string}): string {
  if (socket.address !== '0.0.0.0' || socket.interface === undefined) return socket.address
  const found = readInterfaces().find(link => link.name === socket.interface)
  return found?.addresses[0]?.address ?? '0.0.0.0'
}
