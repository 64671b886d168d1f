/** How far a lease has come. */
export interface LeaseProgress {
  /** When it was granted, ms. */
  readonly grantedAt: number
  /** When its peer last told of chunks of it, ms. */
  heardAt: number | undefined
  /** Chunks of it that its peer has not told of. */
  left: number
}

/** Of each new measurement in the averages. */
const WEIGHT = 0.2
/**
 * Leases are granted so many mean deviations of the time to a first chunk earlier, as TCP waits so many longer (RFC 6298, 2.3); at most
 * that time itself.
 */
const DEVIATIONS = 4

/**
 * When the origin will have sent what one blob's leases cover. The word that a lease has ended reaches the scheduler some
 * time after the origin's last byte, and the next lease takes as long again until its request is there: an origin that few
 * read at the same moment would idle meanwhile. So a lease counts as ending as soon as the request of one that is granted
 * now would find it ended, judged by how long others took, and how much that varies: to be a little early costs less than an origin that idles.
 */
export class LeaseForecast {
  /** From a grant to the word of its first chunk, ms; 0: not known. */
  #firstMs = 0
  /** The mean deviation of that, ms. */
  #deviationMs = 0
  /** From the word of one chunk of a lease to that of its next one, ms; 0: not known. */
  #gapMs = 0

  /** More chunks of a lease came, says its peer; the lease says what was known of it before. */
  heard(lease: Readonly<LeaseProgress>, chunks: number, now: number): void {
    if (lease.heardAt !== undefined) {
      this.#gapMs = smoothed(this.#gapMs, (now - lease.heardAt) / chunks)
      return
    }
    const tookMs = now - lease.grantedAt
    if (this.#firstMs > 0) {
      this.#deviationMs += WEIGHT * (Math.abs(tookMs - this.#firstMs) - this.#deviationMs)
    }
    this.#firstMs = smoothed(this.#firstMs, tookMs)
  }

  /** Whether the first chunk under a lease that is granted now would come after this one's last, or right behind it. */
  isEnding({ heardAt, grantedAt, left }: Readonly<LeaseProgress>, now: number): boolean {
    if (this.#gapMs === 0) return false
    const last =
      heardAt === undefined
        ? grantedAt + this.#firstMs + (left - 1) * this.#gapMs
        : heardAt + left * this.#gapMs
    const early = Math.min(this.#firstMs, DEVIATIONS * this.#deviationMs)
    return now + this.#firstMs + early - this.#gapMs >= last
  }
}

function smoothed(known: number, measured: number): number {
  return known === 0 ? measured : known + WEIGHT * (measured - known)
}
