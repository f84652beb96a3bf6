/** Keeps what is free of each container: prefixes take out of it, and give back to it when they go. The maths is in free-space.ts. */
import type {Cidr} from '../../lib/addresses.ts'
import type {Db, Tx} from '../../lib/db.ts'
import {buddyOf, doubleOf, freeAround, lowestIn, without} from './free-space.ts'
import * as tree from './store/tree.ts'
import {inTx} from './store.ts'

type Placed = {readonly id: string; readonly vrf: string; readonly cidr: Cidr; readonly status: string}

/** Locks what a new or a vanishing prefix changes of the tree. @returns the container around it */
export async function lockPlace(tx: Tx, place: Omit<Placed, 'id'>): Promise<tree.ContainerRow | undefined> {
  await tree.lockStructure(tx, place.vrf, place.status === 'container' ? 'alone' : 'shared')
  return await tree.lockParent(tx, place.vrf, place.cidr)
}

/** Takes a new prefix out of what was free around it. */
export async function takePlace(tx: Tx, placed: Placed, parent: tree.ContainerRow | undefined): Promise<void> {
  const isContainer = placed.status === 'container'
  if (!parent) {
    if (isContainer) {
      await tree.insertFree(tx, placed.id, freeAround(placed.cidr, await tree.selectChildren(tx, placed.vrf, placed.cidr)))
    }
    return
  }
  const block = await tree.lockFreeAround(tx, parent.id, placed.cidr)
  if (block) {
    await splitBlock(tx, parent.id, block, placed.cidr)
    if (isContainer) await tree.insertFree(tx, placed.id, [placed.cidr])
  } else if (isContainer) await tree.moveFree(tx, parent.id, placed.id, placed.cidr)
}

/** @returns the network of this length that fits best, now no longer free; undefined when there is none */
export async function takeBestFit(tx: Tx, containerId: string, length: number, now: Date): Promise<Cidr | undefined> {
  const block = await tree.selectBestFit(tx, containerId, length, now)
  if (!block) return undefined
  const cidr = lowestIn(block.cidr, length)
  await splitBlock(tx, containerId, block, cidr)
  return cidr
}

export async function splitBlock(tx: Tx, containerId: string, block: tree.FreeBlock, taken: Cidr): Promise<void> {
  await tree.deleteFree(tx, containerId, block.cidr)
  const marks = block.freed_at ? {at: block.freed_at, coolUntil: block.cool_until} : undefined
  await tree.insertFree(tx, containerId, without(block.cidr, taken), marks)
}

/** Gives a network back to its container. While it cools it joins no other. */
export async function giveBack(
  tx: Tx,
  container: tree.ContainerRow,
  cidr: Cidr,
  now: Date,
  cooling?: {at: Date; coolUntil: Date},
): Promise<void> {
  if (cooling) await tree.insertFree(tx, container.id, [cidr], cooling)
  else await join(tx, container, cidr, now)
}

/** A container that goes leaves its free blocks, and its children, to the one around it. */
export async function leaveToParent(tx: Tx, gone: Placed, parent: tree.ContainerRow | undefined, now: Date): Promise<void> {
  if (!parent) return
  await tree.moveFree(tx, gone.id, parent.id, gone.cidr)
  // Only a container that was free altogether can join a block outside of it.
  const whole = await tree.deleteQuietFree(tx, parent.id, gone.cidr, now)
  if (whole) await join(tx, parent, gone.cidr, now)
}

/** Lets blocks that have cooled down join their neighbours. @returns how many had */
export function settleFreeBlocks(db: Db, now: Date): Promise<number> {
  return inTx(db, async tx => {
    const cooled = await tree.selectCooledBlocks(tx, now, BLOCKS_AT_ONCE)
    const containers = [...new Set(cooled.map(block => block.container_id))].toSorted()
    for (const id of containers) await tree.lockContainer(tx, id)
    let settled = 0
    for (const block of cooled) {
      const gone = await tree.deleteQuietFree(tx, block.container_id, block.cidr, now)
      if (!gone) continue
      settled++
      await join(tx, {id: block.container_id, cidr: undefined}, block.cidr, now, gone.freed_at)
    }
    return settled
  })
}

const BLOCKS_AT_ONCE = 500

/** Joins a free network with its buddy as long as that is free too. */
async function join(
  tx: Tx,
  container: {id: string; cidr: Cidr | undefined},
  cidr: Cidr,
  now: Date,
  freedAt: Date | null = null,
): Promise<void> {
  let block = cidr
  let freed = freedAt
  while (block !== container.cidr) {
    const buddy = buddyOf(block)
    const joined = buddy && (await tree.deleteQuietFree(tx, container.id, buddy, now))
    if (!joined) break
    if (joined.freed_at && (!freed || joined.freed_at > freed)) freed = joined.freed_at
    block = doubleOf(block)
  }
  await tree.insertFree(tx, container.id, [block], freed ? {at: freed, coolUntil: null} : undefined)
}
