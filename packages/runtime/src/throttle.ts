import type { Clock } from './clock.ts'
import { TokenBucket } from './token-bucket.ts'

/** A limit on bytes per second that many transfers share. Where there is no limit there is no throttle. */
export interface Throttle {
  /**
   * Waits in line and resolves to how many bytes, 1 to `most`, may move now. The more others wait the fewer they are, so
   * that everyone's turn comes about every {@link TURN_MS}. Rejects with the signal's reason as soon as it aborts.
   */
  take(most: number, signal: AbortSignal): Promise<number>
  /** Someone waits now, or did within the last second: bytes are late because of this limit. */
  readonly holdsBack: boolean
}

/** How much of a rate may move at once, as the time in which it gathers, and how long a round of turns takes; ms. */
export const TURN_MS = 250
/** How long after the last wait a throttle still counts as holding back, ms. */
const AFTERMATH_MS = 1000

interface Waiter {
  readonly most: number
  readonly since: number
  readonly grant: (bytes: number) => void
}

/** How many bytes one of `waiting` gets that wants `most`. */
function portion(most: number, burstBytes: number, waiting: number): number {
  return Math.min(most, Math.max(1, Math.floor(burstBytes / waiting)))
}

/** A {@link Throttle} at `bytesPerSecond` (at least 1000 / {@link TURN_MS}); the first come is the first served. */
export function createThrottle(options: {
  readonly bytesPerSecond: number
  readonly clock: Clock
  /** Called for each turn that had to be waited for, with the wait in ms. */
  readonly onWait?: (ms: number) => void
}): Throttle {
  const { bytesPerSecond, clock, onWait } = options
  const burstBytes = (bytesPerSecond * TURN_MS) / 1000
  const bucket = new TokenBucket({ bytesPerSecond, burstBytes, now: clock.now() })
  // In order, and left from anywhere in it when a transfer is called off.
  const line = new Set<Waiter>()
  let timer: NodeJS.Timeout | undefined
  let waitedAt = Number.NEGATIVE_INFINITY

  const serve = (): void => {
    clearTimeout(timer)
    for (const waiter of line) {
      const now = clock.now()
      const bytes = portion(waiter.most, burstBytes, line.size)
      if (!bucket.take(bytes, now)) {
        timer = setTimeout(serve, Math.max(1, bucket.waitMs(bytes, now)))
        return
      }
      line.delete(waiter)
      waitedAt = now
      onWait?.(now - waiter.since)
      waiter.grant(bytes)
    }
  }

  return {
    get holdsBack() {
      return line.size > 0 || clock.now() - waitedAt < AFTERMATH_MS
    },
    take: async (most, signal) => {
      signal.throwIfAborted()
      const since = clock.now()
      const atOnce = portion(most, burstBytes, 1)
      if (line.size === 0 && bucket.take(atOnce, since)) return atOnce
      return new Promise((resolve, reject) => {
        const waiter: Waiter = {
          most,
          since,
          grant: bytes => {
            signal.removeEventListener('abort', leave)
            resolve(bytes)
          },
        }
        const leave = () => {
          line.delete(waiter)
          serve()
          reject(signal.reason)
        }
        signal.addEventListener('abort', leave, { once: true })
        line.add(waiter)
        if (line.size === 1) serve()
      })
    },
  }
}

/** One throttle for bytes to which two limits apply; undefined when neither does. */
export function chainThrottles(
  first: Throttle | undefined,
  second: Throttle | undefined,
): Throttle | undefined {
  if (first === undefined || second === undefined) return first ?? second
  /** What the first allowed and the second did not yet. */
  let unused = 0
  return {
    get holdsBack() {
      return first.holdsBack || second.holdsBack
    },
    take: async (most, signal) => {
      const saved = Math.min(most, unused)
      unused -= saved
      const allowed = saved > 0 ? saved : await first.take(most, signal)
      let taken = 0
      try {
        taken = await second.take(allowed, signal)
        return taken
      } finally {
        unused += allowed - taken
      }
    },
  }
}
