import type { Digest } from '@darter/oci'
import { rendezvous } from '@darter/swarm'
import type { ContentPlace } from '@darter/wire'

/** How long a seed that failed or did not get on is not asked, ms. */
const REST_MS = 30_000
/** How long a blob of which only ranges are wanted is left to those who read them, ms: their first reads should be quick. */
const LAZY_MS = 5_000
/** So many who want a blob do not notice a seed that reads it too, and all gain from what it makes known. */
const CROWD = 8

/** A blob that a seed was or could be asked for. */
interface Call {
  readonly place: ContentPlace
  /** The seed that fetches it now. */
  seed: string | undefined
  /** Seeds that were lost at it, or did not want it. */
  readonly tried: Set<string>
  /** A seed has answered that it does not fetch it: the others are left alone. */
  declined: boolean
  /** When it was wanted first, ms. */
  readonly since: number
  /** Somebody waits for all of it. */
  isUrgent: boolean
  /** The seed was told that somebody does. */
  isHurried: boolean
}

/** What a seed is to be told. */
interface SeedCall {
  readonly seed: string
  readonly place: ContentPlace
  /** Nobody waits for all of the blob. */
  readonly background: boolean
}

/**
 * Which seed fetches which cold blob: the one that rendezvous hashing finds among those that are there, so that seeds share
 * the blobs evenly and those of a lost one go to the others. Pure bookkeeping.
 */
export class SeedBook {
  /** The seeds, with the time before which they are not asked, ms. */
  readonly #seeds = new Map<string, number>()
  readonly #calls = new Map<Digest, Call>()
  /** Blobs that no seed was asked for yet, since only ranges of them are wanted. */
  readonly #lazy = new Set<Digest>()

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
      call.isHurried = false
      call.tried.add(id)
      orphans.push(blob)
    }
    return orphans
  }

  /** Someone wants a blob that can be read at `place`, maybe only ranges of it. The first place that is told counts. */
  wanted(blob: Digest, place: ContentPlace, now: number): void {
    if (this.#seeds.size === 0 || this.#calls.has(blob)) return
    this.#calls.set(blob, {
      place,
      seed: undefined,
      tried: new Set(),
      declined: false,
      since: now,
      isUrgent: false,
      isHurried: false,
    })
    this.#lazy.add(blob)
  }

  /** Someone waits for all of a blob. Returns whether that is new. */
  urge(blob: Digest): boolean {
    const call = this.#calls.get(blob)
    if (call === undefined || call.isUrgent) return false
    call.isUrgent = true
    return true
  }

  /** Blobs of which only ranges have been wanted for so long that a seed may be asked for them. Each is told once. */
  due(now: number): Digest[] {
    const due: Digest[] = []
    for (const blob of this.#lazy) {
      // They are in the order in which they were wanted.
      if (now - (this.#calls.get(blob)?.since ?? 0) < LAZY_MS) break
      this.#lazy.delete(blob)
      due.push(blob)
    }
    return due
  }

  /**
   * The seed that is to be asked for a cold blob now, or told that there is hurry, and where it can read it; undefined when
   * there is nothing to say. `wanting`: how many want the blob.
   */
  next(blob: Digest, wanting: number, now: number): SeedCall | undefined {
    const call = this.#calls.get(blob)
    if (call === undefined || call.declined) return undefined
    if (wanting >= CROWD) call.isUrgent = true
    const { place, isUrgent } = call
    if (call.seed !== undefined) {
      if (!isUrgent || call.isHurried) return undefined
      call.isHurried = true
      return { seed: call.seed, place, background: false }
    }
    if (!isUrgent && now - call.since < LAZY_MS) return undefined
    const able = [...this.#seeds].filter(([id, restUntil]) => restUntil <= now && !call.tried.has(id))
    const seed = rendezvous(
      able.map(([id]) => id),
      blob,
    )
    if (seed === undefined) return undefined
    this.#lazy.delete(blob)
    call.seed = seed
    call.isHurried = isUrgent
    return { seed, place, background: !isUrgent }
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
    this.#lazy.delete(blob)
  }
}
