import type { Digest } from '@darter/oci'
import type { ChunkLayout, ReadonlyBitfield } from '@darter/swarm'

/** When a chunk's hash is computed again as it is read back. */
export type ReadVerification = 'once' | 'always'

/** How full a store is. */
export interface StoreUsage {
  /** Bytes of chunk data held. */
  readonly bytes: number
  /** The quota in bytes. */
  readonly quotaBytes: number
  /** How many blobs are held, complete or not. */
  readonly blobs: number
}

/** A blob that a store holds something of. */
export interface StoredBlobInfo {
  readonly digest: Digest
  readonly size: number
  readonly heldChunks: number
  /** Every chunk is held and the blob's own digest was checked. */
  readonly complete: boolean
  /** Milliseconds since the Unix epoch. */
  readonly lastUsed: number
}

/**
 * Chunks of blobs on this machine. Nothing is held that was not verified, and what is announced as held
 * survives the loss of the process: availability never runs ahead of the data.
 */
export interface ChunkStore {
  /**
   * Pins a blob for reading and writing, with whatever is already held of it; creates its record when it is new.
   * Handles to one blob share their state. A pinned blob is never evicted.
   * @throws {BlobSizeMismatchError} when the blob is known with another size.
   */
  open(digest: Digest, size: number): Promise<StoredBlob>
  /** Pins a blob that the store has heard of; undefined for one that it has not. */
  find(digest: Digest): Promise<StoredBlob | undefined>
  /** What is held, most recently used first. */
  list(): StoredBlobInfo[]
  /** Deletes a blob unless it is pinned; returns whether it is gone. */
  remove(digest: Digest): Promise<boolean>
  usage(): StoreUsage
  /** Makes everything durable and marks the stop as clean. */
  close(): Promise<void>
}

/** One blob of a store, pinned until {@link StoredBlob.release} is called (exactly once per handle). */
export interface StoredBlob {
  readonly digest: Digest
  readonly layout: ChunkLayout
  /** The chunks that are held, live: it changes as chunks are written and dropped. */
  readonly held: ReadonlyBitfield
  /** Every chunk is held and the blob's own digest was checked ({@link markComplete}). */
  readonly complete: boolean
  /** The sha256 (32 bytes) of a held chunk. */
  chunkHash(index: number): Uint8Array | undefined
  /**
   * Keeps a chunk that the caller has already hashed. Writing a held chunk again does nothing.
   * @returns 'full' when there is no room even after eviction (quota or disk): the chunk is then not held.
   */
  writeChunk(index: number, bytes: Uint8Array, hash: Uint8Array): Promise<'stored' | 'full'>
  /**
   * Reads part of a held chunk into `target`, from `offset` bytes into the chunk, filling as much of it as the
   * chunk has; returns the bytes read. The chunk's hash is checked first as {@link ReadVerification} says.
   * @throws {ChunkCorruptError} when the data does not match its hash (the chunk is dropped first);
   * @throws {ChunkMissingError} when the chunk is not held.
   */
  readChunk(index: number, offset: number, target: Uint8Array): Promise<number>
  /** Forgets a chunk, as when the whole blob's digest proved it wrong. */
  dropChunk(index: number): Promise<void>
  /** Records that the whole blob's digest was checked, and makes its data durable. All chunks must be held. */
  markComplete(): Promise<void>
  /** Ends this handle's pin. */
  release(): void
}
