/** A bounded number of things at the same moment, first come, first served. */
export interface Slots {
  /**
   * Resolves to true once there is room; {@link release} must follow. Resolves to false when there is none within
   * `waitMs`, or the signal aborts first.
   */
  acquire(waitMs: number, signal: AbortSignal): Promise<boolean>
  release(): void
}

/** `count` slots. */
export function createSlots(count: number): Slots {
  let free = count
  const waiting = new Set<() => void>()
  return {
    acquire: (waitMs, signal) => {
      if (signal.aborted) return Promise.resolve(false)
      if (free > 0) {
        free--
        return Promise.resolve(true)
      }
      return new Promise(resolve => {
        const settle = (got: boolean) => {
          clearTimeout(timer)
          waiting.delete(grant)
          signal.removeEventListener('abort', giveUp)
          resolve(got)
        }
        const grant = () => settle(true)
        const giveUp = () => settle(false)
        const timer = setTimeout(giveUp, waitMs)
        signal.addEventListener('abort', giveUp, { once: true })
        waiting.add(grant)
      })
    },
    release: () => {
      const [next] = waiting
      if (next === undefined) free++
      else next()
    },
  }
}
