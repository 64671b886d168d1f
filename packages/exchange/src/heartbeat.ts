/** Finds out that the other side is gone, by ticks rather than by the clock: a busy event loop is not a dead peer. */
export interface Heartbeat {
  /** From now on silence may last so long, in ms. */
  allow(deadMs: number): void
  stop(): void
}

/** Ticks in which nothing may come before the other side counts as gone. */
export const MISSED_TICKS = 4

/**
 * Calls `beat` every quarter of `deadMs`, and `dead` once when {@link MISSED_TICKS} ticks in a row saw no change of
 * `progress`.
 */
export function createHeartbeat(options: {
  /** How long silence may last, in ms, give or take a quarter. */
  readonly deadMs: number
  /** A number that changes when the other side shows life. */
  readonly progress: () => number
  readonly beat: () => void
  readonly dead: () => void
}): Heartbeat {
  const { progress, beat, dead } = options
  let seen = progress()
  let missed = 0
  const tick = () => {
    const now = progress()
    missed = now === seen ? missed + 1 : 0
    seen = now
    if (missed < MISSED_TICKS) return beat()
    clearInterval(timer)
    dead()
  }
  let timer = setInterval(tick, options.deadMs / MISSED_TICKS)
  return {
    allow: deadMs => {
      clearInterval(timer)
      missed = 0
      timer = setInterval(tick, deadMs / MISSED_TICKS)
    },
    stop: () => clearInterval(timer),
  }
}
