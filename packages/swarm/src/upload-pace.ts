/** What {@link UploadPace} starts from; times in ms. */
const FIRST_INTERVAL_MS = 500
const MIN_PATIENCE_MS = 10
const PATIENCE_FACTOR = 2
const INTERVAL_WEIGHT = 0.2
/** Chunks after which it looks whether one transfer less will do as well, or one more is needed. */
const LOOK_AFTER = 16
const TOOK_WEIGHT = 0.1
/** The least that a chunk took is measured anew so often, ms: with few on their way, for the queue here is no part of it. */
const LEAST_MS = 10_000
/** One transfer less when chunks take this many times as long as would call for one more. */
const TOO_SLOW = 1.5

/**
 * How many chunks are on their way at the same moment. The fewer the better for a swarm: a chunk can be passed on only when it
 * is whole, so that two that share an uplink are both as late as the second one. Who hears of an arrival only later than the
 * last byte has left needs a second one, or the uplink idles meanwhile. But one slow receiver must not idle
 * the uplink: when no chunk has ended for much longer than one takes, one more may be sent beside it. And where the word of an arrival
 * takes long for other reasons than the queue here (distance, receivers that are busy), more are needed to fill the uplink: there is
 * one more as long as chunks take less than `queueRatio` times the least that one took lately (as TCP Vegas judges its window).
 */
export class UploadPace {
  readonly #least: number
  readonly #max: number
  #allowed: number
  #sending = 0
  #intervalMs = 0
  #lastEvent = 0
  #since = 0
  /** Somebody had to wait since it last looked. */
  #scarce = false
  #tookMs = 0
  /** The least that a chunk took since it was measured anew. */
  #leastMs = Number.POSITIVE_INFINITY
  #measuredAt = 0
  /** How many may be on their way again when the least has been measured. */
  #resume: number | undefined
  readonly #queueRatio: number

  /** @param least as many may always be on their way. @param max the most at the same moment. @param queueRatio at least 1. */
  constructor(least: number, max: number, queueRatio: number) {
    this.#least = Math.min(least, max)
    this.#allowed = this.#least
    this.#max = max
    this.#queueRatio = queueRatio
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
    // Chunks that share an uplink end in bursts: none ends for about as long as one takes, and nothing is held up.
    const usual = Math.max(this.#intervalMs, this.#tookMs)
    const patience = Math.max(MIN_PATIENCE_MS, PATIENCE_FACTOR * (usual || FIRST_INTERVAL_MS))
    this.#scarce = true
    if (now - this.#lastEvent < patience || this.#allowed >= this.#max) return false
    this.#allowed++
    this.#since = 0
    return true
  }

  started(now: number): void {
    this.#sending++
    this.#lastEvent = now
  }

  /** A chunk that was begun at `startedAt` went out; `whole`: all of it. */
  ended(whole: boolean, startedAt: number, now: number): void {
    this.#sending--
    if (whole) {
      const interval = now - this.#lastEvent
      this.#intervalMs =
        this.#intervalMs === 0 ? interval : this.#intervalMs + INTERVAL_WEIGHT * (interval - this.#intervalMs)
      this.#took(now - startedAt)
    }
    this.#lastEvent = now
    if (++this.#since < LOOK_AFTER) return
    if (this.#resume !== undefined) this.#allowed = this.#resume
    else if (now - this.#measuredAt >= LEAST_MS) return this.#measure(now)
    else this.#adapt()
    this.#resume = undefined
    this.#since = 0
    this.#scarce = false
  }

  #adapt(): void {
    const ratio = this.#tookMs / this.#leastMs
    if (ratio < this.#queueRatio) {
      if (this.#scarce && this.#allowed < this.#max) this.#allowed++
    } else if (ratio > TOO_SLOW * this.#queueRatio && this.#allowed > this.#least) {
      this.#allowed--
    }
  }

  #measure(now: number): void {
    this.#measuredAt = now
    this.#leastMs = Number.POSITIVE_INFINITY
    this.#tookMs = 0
    this.#resume = this.#allowed
    this.#allowed = this.#least
    this.#since = 0
  }

  #took(tookMs: number): void {
    this.#tookMs = this.#tookMs === 0 ? tookMs : this.#tookMs + TOOK_WEIGHT * (tookMs - this.#tookMs)
    this.#leastMs = Math.min(this.#leastMs, Math.max(1, tookMs))
  }
}
