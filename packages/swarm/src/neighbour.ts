import { Bitfield } from './bitfield.ts'
import type { ChunkLayout } from './layout.ts'

/** Seconds of requests that are kept in flight to a neighbour: enough to hide its latency, little enough to change course. */
const PIPELINE_SECONDS = 0.75
const MIN_IN_FLIGHT = 2
const MAX_IN_FLIGHT = 8
const RATE_WEIGHT = 0.25

/** What a download session knows of one neighbour. */
export class Neighbour {
  readonly id: string
  readonly held: Bitfield
  /** The sha256 that it told for each chunk that it holds. */
  readonly hashes = new Map<number, Uint8Array>()
  /** Chunks requested from it and when, ms. */
  readonly inFlight = new Map<number, number>()
  /** Nothing is requested from it before this time, ms. */
  restUntil = 0
  /** It sent bytes that did not match: it is not asked again for this blob. */
  distrusted = false
  /** Consecutive requests that it failed to serve. */
  failures = 0
  #bytesPerMs = 0
  #lastArrival = 0

  constructor(id: string, layout: ChunkLayout) {
    this.id = id
    this.held = new Bitfield(layout.count)
  }

  /** How many requests it should have in flight now. */
  pipelineDepth(chunkBytes: number): number {
    const wanted = Math.ceil((this.#bytesPerMs * 1000 * PIPELINE_SECONDS) / chunkBytes)
    return Math.min(MAX_IN_FLIGHT, Math.max(MIN_IN_FLIGHT, wanted))
  }

  /** The time that `bytes` more would take behind what is in flight, ms; undefined before the first chunk. */
  expectedMs(chunkBytes: number): number | undefined {
    return this.#bytesPerMs === 0 ? undefined : (chunkBytes * (this.inFlight.size + 1)) / this.#bytesPerMs
  }

  /** Notes that a requested chunk came, for the measured rate. */
  arrived(chunk: number, bytes: number, now: number): void {
    const requested = this.inFlight.get(chunk) ?? now
    this.inFlight.delete(chunk)
    this.failures = 0
    // Pipelined answers come one behind the other: each took the time since the one before it.
    const took = Math.max(1, now - Math.max(requested, this.#lastArrival))
    this.#lastArrival = now
    const rate = bytes / took
    this.#bytesPerMs =
      this.#bytesPerMs === 0 ? rate : this.#bytesPerMs + RATE_WEIGHT * (rate - this.#bytesPerMs)
  }
}
