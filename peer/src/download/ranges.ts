import type { Digest } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import type { StoredBlob } from '@darter/store'
import { type Appetite, type Bitfield, type ChunkLayout, ReadAhead, type Run } from '@darter/swarm'
import type { Upstream } from '../upstreams.ts'
import { BlobParts } from './blob-parts.ts'
import type { ByteBudget } from './byte-budget.ts'
import type { BlobSource, ByteSpan, ContentKind } from './contract.ts'
import { FirstParts } from './first-parts.ts'
import type { LayerHints } from './layer-hints.ts'
import type { OriginChunk } from './origin-reader.ts'
import { OriginRanges, type RangePiece } from './origin-ranges.ts'
import { ownersOf, partOwner } from './part-index.ts'
import type { PartStore } from './part-store.ts'
import { type Prefetcher, Touched } from './prefetch.ts'
import type { Reading } from './reader-desk.ts'

/** Blobs of which is remembered what ranges were read. */
const MAX_RECORDS = 512
/** How long everything is wanted after somebody left who read much of it: the next one may read on from elsewhere, ms. */
const MUCH_LINGER_MS = 1_000
/** A download that readers of ranges have left stays ready for the next one, ms. */
const RANGE_LINGER_MS = 60_000
/** What is fetched in the background for nobody in particular ends when nothing has come for this long, ms. */
const BACKGROUND_PATIENCE_MS = 300_000
/** A download that nobody reads any more goes on when it has this part of its chunks. */
const NEARLY_DONE = 0.9

/** What is known of a blob from the ranges that were read of it, by way of one upstream. */
interface RangeRecord {
  readonly parts: BlobParts
  readonly touched: Touched
  readonly ahead: ReadAhead
}

/** What is known of blobs from ranges that were read: it outlives their downloads, and the parts outlive the process. */
export class RangeRecords {
  readonly #parts: PartStore
  /** The least recently used first. */
  readonly #records = new Map<string, RangeRecord>()

  /** @param parts closed with this. */
  constructor(parts: PartStore) {
    this.#parts = parts
  }

  /** The record of a blob. What one upstream gave is not for those who read from another, be it of the same name. */
  of({ name, origin }: Upstream, digest: Digest, layout: ChunkLayout): RangeRecord {
    const owner = partOwner({ name, address: origin.description }, digest, layout.size)
    const key = owner.toString('hex')
    let record = this.#records.get(key)
    if (record !== undefined) this.#records.delete(key)
    else {
      record = {
        parts: new BlobParts(this.#parts, layout, owner),
        touched: new Touched(layout),
        ahead: new ReadAhead(),
      }
    }
    this.#records.set(key, record)
    const [oldest] = this.#records
    if (this.#records.size > MAX_RECORDS && oldest !== undefined) {
      oldest[1].parts.clear()
      this.#records.delete(oldest[0])
    }
    return record
  }

  /** A blob is whole, or gone from the store: its parts go. */
  ended(digest: Digest): void {
    const owners = ownersOf(digest)
    this.#parts.dropLeftovers(owners)
    for (const [owner, { parts }] of this.#records) if (owner.startsWith(owners)) parts.clear()
  }

  /** Bytes of parts of chunks that are kept. */
  get bytes(): number {
    return this.#parts.bytes
  }

  async close(): Promise<void> {
    await this.#parts.close()
  }
}

/** What all downloads of a peer need for ranges. */
export interface RangeRooms {
  readonly records: RangeRecords
  readonly prefetcher: Prefetcher
  /** Bounds what is on its way from origins for ranges. */
  readonly budget: ByteBudget
  /** What is known of the formats of blobs. */
  readonly hints: LayerHints
  /** Bounds the blobs that are read for what they say of others. */
  readonly tables: ByteBudget
  /** Reads a blob of the same image as the source's, whole, for what it says of another. */
  readonly readBlob: (
    source: BlobSource,
    digest: Digest,
    size: number,
    signal: AbortSignal,
  ) => Promise<Uint8Array>
}

/** What a reader of a range has of it. */
interface RangeReader {
  readonly record: RangeRecord
  readonly origin: OriginRanges
  readonly aheadBytes: number
  readonly source: BlobSource
  readonly reading: 'much' | 'part'
}

/**
 * The readers of ranges of one download: what they get straight from the origin, what they make likely to be wanted next, and
 * when the rest of the blob is worth fetching.
 */
export class Ranges {
  readonly #options: ConstructorParameters<typeof Ranges>[0]
  readonly #origins = new Map<string, { readonly record: RangeRecord; readonly origin: OriginRanges }>()
  readonly #readers = new Map<number, RangeReader>()
  /** Readers who want all of the blob to come. */
  #whole = 0
  /** Until when all of it is wanted for the sake of one who has left. */
  #wholeUntil = Number.NEGATIVE_INFINITY
  /** Those who want all of it in the background. */
  #keepers = 0
  #leftAt = Number.NEGATIVE_INFINITY
  #keptAt = Number.NEGATIVE_INFINITY
  #lastSource: BlobSource | undefined
  #firstParts: FirstParts | undefined
  readonly #ended = new AbortController()

  constructor(options: {
    readonly stored: StoredBlob
    /** The digest that the bytes should have. */
    readonly content: Digest
    readonly kind: ContentKind
    readonly trusted: Bitfield
    readonly rooms: RangeRooms
    /** How long the download goes on at full speed after its last reader of everything has left, ms. */
    readonly lingerMs: number
    /** Whether a reader gets a chunk that it has not waited for yet from the origin. */
    readonly goesOn: (chunk: number) => boolean
    readonly onBytes: (count: number) => void
    readonly onChunk: (chunk: OriginChunk) => Promise<void>
    readonly onRangesIgnored: () => void
    /** For the blob's format these chunks come after those that were named before, and before the rest. */
    readonly onFirst: (run: Run) => void
    /** Takes work that ends soon after {@link stop} at the latest. */
    readonly track: (work: Promise<void>) => void
    readonly log: Logger
  }) {
    this.#options = options
  }

  /** A reader comes. Returns up to which byte it is likely to read on. */
  added(id: number, span: ByteSpan, reading: Reading, source: BlobSource, now: number): number {
    const { stored, trusted } = this.#options
    const { layout } = stored
    this.#keptAt = now
    if (reading !== 'part') this.#whole++
    if (reading === 'whole') return span.to
    this.#lastSource = source
    const { record, origin } = this.#originOf(source)
    record.touched.add(span.from, span.to)
    const aheadBytes = record.ahead.next(span.from, span.to)
    this.#readers.set(id, { record, origin, aheadBytes, source, reading })
    for (let chunk = layout.at(span.from); chunk <= layout.at(span.to - 1); chunk++) {
      const hash = stored.chunkHash(chunk)
      if (hash === undefined || !record.parts.hasGiven(chunk, hash)) continue
      trusted.set(chunk)
      record.parts.drop(chunk)
    }
    return Math.min(layout.size, span.to + aheadBytes)
  }

  /** A reader that was {@link added} has left, `isDone`: with all that it wanted. */
  gone(id: number, isDone: boolean, now: number): void {
    const reader = this.#readers.get(id)
    const reading = reader?.reading ?? 'whole'
    reader?.origin.left(id, isDone)
    this.#readers.delete(id)
    this.#leftAt = now
    if (reading === 'part') return
    this.#whole--
    const lingerMs = reading === 'whole' ? this.#options.lingerMs : MUCH_LINGER_MS
    this.#wholeUntil = Math.max(this.#wholeUntil, now + lingerMs)
  }

  /** Someone wants all of the blob, and does not wait for it. */
  keeperAdded(now: number): void {
    this.#keepers++
    this.#keptAt = now
  }

  /** One that was {@link keeperAdded} has left. */
  keeperGone(now: number): void {
    this.#keepers--
    this.#leftAt = now
  }

  /** A span of a range, straight from the reader's own upstream; see {@link OriginRanges.read}. */
  read(id: number, span: ByteSpan, signal: AbortSignal): AsyncGenerator<RangePiece> {
    const reader = this.#readers.get(id)
    if (reader === undefined) throw new RangeError('this reader has ended')
    const { origin, aheadBytes: ahead, source } = reader
    // For who reads much the next chunk may come with everything.
    const goesOn = reader.reading === 'part' ? this.#options.goesOn : () => false
    return origin.read(span, { reader: id, source, ahead, goesOn, signal })
  }

  /** Whether a reader's own upstream is about to bring a chunk: it need not come from elsewhere in the background. */
  isComing(chunk: number): boolean {
    for (const { origin } of this.#origins.values()) if (origin.isComing(chunk)) return true
    return false
  }

  /** A chunk is in the store now. */
  kept(chunk: number, now: number): void {
    this.#keptAt = now
    for (const { record } of this.#origins.values()) record.parts.drop(chunk)
    this.#firstParts?.kept()
  }

  /** What is wanted of the blob besides what its readers wait for. */
  appetite(now: number): Appetite {
    const { layout, held } = this.#options.stored
    if (this.#whole > 0 || (layout.count === 1 && this.#readers.size > 0)) return 'everything'
    if (now < this.#wholeUntil) return 'everything'
    const isIdle = this.#readers.size === 0
    const isStuck = isIdle && now - this.#keptAt >= BACKGROUND_PATIENCE_MS
    // What comes in the background does so to its end.
    if (!isStuck && this.#isBackground) return this.#isOrdered ? 'background' : 'nothing'
    return isIdle && held.count >= NEARLY_DONE * layout.count ? 'everything' : 'nothing'
  }

  /** Nobody has read anything for long, and nothing goes on in the background: the download may end. */
  isAbandoned(now: number): boolean {
    if (this.#whole > 0 || this.#readers.size > 0 || this.appetite(now) !== 'nothing') return false
    const linger = this.#origins.size > 0 ? RANGE_LINGER_MS : this.#options.lingerMs
    return now - this.#leftAt >= linger
  }

  /** The blob is complete: nobody needs its parts any more. */
  whole(): void {
    this.stop(new Error('the blob is here'))
    this.#options.rooms.records.ended(this.#options.stored.digest)
  }

  /** Stops reading origins; those who wait get `error`. */
  stop(error: Error): void {
    this.#ended.abort(error)
    for (const { origin } of this.#origins.values()) origin.stop(error)
  }

  /** Whether all of it is to come in the background. */
  get #isBackground(): boolean {
    if (this.#keepers > 0) return true
    const { prefetcher } = this.#options.rooms
    for (const { record } of this.#origins.values()) if (prefetcher.isDue(record.touched)) return true
    return false
  }

  /** Whether it is known what comes first in the background, if anything does; begins to find out. */
  get #isOrdered(): boolean {
    const { stored, content, rooms, onFirst, track, log } = this.#options
    if (this.#firstParts !== undefined) return this.#firstParts.begun
    const hint = rooms.hints.of(content)
    const source = this.#lastSource
    if (hint === undefined || source === undefined) return true
    const readBlob = (digest: Digest, size: number, signal: AbortSignal): Promise<Uint8Array> =>
      rooms.readBlob(source, digest, size, signal)
    this.#firstParts = new FirstParts({
      stored,
      content,
      hint,
      log,
      budget: rooms.tables,
      readBlob,
      onNext: onFirst,
    })
    track(this.#firstParts.follow(this.#ended.signal))
    return this.#firstParts.begun
  }

  #originOf(source: BlobSource): { readonly record: RangeRecord; readonly origin: OriginRanges } {
    const { upstream } = source
    const known = this.#origins.get(upstream.name)
    if (known !== undefined) return known
    const { stored, kind, trusted, rooms, onBytes, onChunk, onRangesIgnored, track } = this.#options
    const { digest, layout } = stored
    const record = rooms.records.of(upstream, digest, layout)
    const isHere = (chunk: number): boolean => stored.held.has(chunk) && trusted.has(chunk)
    const origin = new OriginRanges({
      digest,
      kind,
      layout,
      parts: record.parts,
      budget: rooms.budget,
      during: work => rooms.prefetcher.during(work),
      isHere,
      onBytes,
      onChunk: async chunk => {
        await onChunk(chunk)
        // Where the store has no room its parts stay.
        if (!isHere(chunk.index)) return
        record.parts.gave(chunk.index, chunk.hash)
        record.parts.drop(chunk.index)
      },
      onRangesIgnored,
      track,
    })
    const made = { record, origin }
    this.#origins.set(upstream.name, made)
    return made
  }
}
