/** A signal with a time limit of its own. Dispose of it when the work is over: `using deadline = withTimeout(...)`. */
export interface Deadline extends Disposable {
  /** Aborts with the parent's reason, or with the timeout's error. */
  readonly signal: AbortSignal
  /** Starts the time limit again, as when a byte arrived. Nothing happens once aborted or disposed of. */
  refresh(): void
}

/**
 * A signal that aborts when `parent` does, or `ms` after the start or the last {@link Deadline.refresh}, whichever
 * is first. It holds a timer and a listener until it is disposed of or aborts.
 */
export function withTimeout(parent: AbortSignal | undefined, ms: number, onTimeout: () => Error): Deadline {
  const controller = new AbortController()
  const timer = setTimeout(() => end(onTimeout()), ms)
  const onParent = () => end(parent?.reason)
  const dispose = () => {
    clearTimeout(timer)
    parent?.removeEventListener('abort', onParent)
  }
  const end = (reason: unknown) => {
    disposed = true
    dispose()
    controller.abort(reason)
  }
  let disposed = false
  if (parent?.aborted) onParent()
  else parent?.addEventListener('abort', onParent, { once: true })
  return {
    signal: controller.signal,
    refresh: () => {
      if (!disposed) timer.refresh()
    },
    [Symbol.dispose]: () => {
      disposed = true
      dispose()
    },
  }
}

/** Resolves after `ms`; rejects with the signal's reason as soon as it aborts. Keeps the process alive meanwhile. */
export function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const onAbort = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** The promise's outcome, or the signal's reason if it aborts first; the promise's own work is not stopped. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    const leave = () => signal.removeEventListener('abort', onAbort)
    promise.then(
      value => {
        leave()
        resolve(value)
      },
      error => {
        leave()
        reject(error)
      },
    )
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
}
