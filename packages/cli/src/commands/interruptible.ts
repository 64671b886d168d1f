const INTERRUPTED = 130

/** Runs work whose signal aborts at SIGINT and SIGTERM. A second one ends the program as it always does. */
export async function untilSignal<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stopping = new AbortController()
  const stop = () => stopping.abort(new Error('interrupted'))
  process.once('SIGINT', stop).once('SIGTERM', stop)
  try {
    return await work(stopping.signal)
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}

/**
 * Runs a command that a signal may interrupt; resolves to its exit code, or to 130 after a word to the user.
 * @param note - what becomes of what was done so far.
 */
export async function interruptible(
  note: string,
  work: (signal: AbortSignal) => Promise<number>,
): Promise<number> {
  return await untilSignal(async signal => {
    try {
      return await work(signal)
    } catch (error) {
      if (!signal.aborted) throw error
      process.stderr.write(`darter: interrupted; ${note}\n`)
      return INTERRUPTED
    }
  })
}
