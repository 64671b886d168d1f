import { type Clock, TokenBucket } from '@darter/runtime'
import { type Allowance, Bitfield, type ChunkLayout, MAX_CHUNK_BYTES } from '@darter/swarm'

/** Whether and how the rest of a blob is fetched of which ranges were read. */
export interface PrefetchConfig {
  readonly enabled: boolean
  /** Over all blobs; 0: no limit. */
  readonly bytesPerSecond: number
  /** The part of a blob that ranges have to have touched before, 0 to 1. */
  readonly threshold: number
}

/** While readers wait, one chunk goes ahead of them this often, ms: a blob that is always read gets there too. */
const ANYWAY_MS = 1000
/** Parts of a chunk that are told apart when what was touched is counted. */
const MARKS_PER_CHUNK = 64

/** What goes on in the background, over all blobs of a peer: it comes after what readers of ranges wait for. */
export class Prefetcher implements Allowance {
  readonly #config: PrefetchConfig
  readonly #bucket: TokenBucket | undefined
  #waiting = 0
  #tookAt = Number.NEGATIVE_INFINITY

  constructor(config: PrefetchConfig, clock: Clock) {
    this.#config = config
    const { bytesPerSecond } = config
    if (bytesPerSecond > 0) {
      const burstBytes = Math.max(MAX_CHUNK_BYTES, bytesPerSecond / 4)
      this.#bucket = new TokenBucket({ bytesPerSecond, burstBytes, now: clock.now() })
    }
  }

  has(bytes: number, now: number): boolean {
    if (this.#waiting > 0 && now - this.#tookAt < ANYWAY_MS) return false
    return this.#bucket === undefined || this.#bucket.waitMs(bytes, now) === 0
  }

  take(bytes: number, now: number): boolean {
    if (!this.has(bytes, now)) return false
    this.#bucket?.take(bytes, now)
    this.#tookAt = now
    return true
  }

  /** Whether the rest of a blob is to be fetched of which so much was touched. */
  isDue(touched: Touched): boolean {
    return this.#config.enabled && touched.share >= this.#config.threshold
  }

  /** Little begins in the background during this, which a reader waits for. */
  async during<T>(work: Promise<T>): Promise<T> {
    this.#waiting++
    try {
      return await work
    } finally {
      this.#waiting--
    }
  }
}

/** How much of a blob ranges have touched. */
export class Touched {
  readonly #markBytes: number
  readonly #marks: Bitfield

  constructor(layout: ChunkLayout) {
    this.#markBytes = layout.chunkBytes / MARKS_PER_CHUNK
    this.#marks = new Bitfield(Math.ceil(layout.size / this.#markBytes))
  }

  /** A range [from, to), in bytes, is read. */
  add(from: number, to: number): void {
    const end = Math.ceil(to / this.#markBytes)
    for (let mark = Math.floor(from / this.#markBytes); mark < end; mark++) this.#marks.set(mark)
  }

  /** From 0 to 1. */
  get share(): number {
    return this.#marks.length === 0 ? 0 : this.#marks.count / this.#marks.length
  }
}
