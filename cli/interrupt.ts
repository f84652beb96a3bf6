/** Ctrl-C while something is followed: what goes on elsewhere goes on, and this program ends without a word of stack. */

/**
 * Runs `work` until it ends or SIGINT or SIGTERM comes, which aborts its signal.
 * @returns whether it was interrupted
 */
export async function untilInterrupted(work: (signal: AbortSignal) => Promise<void>): Promise<boolean> {
  const interrupted = new AbortController()
  const abort = () => interrupted.abort()
  process.once('SIGINT', abort)
  process.once('SIGTERM', abort)
  try {
    await work(interrupted.signal)
  } catch (error) {
    if (!interrupted.signal.aborted) throw error
  } finally {
    process.off('SIGINT', abort)
    process.off('SIGTERM', abort)
  }
  return interrupted.signal.aborted
}
