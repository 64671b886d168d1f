import type { Random } from './random.ts'

/** How long to wait before another try. */
export interface Backoff {
  /** The wait before the next try, in ms: random from 0 to a bound that doubles with each call ("full jitter"). */
  next(): number
  /** Starts again from the smallest bound, as after a success. */
  reset(): void
}

/** Exponential back-off with full jitter: the bound starts at `baseMs` and never exceeds `maxMs`. */
export function createBackoff(options: {
  readonly baseMs: number
  readonly maxMs: number
  readonly random: Random
}): Backoff {
  const { baseMs, maxMs, random } = options
  let bound = Math.min(baseMs, maxMs)
  return {
    next: () => {
      const wait = random() * bound
      bound = Math.min(maxMs, bound * 2)
      return wait
    },
    reset: () => {
      bound = Math.min(baseMs, maxMs)
    },
  }
}
