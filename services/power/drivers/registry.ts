/** Every power driver. One file in this folder adds one; list it here. */
import type {PowerDriver} from './driver.ts'
import {ipmiDriver} from './ipmi.ts'
import {manualDriver} from './manual.ts'

export const DRIVERS: readonly PowerDriver[] = [ipmiDriver, manualDriver]
