/** The states of a machine, what each means, and which of them last. Pure. */

export const STATES = {
  discovered: {stable: true, meaning: 'Known by a MAC address; nothing about its hardware is recorded.'},
  inspecting: {stable: false, meaning: 'The ramdisk looks at the hardware. Nothing is written to any disk.'},
  enrolled: {stable: true, meaning: 'Its facts are recorded; its disks are as they were found.'},
  testing: {stable: false, meaning: 'The ramdisk burns it in. Its disks are only read.'},
  cleaning: {stable: false, meaning: 'Its disks are being wiped and read back.'},
  available: {stable: true, meaning: 'Its disks are proven wiped; it waits to be provisioned.'},
  reserved: {stable: true, meaning: 'Like available, but kept for somebody until a time.'},
  provisioning: {stable: false, meaning: 'It is being turned into a host.'},
  active: {stable: true, meaning: 'It runs as somebody’s host and boots from its own disk.'},
  servicing: {stable: false, meaning: 'Its host is down while the ramdisk stays for somebody’s work on the hardware.'},
  rescue: {stable: false, meaning: 'The ramdisk stays with a shell, for somebody to look and mend.'},
  failed: {stable: true, meaning: 'A job ended badly; the job names the cause and the mend. It boots from its own disk.'},
  retired: {stable: true, meaning: 'It is out of service; it holds no address and no secret.'},
} as const satisfies Record<string, {stable: boolean; meaning: string}>

export type State = keyof typeof STATES

export const ALL_STATES = Object.keys(STATES) as State[]
export const UNSTABLE_STATES = ALL_STATES.filter(state => !STATES[state].stable)

export function isState(text: string): text is State {
  return text in STATES
}
