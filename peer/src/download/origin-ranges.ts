import { createHash, type Hash } from 'node:crypto'
import type { Digest } from '@darter/oci'
import { OriginStatusError } from '@darter/origin'
import { abortable } from '@darter/runtime'
import type { ChunkLayout } from '@darter/swarm'
import type { ByteBudget } from './byte-budget.ts'
import type { BlobSource, ByteSpan, ContentKind } from './contract.ts'
import { NoSourceError, OriginIgnoresRangesError, OriginSizeError } from './errors.ts'
import type { BlobParts } from './blob-parts.ts'
import { openContent, type OriginChunk } from './origin-reader.ts'
import { BLOCK_BYTES } from './part-store.ts'

const MIB = 1024 * 1024
/** The longest read with one request, in blocks: the next one begins before it ends. */
const MAX_RUN_BLOCKS = (8 * MIB) / BLOCK_BYTES
/** How far before a reader the next read begins, in bytes. */
const EARLY_BYTES = 4 * MIB
/** Kept blocks that are read from disk at the same moment. */
const TOGETHER = 16
const MAX_FAILURES = 4
/** Blocks, and chunks, that are being kept while the next ones come. */
const MAX_BLOCKS_KEPT = 32
const MAX_CHUNKS_KEPT = 2

/** A read of the origin that is under way. */
interface Run {
  readonly controller: AbortController
  /** The reader that it was begun for. */
  readonly by: number
  /** Readers that want something of it. */
  readonly readers: Set<number>
  /** Who it was begun for has got all of its range: the little that is left is read ahead. */
  isAhead: boolean
}

/** A block that is on its way. */
interface Coming {
  readonly run: Run
  readonly bytes: Promise<Uint8Array>
  readonly resolve: (bytes: Uint8Array) => void
  readonly reject: (error: Error) => void
}

/** A piece of a range, and where it was. */
export interface RangePiece {
  readonly bytes: Uint8Array
  readonly from: 'disk' | 'origin'
}

/**
 * Ranges of one blob straight from one upstream, in blocks: every block is asked for once, however many readers want it at the
 * same moment or later. What nobody wants any more is not read on. Blocks that make a whole chunk are handed over as that.
 */
export class OriginRanges {
  readonly #options: ConstructorParameters<typeof OriginRanges>[0]
  readonly #coming = new Map<number, Coming>()
  readonly #runs = new Set<Run>()

  constructor(options: {
    readonly digest: Digest
    readonly kind: ContentKind
    readonly layout: ChunkLayout
    readonly parts: BlobParts
    readonly budget: ByteBudget
    /** Settles like its argument; told while the origin is read. */
    readonly during: <T>(work: Promise<T>) => Promise<T>
    readonly onBytes: (count: number) => void
    /** The chunk is in the store, and believed. */
    readonly isHere: (chunk: number) => boolean
    /** Takes a whole chunk; awaited before the next one is handed over. */
    readonly onChunk: (chunk: OriginChunk) => Promise<void>
    /** The origin answers ranges with the whole blob. */
    readonly onRangesIgnored: () => void
    /** Takes a read of the origin, which ends when what it brought is kept; soon after {@link stop} at the latest. */
    readonly track: (work: Promise<void>) => void
  }) {
    this.#options = options
  }

  /**
   * The bytes of a span, and up to `ahead` bytes after it are read as well. Ends early at the first chunk that is in the store or
   * that `goesOn` refuses (it is not asked about the first one), or when the origin turns out to ignore ranges. What it began to read goes
   * on then, as the reader comes back for what is behind that chunk: until it has {@link left}.
   * @throws what the origin throws, after some tries.
   */
  async *read(
    span: ByteSpan,
    options: {
      readonly reader: number
      readonly source: BlobSource
      readonly ahead: number
      readonly goesOn: (chunk: number) => boolean
      readonly signal: AbortSignal
    },
  ): AsyncGenerator<RangePiece> {
    const { layout, isHere } = this.#options
    const { reader, source, goesOn, signal } = options
    const first = layout.at(span.from)
    const mayRead = (chunk: number): boolean => !isHere(chunk) && (chunk === first || goesOn(chunk))
    const last = Math.ceil(span.to / BLOCK_BYTES)
    const end = Math.ceil(Math.min(layout.size, span.to + options.ahead) / BLOCK_BYTES)
    let position = span.from
    let failures = 0
    while (position < span.to) {
      signal.throwIfAborted()
      const block = Math.floor(position / BLOCK_BYTES)
      if (!mayRead(layout.at(position))) return
      const kept = await this.#readKept(block, Math.min(last, block + TOGETHER))
      for (const bytes of kept) {
        const piece = cut(bytes, position, span.to)
        position += piece.length
        yield { bytes: piece, from: 'disk' }
      }
      if (kept.length > 0) continue
      this.#ensure(block, end, reader, source, mayRead)
      const early = Math.floor((position + EARLY_BYTES) / BLOCK_BYTES)
      if (early < last) this.#ensure(early, end, reader, source, mayRead)
      const coming = this.#coming.get(block)
      // It came while the disk was asked for it.
      if (coming === undefined) continue
      coming.run.readers.add(reader)
      try {
        const bytes = await abortable(coming.bytes, signal)
        failures = 0
        const piece = cut(bytes, position, span.to)
        position += piece.length
        yield { bytes: piece, from: 'origin' }
      } catch (error) {
        if (signal.aborted) throw error
        if (error instanceof OriginIgnoresRangesError) return
        const isFinal = error instanceof OriginStatusError || error instanceof OriginSizeError
        if (isFinal || ++failures >= MAX_FAILURES) throw error
      }
    }
  }

  /** A reader has left, `isDone`: with all that it wanted. What nobody wants any more is not read on. */
  left(reader: number, isDone: boolean): void {
    for (const run of this.#runs) {
      if (!run.readers.delete(reader)) continue
      if (isDone && run.by === reader) run.isAhead = true
      if (run.readers.size === 0 && !run.isAhead) run.controller.abort(new Error('nobody wants it any more'))
    }
  }

  /** Whether a read that is under way goes on to the end of a chunk: then it is there soon, or all but what it began with. */
  isComing(chunk: number): boolean {
    const { layout } = this.#options
    return this.#coming.has(Math.floor((layout.offset(chunk) + layout.length(chunk) - 1) / BLOCK_BYTES))
  }

  /** Stops all reads; those who wait get `error`. */
  stop(error: Error): void {
    for (const run of this.#runs) run.controller.abort(error)
  }

  /** Kept blocks from `block` on, up to the first that is not there. */
  async #readKept(block: number, end: number): Promise<Uint8Array[]> {
    const { parts } = this.#options
    let to = block
    while (to < end && !this.#coming.has(to) && parts.has(to)) to++
    return to === block ? [] : await parts.read(block, to)
  }

  /** Begins to read from `block` on, unless that is kept or on its way. */
  #ensure(
    block: number,
    end: number,
    reader: number,
    source: BlobSource,
    mayRead: (chunk: number) => boolean,
  ): void {
    const { layout, parts } = this.#options
    const isMissing = (at: number): boolean => !this.#coming.has(at) && !parts.has(at)
    if (!isMissing(block)) return
    const bound = Math.min(end, block + MAX_RUN_BLOCKS)
    let to = block
    while (to < bound && isMissing(to) && mayRead(layout.at(to * BLOCK_BYTES))) to++
    if (to === block) return
    const run: Run = {
      controller: new AbortController(),
      by: reader,
      readers: new Set([reader]),
      isAhead: false,
    }
    this.#runs.add(run)
    for (let at = block; at < to; at++) {
      const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
      promise.catch(() => {})
      this.#coming.set(at, { run, bytes: promise, resolve, reject })
    }
    const { track, during } = this.#options
    track(during(this.#run(run, block, to, source)))
  }

  async #run(run: Run, from: number, to: number, source: BlobSource): Promise<void> {
    const { digest, kind, layout, budget, onBytes } = this.#options
    const { signal } = run.controller
    const start = from * BLOCK_BYTES
    const end = Math.min(layout.size, to * BLOCK_BYTES)
    const sink = new BlockSink(layout, from, to, {
      block: (index, bytes) => this.#coming.get(index)?.resolve(bytes),
      keepBlock: (index, bytes) => this.#keepBlock(index, bytes),
      keepChunk: chunk => this.#keepChunk(chunk),
    })
    let giveBack: (() => void) | undefined
    let failure: Error = new NoSourceError(digest, undefined)
    try {
      giveBack = await budget.take(end - start, signal)
      const range = end - start === layout.size ? undefined : { from: start, to: end }
      const blob = await openContent({ source, digest, kind, range, signal })
      try {
        if (blob.size !== undefined && blob.size !== layout.size)
          throw new OriginSizeError(digest, layout.size, blob.size)
        if (blob.offset > start || (!blob.honouredRange && start > 0)) {
          this.#options.onRangesIgnored()
          throw new OriginIgnoresRangesError(digest)
        }
        let position = blob.offset
        for await (const piece of blob.body) {
          signal.throwIfAborted()
          onBytes(piece.length)
          const usable = piece.subarray(Math.max(0, start - position), Math.max(0, end - position))
          position += piece.length
          await sink.write(usable)
          // A body that ends here is read to its end all the same: its connection can be used again.
          if (position > end) break
        }
      } finally {
        blob.cancel()
      }
    } catch (error) {
      failure = asError(error)
    } finally {
      this.#runs.delete(run)
      try {
        await sink.end()
      } catch (error) {
        failure = asError(error)
      }
      for (let block = from; block < to; block++) {
        const coming = this.#coming.get(block)
        if (coming?.run !== run) continue
        this.#coming.delete(block)
        coming.reject(failure)
      }
      giveBack?.()
    }
  }

  async #keepBlock(block: number, bytes: Uint8Array): Promise<void> {
    const { parts, layout, onChunk } = this.#options
    const isWhole = await parts.keep(block, bytes)
    this.#coming.delete(block)
    if (!isWhole) return
    const index = layout.at(block * BLOCK_BYTES)
    const chunk = Buffer.allocUnsafeSlow(layout.length(index))
    const hash = createHash('sha256')
    const first = layout.offset(index) / BLOCK_BYTES
    for (let at = 0; at < chunk.length; ) {
      const blocks = await parts.read(first + at / BLOCK_BYTES, first + Math.ceil(chunk.length / BLOCK_BYTES))
      if (blocks.length === 0) return
      for (const bytes of blocks) {
        chunk.set(bytes, at)
        hash.update(bytes)
        at += bytes.length
      }
    }
    await onChunk({ index, bytes: chunk, hash: hash.digest(), release: () => {} })
  }

  async #keepChunk(chunk: OriginChunk): Promise<void> {
    const { layout, parts, isHere, onChunk } = this.#options
    await onChunk(chunk)
    const isKept = isHere(chunk.index)
    const from = layout.offset(chunk.index) / BLOCK_BYTES
    for (let at = 0; at < chunk.bytes.length; at += BLOCK_BYTES) {
      const block = from + at / BLOCK_BYTES
      // The store has no room for it; readers that are slower than the origin need it all the same.
      if (!isKept) await parts.keep(block, chunk.bytes.subarray(at, at + BLOCK_BYTES))
      this.#coming.delete(block)
    }
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

/** The part of a block's bytes from `position` on that a span up to `to` has. */
function cut(block: Uint8Array, position: number, to: number): Uint8Array {
  const offset = position % BLOCK_BYTES
  return block.subarray(offset, offset + to - position)
}

/** Cuts what comes into blocks, and keeps them: by themselves, or as a chunk where all of it comes. */
class BlockSink {
  readonly #layout: ChunkLayout
  readonly #to: number
  readonly #on: ConstructorParameters<typeof BlockSink>[3]
  #block: number
  #bytes: Uint8Array | undefined
  #filled = 0
  /** The chunk that comes whole, and how much of it is there. */
  #chunk: { readonly index: number; readonly bytes: Uint8Array; readonly hash: Hash } | undefined
  readonly #keeping = new Set<Promise<void>>()
  #failure: Error | undefined

  /** For blocks [from, to). */
  constructor(
    layout: ChunkLayout,
    from: number,
    to: number,
    on: {
      /** A block is there; its bytes do not change any more. */
      readonly block: (index: number, bytes: Uint8Array) => void
      readonly keepBlock: (index: number, bytes: Uint8Array) => Promise<void>
      readonly keepChunk: (chunk: OriginChunk) => Promise<void>
    },
  ) {
    this.#layout = layout
    this.#block = from
    this.#to = to
    this.#on = on
  }

  /** Takes the next bytes; waits while too much of what came before is still being kept. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && this.#block < this.#to; ) {
      const block = (this.#bytes ??= this.#begin())
      const take = Math.min(bytes.length - at, block.length - this.#filled)
      block.set(bytes.subarray(at, at + take), this.#filled)
      at += take
      this.#filled += take
      if (this.#filled === block.length) await this.#whole(block)
    }
  }

  /** Keeps the blocks of a chunk that broke off, and waits until everything is kept. */
  async end(): Promise<void> {
    await Promise.all(this.#keeping)
    if (this.#failure !== undefined) throw this.#failure
    const chunk = this.#chunk
    if (chunk === undefined) return
    const first = this.#layout.offset(chunk.index) / BLOCK_BYTES
    for (let block = first; block < this.#block; block++) {
      const at = (block - first) * BLOCK_BYTES
      await this.#on.keepBlock(block, chunk.bytes.subarray(at, at + BLOCK_BYTES))
    }
  }

  #begin(): Uint8Array {
    const layout = this.#layout
    const offset = this.#block * BLOCK_BYTES
    const length = Math.min(BLOCK_BYTES, layout.size - offset)
    const index = layout.at(offset)
    const size = layout.length(index)
    const isFirst = offset === layout.offset(index)
    if (isFirst && offset + size <= Math.min(layout.size, this.#to * BLOCK_BYTES)) {
      this.#chunk = { index, bytes: Buffer.allocUnsafeSlow(size), hash: createHash('sha256') }
    }
    const at = offset - layout.offset(index)
    return this.#chunk?.bytes.subarray(at, at + length) ?? Buffer.allocUnsafeSlow(length)
  }

  async #whole(bytes: Uint8Array): Promise<void> {
    const index = this.#block++
    this.#bytes = undefined
    this.#filled = 0
    this.#on.block(index, bytes)
    const chunk = this.#chunk
    if (chunk === undefined) {
      await this.#keep(MAX_BLOCKS_KEPT, () => this.#on.keepBlock(index, bytes))
      return
    }
    chunk.hash.update(bytes)
    const { index: of } = chunk
    if (this.#layout.at(this.#block * BLOCK_BYTES) === of && this.#block * BLOCK_BYTES < this.#layout.size)
      return
    this.#chunk = undefined
    const hash = chunk.hash.digest()
    const whole: OriginChunk = { index: of, bytes: chunk.bytes, hash, release: () => {} }
    await this.#keep(MAX_CHUNKS_KEPT, () => this.#on.keepChunk(whole))
  }

  /** Begins to keep something, once fewer than `most` are being kept. @throws what keeping something before threw. */
  async #keep(most: number, keep: () => Promise<void>): Promise<void> {
    while (this.#keeping.size >= most) await Promise.race(this.#keeping)
    if (this.#failure !== undefined) throw this.#failure
    const keeping = keep()
      .catch(error => {
        this.#failure ??= asError(error)
      })
      .finally(() => this.#keeping.delete(keeping))
    this.#keeping.add(keeping)
  }
}
