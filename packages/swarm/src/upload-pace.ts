/** What {@link UploadPace} starts from; times in ms. */
const FIRST_INTERVAL_MS = 100
const MIN_PATIENCE_MS = 10
const PATIENCE_FACTOR = 2
const INTERVAL_WEIGHT = 0.2
/** Chunks after which it looks whether one transfer less will do as well. */
const RELAX_AFTER = 16

/**
 * How many chunks are on their way at the same moment. The fewer the better for a swarm: a chunk can be passed on only when it
 * is whole, so that two that share an uplink are both as late as the second one. Who hears of an arrival only later than the
 * last byte has left needs a second one, or the uplink idles meanwhile. But one slow receiver must not idle
 * the uplink: when no chunk has ended for much longer than usual, one more may be sent beside it.
 */
export class UploadPace {
  readonly #least: number
  readonly #max: number
  #allowed: number
  #sending = 0
  #intervalMs = 0
  #lastEvent = 0
  #since = 0

  /** @param least as many may always be on their way. @param max the most at the same moment. */
  constructor(least: number, max: number) {
    this.#least = Math.min(least, max)
    this.#allowed = this.#least
    this.#max = max
  }

  /** Chunks that are being sent. */
  get sending(): number {
    return this.#sending
  }

  /** Chunks that may be on their way, as far as is known. */
  get allowed(): number {
    return this.#allowed
  }

  /** The usual time from the end of one chunk to the end of the next one while sending, ms; 0 before the first one. */
  get intervalMs(): number {
    return this.#intervalMs
  }

  /** Whether another chunk may be sent now. */
  mayStart(now: number): boolean {
    if (this.#sending < this.#allowed) return true
    const patience = Math.max(MIN_PATIENCE_MS, PATIENCE_FACTOR * (this.#intervalMs || FIRST_INTERVAL_MS))
    if (now - this.#lastEvent < patience || this.#allowed >= this.#max) return false
    this.#allowed++
    this.#since = 0
    return true
  }

  started(now: number): void {
    this.#sending++
    this.#lastEvent = now
  }

  /** A chunk went out; `whole`: all of it. */
  ended(whole: boolean, now: number): void {
    this.#sending--
    if (whole) {
      const took = now - this.#lastEvent
      this.#intervalMs =
        this.#intervalMs === 0 ? took : this.#intervalMs + INTERVAL_WEIGHT * (took - this.#intervalMs)
    }
    this.#lastEvent = now
    if (++this.#since < RELAX_AFTER || this.#allowed === this.#least) return
    this.#allowed--
    this.#since = 0
  }
}
