/** What a completion code is to whoever asked: an answer, or a fault with its kind. */
import {PowerFault} from '../fault.ts'
import {COMPLETION, type Command, completionText} from './commands.ts'
import type {Reply} from './session.ts'

const CANNOT: readonly number[] = [
  0x80,
  COMPLETION.invalidCommand,
  COMPLETION.invalidForLun,
  COMPLETION.parameterOutOfRange,
  COMPLETION.invalidField,
  COMPLETION.notForThisSensor,
  COMPLETION.disabled,
]

/** The answer's data. @throws PowerFault `cannot`, `privilege` or `refused` */
export function expectDone({name}: Command, {completion, data}: Reply): Buffer {
  if (completion === 0) return data
  const answered = `${name}: the BMC answered completion code ${completionText(completion)}`
  if (completion === COMPLETION.noPrivilege) throw new PowerFault('privilege', answered)
  throw new PowerFault(CANNOT.includes(completion) ? 'cannot' : 'refused', answered)
}

/** @throws PowerFault `bad_reply` for an answer that could not be read */
export function expectReadable<T>(command: Command, value: T | undefined): T {
  if (value === undefined) throw new PowerFault('bad_reply', `${command.name}: the answer is too short`)
  return value
}
