import { DEFAULT_SWARM_SHAPE, type SwarmShape } from './swarm-contract.ts'

/** How many reads of one upstream are tried. */
export interface PaceShape {
  /** Leases at first, over all blobs of the upstream. */
  readonly first: number
  /** The most that are ever tried. */
  readonly most: number
}

const LEAST = 2
/** A rate is measured over at least this time, ms, and so many chunks for each lease. */
const EPOCH_MS = 800
const CHUNKS_PER_LEASE = 2
/** An epoch that brings no measurement within this time says nothing, ms. */
const STALE_MS = 8_000
/** More leases have to bring so much more. */
const WORTH = 1.07
/** Fewer may cost so much. */
const BEARABLE = 0.98
/** What is not plain is judged over so many epochs: chunks are told of in bursts, which make one epoch's rate wrong by 5 % and more. */
const LONG_TRIAL = 3
/** What seems to cost so much is given up at once, or afterwards. */
const UNBEARABLE = 0.95
/** What an epoch counts beside the one after it. */
const FADE = 0.75
/** Epochs between two trials once the best number is found; doubled with each trial in vain. */
const REST_EPOCHS = 4
const MAX_REST_EPOCHS = 64
/** The longest that an upstream's wish to be left alone is heeded, ms. */
export const MAX_PAUSE_MS = 30_000

type Trial = 'none' | 'more' | 'fewer'

/** What a number of leases brought, over several epochs. */
class Yield {
  readonly leases: number
  #bytes = 0
  #ms = 0
  #epochs = 0

  constructor(leases: number) {
    this.leases = leases
  }

  /** Bytes per ms. */
  get rate(): number {
    return this.#bytes / this.#ms
  }

  /** Whether bursts hardly matter any more. */
  get isSure(): boolean {
    return this.#epochs >= LONG_TRIAL
  }

  add(bytes: number, ms: number): void {
    this.#bytes = FADE * this.#bytes + bytes
    this.#ms = FADE * this.#ms + ms
    this.#epochs++
  }
}

/**
 * How many reads of one upstream are at work at the same time, over all blobs: few at first, more while that brings more
 * bytes. Many readers of a thin link only delay what everybody waits for first; one alone may not fill a fat one. Pure:
 * it is told what was granted, ended and received.
 */
export class OriginPace {
  readonly #most: number
  #limit: number
  #blobs = 0
  #active = 0
  #pausedUntil = 0
  #trial: Trial = 'none'
  /** What the limit brings, or brought before the trial. */
  #base: Yield
  /** What the limit brings on trial. */
  #tried: Yield
  /** What more leases brought before fewer were found to do as well. */
  #before: Yield | undefined
  #next: 'more' | 'fewer' = 'more'
  #restFor = REST_EPOCHS
  #resting = 0
  #epochAt: number | undefined
  #bytes = 0
  #chunks = 0
  /** Whether the limit was reached at some moment of the epoch: what comes below it says nothing about it. */
  #reached = false

  constructor(shape: PaceShape) {
    this.#limit = Math.min(shape.first, shape.most)
    this.#most = shape.most
    this.#base = this.#tried = new Yield(this.#limit)
  }

  /** Leases that may be at work now, over all blobs. */
  get limit(): number {
    return this.#limit
  }

  /** Leases that each blob may have: its fair part, rounded up. */
  get share(): number {
    return Math.ceil(this.#limit / Math.max(1, this.#blobs))
  }

  /** Whether a blob that has so many leases may have another. One that has none always may: none starves another. */
  mayGrant(leases: number): boolean {
    if (leases === 0) return true
    const fair = this.#limit / Math.max(1, this.#blobs)
    return leases + 1 <= fair || (leases < fair && this.#active < this.#limit)
  }

  /** Before this time nothing is to be read, ms. */
  get pausedUntil(): number {
    return this.#pausedUntil
  }

  /** Nothing refers to it any more, and it asks for no pause: it can be forgotten. */
  isIdle(now: number): boolean {
    return this.#blobs === 0 && this.#active === 0 && this.#pausedUntil <= now
  }

  /** One more blob has something to be read. */
  enter(): void {
    this.#blobs++
  }

  /** One blob less has something to be read. */
  leave(): void {
    this.#blobs--
  }

  granted(): void {
    this.#active++
    if (this.#active >= this.#limit) this.#reached = true
  }

  ended(): void {
    this.#active--
  }

  /** A chunk came under a lease. */
  received(bytes: number, now: number): void {
    // What the first reads wait for until their first chunk is no part of the rate.
    if (this.#epochAt === undefined) {
      if (this.#reached) this.#begin(now)
      return
    }
    this.#bytes += bytes
    this.#chunks++
    const elapsed = now - this.#epochAt
    if (elapsed > STALE_MS) this.#begin(now)
    else if (elapsed >= EPOCH_MS && this.#chunks >= this.#limit * CHUNKS_PER_LEASE) {
      if (this.#reached) this.#judge(elapsed)
      this.#begin(now)
    }
  }

  /** The upstream asked to be left alone for a while: nobody reads, and then fewer do. */
  pause(ms: number, now: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, now + Math.min(MAX_PAUSE_MS, Math.max(0, ms)))
    this.#base = new Yield(Math.max(LEAST, this.#limit >> 1))
    this.#before = undefined
    this.#rest()
    this.#epochAt = undefined
  }

  #begin(now: number): void {
    this.#epochAt = now
    this.#bytes = 0
    this.#chunks = 0
    this.#reached = this.#active >= this.#limit
  }

  #judge(elapsedMs: number): void {
    if (this.#trial === 'none') {
      this.#base.add(this.#bytes, elapsedMs)
      if (this.#before !== undefined && this.#isRegretted(this.#before)) this.#undo(this.#before)
      else if (this.#resting > 0) this.#resting--
      else this.#try(this.#next)
      return
    }
    this.#tried.add(this.#bytes, elapsedMs)
    if (this.#trial === 'more') {
      const gain = this.#tried.rate / this.#base.rate
      // As many more bytes as leases are hoped for; half of that is more than chance.
      const plain = (1 + this.#tried.leases / this.#base.leases) / 2
      const isSure = this.#tried.isSure && this.#base.isSure
      if (gain >= plain || (isSure && gain >= WORTH)) this.#accept(undefined)
      else if (this.#tried.isSure || gain < 1) this.#reject('fewer')
      return
    }
    // Fewer and fewer are measured by what the first of these trials started from, lest small losses add up.
    const before = this.#before ?? this.#base
    const gain = this.#tried.rate / before.rate
    if (gain < UNBEARABLE || (this.#tried.isSure && gain < BEARABLE)) this.#reject('more')
    else if (this.#tried.isSure) this.#accept(before)
  }

  #isRegretted(before: Yield): boolean {
    return this.#base.isSure && this.#base.rate < UNBEARABLE * before.rate
  }

  #undo(before: Yield): void {
    this.#base = new Yield(before.leases)
    this.#before = undefined
    this.#reject('more')
  }

  #accept(before: Yield | undefined): void {
    this.#before = before
    this.#base = this.#tried
    this.#restFor = REST_EPOCHS
    this.#try(this.#trial === 'more' ? 'more' : 'fewer')
  }

  #reject(next: 'more' | 'fewer'): void {
    this.#next = next
    this.#rest()
    this.#restFor = Math.min(MAX_REST_EPOCHS, this.#restFor * 2)
  }

  /** Leaves the limit where it is known what it brings. */
  #rest(): void {
    this.#limit = this.#base.leases
    this.#trial = 'none'
    this.#resting = this.#restFor
  }

  #try(trial: 'more' | 'fewer'): void {
    // Each blob has one at least.
    const now = Math.max(this.#limit, this.#blobs)
    const wished = trial === 'more' ? now + Math.max(1, now >> 1) : now - Math.max(1, now >> 2)
    const limit = Math.min(this.#most, Math.max(LEAST, wished))
    this.#trial = limit === this.#limit ? 'none' : trial
    if (this.#trial === 'none') {
      this.#next = trial === 'more' ? 'fewer' : 'more'
      this.#resting = this.#restFor
    }
    this.#limit = limit
    this.#tried = new Yield(limit)
  }
}

/** The pace of one upstream, for swarms of this shape. */
export function createPace(shape: SwarmShape): OriginPace {
  return new OriginPace({
    first: shape.firstLeases ?? DEFAULT_SWARM_SHAPE.firstLeases,
    most: shape.maxLeases,
  })
}
