/** Frees the host addresses of a machine that is proven off. */
import {freeHostAddresses} from '../endings.ts'
import type {Step} from './step.ts'

export const freeAddresses: Step = async ({services, view}) => ({
  record: {ok: true},
  commit: (tx, now) => freeHostAddresses(services, tx, view.job, now),
})
