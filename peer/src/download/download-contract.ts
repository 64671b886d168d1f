import type { ByteSpan } from './contract.ts'
import type { RangePiece } from './origin-ranges.ts'

/** What a reader may do about the chunk that it has waited for. */
export type ChunkPlace =
  /** It is in the store, and may be passed on. */
  | 'ready'
  /** It comes from nowhere nearby: a reader of a range gets its part of it by {@link DownloadReader.fromOrigin}. */
  | 'origin'
  /** This machine can keep no more: the caller has to be served straight from the origin. */
  | 'pass-through'

/** Where a reader's chunk was found. */
export type ChunkProvenance = 'disk' | 'peer' | 'origin'

/** One caller's part in a download. */
export interface DownloadReader {
  /** Resolves when it is clear how the chunk gets to the caller. Rejects when the download failed, or the signal aborts. */
  wait(chunk: number, signal: AbortSignal): Promise<ChunkPlace>
  /** Bytes of a range from where the reader is, from its own origin; they may end before the span does. */
  fromOrigin(span: ByteSpan, signal: AbortSignal): AsyncGenerator<RangePiece>
  /** Set when chunks that this reader has passed on were proved wrong: its response can only be cut. */
  failure(): Error | undefined
  /** The blob's digest was right: whatever is still held of it may be believed. */
  settled(): boolean
  /** Where a ready chunk came from. */
  provenance(chunk: number): ChunkProvenance
  /** The caller is gone, or (`isDone`) has everything. */
  end(isDone: boolean): void
}

/** Someone who wants all of a blob, and does not wait for it. */
export interface DownloadKeeper {
  /** Resolves when all of it is in the store, or this machine can keep no more. Rejects when the download failed, or the signal aborts. */
  whole(signal: AbortSignal): Promise<ChunkPlace>
  /** It wants no more; a second call does nothing. */
  end(): void
}
