/**
 * The C library calls that Node does not offer, through koffi. Linux and glibc or musl only; loaded at first use, so that importing
 * this file costs nothing. Every call that fails throws a `SystemCallError` with its errno.
 */
import {constants} from 'node:os'
import koffi from 'koffi'

/** A failed system call: which one, on what, and the errno's name, as Node's own errors carry it. */
export class SystemCallError extends Error {
  readonly code: string
  readonly syscall: string

  constructor(syscall: string, errno: number) {
    const code = errnoName(errno)
    super(`${syscall}: ${code}`)
    this.name = 'SystemCallError'
    this.code = code
    this.syscall = syscall
  }
}

const PROTOTYPES = {
  socket: 'int socket(int domain, int type, int protocol)',
  setsockopt: 'int setsockopt(int fd, int level, int name, const void *value, uint32_t length)',
  getsockopt: 'int getsockopt(int fd, int level, int name, void *value, void *length)',
  bind: 'int bind(int fd, const void *address, uint32_t length)',
  connect: 'int connect(int fd, const void *address, uint32_t length)',
  listen: 'int listen(int fd, int backlog)',
  flock: 'int flock(int fd, int operation)',
  close_range: 'int close_range(unsigned int first, unsigned int last, int flags)',
  prctl: 'int prctl(int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d)',
} as const

type CallName = keyof typeof PROTOTYPES
type Argument = number | Uint8Array
const loaded = new Map<string, (...args: Argument[]) => number>()
let library: ReturnType<typeof koffi.load> | undefined

/** Calls one of `PROTOTYPES`; its result, or a `SystemCallError` when that is negative. */
export function call(name: CallName, ...args: Argument[]): number {
  const result = find(name, PROTOTYPES[name])(...args)
  if (result < 0) throw new SystemCallError(name, koffi.errno())
  return result
}

/** The kernel's number of a network interface; undefined when there is none of that name in this network namespace. */
export function interfaceIndex(name: string): number | undefined {
  const lookUp = find('if_nametoindex', 'unsigned int if_nametoindex(const char *name)')
  return lookUp(Buffer.from(`${name}\0`)) || undefined
}

function find(name: string, prototype: string): (...args: Argument[]) => number {
  const known = loaded.get(name)
  if (known) return known
  library ??= koffi.load(null)
  const made = library.func(prototype) as (...args: Argument[]) => number
  loaded.set(name, made)
  return made
}

function errnoName(errno: number): string {
  const entry = Object.entries(constants.errno).find(([, number]) => number === errno)
  return entry?.[0] ?? `errno ${errno}`
}
