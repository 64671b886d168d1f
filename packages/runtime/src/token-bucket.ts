/**
 * How many bytes may move by now at a rate: they gather with time up to a burst, and whoever moves bytes takes them.
 * Over any stretch of time no more than the burst and the rate's share of that time is taken.
 */
export class TokenBucket {
  readonly #bytesPerMs: number
  readonly #burst: number
  #bytes: number
  #at: number

  /** Full at the start. Both numbers are more than 0; `now` is in ms, as in all calls, and never goes back. */
  constructor(options: {
    readonly bytesPerSecond: number
    /** The most that gathers, in bytes. */
    readonly burstBytes: number
    readonly now: number
  }) {
    this.#bytesPerMs = options.bytesPerSecond / 1000
    this.#burst = options.burstBytes
    this.#bytes = options.burstBytes
    this.#at = options.now
  }

  /** Takes `bytes`, if so many are there. */
  take(bytes: number, now: number): boolean {
    this.#gather(now)
    if (this.#bytes < bytes) return false
    this.#bytes -= bytes
    return true
  }

  /** How long it takes until `bytes` (at most the burst) are there if nobody takes any, in whole ms. */
  waitMs(bytes: number, now: number): number {
    this.#gather(now)
    return Math.max(0, Math.ceil((bytes - this.#bytes) / this.#bytesPerMs))
  }

  #gather(now: number): void {
    this.#bytes = Math.min(this.#burst, this.#bytes + (now - this.#at) * this.#bytesPerMs)
    this.#at = now
  }
}
