/** So many chunks are reported at once, whenever the last report was. */
const AT_CHUNKS = 8
/**
 * Between reports of chunks from the origin, ms, while fewer come. The scheduler foresees by them when a lease ends, so that
 * they say little when they come late; but a fast origin would make thousands a second.
 */
const GAP_MS = 10
/**
 * How long the scheduler may wait to hear of chunks that came from neighbours, ms, and as a part of the silence that it allows
 * if that is longer: it decides nothing by them soon, and with thousands of peers they would be most of what it hears.
 */
const LATER_MS = 5_000
const LATER_PART = 1 / 8

/**
 * Which chunks of a blob the scheduler has not heard of, and when it is to: soon of those from the origin, which keep others
 * from being sent there; together with those or later of those from neighbours.
 */
export class HeldReports {
  #soon: number[] = []
  #later: number[] = []
  #laterSince = 0
  #reportedAt = Number.NEGATIVE_INFINITY

  /** A chunk is held now; returns whether to report right away. */
  holds(chunk: number, from: 'origin' | 'neighbour', now: number): boolean {
    if (from === 'neighbour') {
      if (this.#later.length === 0) this.#laterSince = now
      this.#later.push(chunk)
      return false
    }
    this.#soon.push(chunk)
    return this.#soon.length >= AT_CHUNKS || now - this.#reportedAt >= GAP_MS
  }

  /** A chunk is not held any more. */
  lost(chunk: number): void {
    this.#soon = this.#soon.filter(held => held !== chunk)
    this.#later = this.#later.filter(held => held !== chunk)
  }

  /** All that is not reported yet, if any of it is due; it counts as reported. `silenceMs`: how long the peer may be silent. */
  take(now: number, silenceMs: number): readonly number[] {
    const laterMs = Math.max(LATER_MS, silenceMs * LATER_PART)
    const late = this.#later.length > 0 && now - this.#laterSince >= laterMs
    if (this.#soon.length === 0 && !late) return []
    const chunks = [...this.#soon, ...this.#later]
    this.clear()
    this.#reportedAt = now
    return chunks
  }

  /** The scheduler was told all that is held in another way. */
  clear(): void {
    this.#soon = []
    this.#later = []
  }
}
