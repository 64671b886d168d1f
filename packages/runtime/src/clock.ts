/** Time as the program sees it; the simulator has another one. */
export interface Clock {
  /** Monotonic, ms; only differences mean anything. */
  now(): number
  /** Milliseconds since the Unix epoch. */
  wall(): number
}

/** The machine's clock. */
export const systemClock: Clock = { now: () => performance.now(), wall: () => Date.now() }
