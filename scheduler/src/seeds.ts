import type { Digest } from '@darter/oci'
import { rendezvous } from '@darter/swarm'
import type { ContentPlace } from '@darter/wire'

/** How long a seed that failed or did not get on is not asked, ms. */
const REST_MS = 30_000

/** A blob that a seed was or could be asked for. */
interface Call {
  readonly place: ContentPlace
  /** The seed that fetches it now. */
  seed: string | undefined
  /** Seeds that were lost at it, or did not want it. */
  readonly tried: Set<string>
  /** A seed has answered that it does not fetch it: the others are left alone. */
  declined: boolean
}

/**
 * Which seed fetches which cold blob: the one that rendezvous hashing finds among those that are there, so that seeds share
 * the blobs evenly and those of a lost one go to the others. Pure bookkeeping.
 */
export class SeedBook {
  /** The seeds, with the time before which they are not asked, ms. */
  readonly #seeds = new Map<string, number>()
  readonly #calls = new Map<Digest, Call>()

  /** Seeds that are there now. */
  get size(): number {
    return this.#seeds.size
  }

  isSeed(id: string): boolean {
    return this.#seeds.has(id)
  }

  joined(id: string): void {
    this.#seeds.set(id, 0)
  }

  /** A peer left; returns the blobs that it was fetching as a seed. */
  left(id: string): Digest[] {
    if (!this.#seeds.delete(id)) return []
    const orphans: Digest[] = []
    for (const [blob, call] of this.#calls) {
      if (call.seed !== id) continue
      call.seed = undefined
      call.tried.add(id)
      orphans.push(blob)
    }
    return orphans
  }

  /** Someone wants a blob that can be read at `place`. The first place that is told counts. */
  wanted(blob: Digest, place: ContentPlace): void {
    if (this.#seeds.size === 0 || this.#calls.has(blob)) return
    this.#calls.set(blob, { place, seed: undefined, tried: new Set(), declined: false })
  }

  /** The seed that is to be asked for a cold blob now, and where it can read it; undefined when none is (or one is at it). */
  next(blob: Digest, now: number): { readonly seed: string; readonly place: ContentPlace } | undefined {
    const call = this.#calls.get(blob)
    if (call === undefined || call.declined || call.seed !== undefined) return undefined
    const able = [...this.#seeds].filter(([id, restUntil]) => restUntil <= now && !call.tried.has(id))
    const seed = rendezvous(
      able.map(([id]) => id),
      blob,
    )
    if (seed === undefined) return undefined
    call.seed = seed
    return { seed, place: call.place }
  }

  /** A seed does not fetch a blob that it was asked for; false when it was not asked. */
  declined(id: string, blob: Digest): boolean {
    const call = this.#calls.get(blob)
    if (call?.seed !== id) return false
    call.seed = undefined
    call.declined = true
    return true
  }

  /** A seed failed in a way that has little to do with one blob: it is not asked for a while. */
  rest(id: string, now: number): void {
    if (this.#seeds.has(id)) this.#seeds.set(id, now + REST_MS)
  }

  /** Nobody wants the blob any more. */
  forget(blob: Digest): void {
    this.#calls.delete(blob)
  }
}
