/** A chunk that takes longer is not waited for, ms: the origin may be one that gives each of its readers little. */
const PATIENCE_MS = 500

/**
 * How many leases of one blob are at work at the same time in its first moments: the first one alone, and one more with each chunk that
 * comes. Everybody waits for the first chunk, which comes late where the origin's link is shared with other reads, and reads that begin
 * at the same moment bring their chunks at the same moment, again and again, and nothing before. No client is slower for it: one that
 * has no peer reads over one connection too.
 */
export class LeaseRamp {
  /** The most that were at work at the same time so far. */
  #opened = 0
  /** There may be one more from this time on, ms. */
  #openAt = 0

  /** Whether there may be one more lease beside those `working`. */
  mayGrant(working: number, now: number): boolean {
    return working < this.#opened || now >= this.#openAt
  }

  /** A lease was granted: so many are at work now. */
  granted(working: number, now: number): void {
    if (working <= this.#opened) return
    this.#opened = working
    this.#openAt = now + PATIENCE_MS
  }

  /** A chunk came under a lease. */
  received(): void {
    this.#openAt = 0
  }
}
