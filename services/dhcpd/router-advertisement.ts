/**
 * A router advertisement that announces no router. iPXE configures IPv4 and IPv6 side by side and waits some 14 s for a router to speak;
 * this one (lifetime 0, no prefix) lets it go on at once and leaves every other host on the link as it was (RFC 4861 §4.2: lifetime 0 is
 * "not a default router").
 *
 * The bytes go to a raw ICMPv6 socket, already connected to ff02::1 on its interface with hop limit 255; the kernel fills the checksum.
 */
import {write} from 'node:fs'
import type {Clock} from '../../lib/clock.ts'

/** RFC 4861 §4.2: type 134, code 0, checksum, hop limit 0 (unspecified), flags, lifetime 0, reachable and retransmit time 0. */
export const ROUTER_ADVERTISEMENT: Uint8Array = Uint8Array.from([134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])

export type RouterAdvertiser = {
  /** An iPXE client spoke: one now, one a moment later for a client that had not started to listen. */
  advertise(): void
  close(): void
}

const AGAIN_MS = 300
const LEAST_GAP_MS = 20

/** @param failed told of each error of the socket; sending goes on */
export function createRouterAdvertiser(fd: number, clock: Clock, failed: (error: Error) => void): RouterAdvertiser {
  let sentMs = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  let wanted = false

  function send(): void {
    sentMs = clock.monotonicMs()
    write(fd, ROUTER_ADVERTISEMENT, error => {
      if (error) failed(error)
    })
  }
  function repeat(): void {
    timer = undefined
    send()
    if (wanted) arm()
  }
  function arm(): void {
    wanted = false
    timer = setTimeout(repeat, AGAIN_MS)
    timer.unref()
  }
  return {
    advertise() {
      if (clock.monotonicMs() - sentMs >= LEAST_GAP_MS) send()
      if (timer === undefined) arm()
      else wanted = true
    },
    close() {
      clearTimeout(timer)
      timer = undefined
    },
  }
}
