/** Reasons that are put into words only when somebody reads them: most packets are answered unread, and words cost more than the answer. */
import type {Reason} from '../../lib/decision.ts'

export type Because = (rule: string, tell: () => string, source?: string) => void

export function createLazyReasons(): {readonly because: Because; list(): readonly Reason[]} {
  const told: {readonly rule: string; readonly tell: () => string; readonly source: string | undefined}[] = []
  return {
    because: (rule, tell, source) => void told.push({rule, tell, source}),
    list: () =>
      told.map(({rule, tell, source}) => (source === undefined ? {rule, because: tell()} : {rule, because: tell(), source})),
  }
}
