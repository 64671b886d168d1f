import type { Digest } from '@darter/oci'
import type { ChunkLayout, ReadonlyBitfield } from '@darter/swarm'

/**
 * When a chunk's hash is computed again as it is read back. `once`: at the first read after the program started, for
 * chunks that this program did not write itself. `always`: at every read, of the whole chunk even if a part is wanted.
 */
export type ReadVerification = 'once' | 'always'

/**
 * Why a blob counts as complete. `digest`: its own digest was computed here and is right. `list`: every chunk matches a
 * verified chunk list, and a scrub has not come to the digest yet.
 */
export type BlobProof = 'digest' | 'list'

/** How full a store is. */
export interface StoreUsage {
  /** Bytes of chunk data held, in doubt, or being written. */
  readonly bytes: number
  /** The quota in bytes. */
  readonly quotaBytes: number
  /** How many blobs are held, complete or not: the length of {@link ChunkStore.list}. */
  readonly blobs: number
}

/** A blob that a store holds something of. */
export interface StoredBlobInfo {
  readonly digest: Digest
  readonly size: number
  readonly heldChunks: number
  /** Every chunk is held, with a {@link BlobProof} that they are the right ones. */
  readonly complete: boolean
  /** Milliseconds since the Unix epoch. */
  readonly lastUsed: number
}

/** What became of the chunks that an unclean stop had left in doubt. */
export interface RecoveryReport {
  /** Blobs that were in doubt. */
  readonly blobs: number
  /** Chunks whose data matched their hash. */
  readonly kept: number
  /** Chunks that did not match, or whose data was gone. */
  readonly dropped: number
}

/** What a pass of {@link ChunkStore.scrub} did. */
export interface ScrubReport {
  /** Chunks checked. */
  readonly chunks: number
  /** Bytes checked. */
  readonly bytes: number
  /** Chunks that did not match their hash; each was told to {@link ChunkStore.onDropped} as well. */
  readonly dropped: number
}

/**
 * Chunks of blobs on this machine. Nothing is held that was not verified, and what is held survives the loss of the
 * process (on disk after at most 200 ms): availability never runs ahead of the data.
 *
 * Every method but {@link info}, {@link list}, {@link usage}, {@link close} and the subscriptions
 * @throws {StoreClosedError} once {@link close} was called.
 */
export interface ChunkStore {
  /**
   * Settles when everything that an unclean stop left in doubt was checked, or the store was closed before that. Never
   * rejects. Until then {@link list} leaves out the blobs that are still in doubt; opening one checks it first.
   */
  readonly recovered: Promise<RecoveryReport>
  /**
   * Pins a blob for reading and writing, with whatever is already held of it; creates its record when it is new.
   * Handles to one blob share their state. A pinned blob is never evicted. A blob of which nothing is held (and
   * that is not complete) is forgotten at its last release.
   * @throws {BlobSizeMismatchError} when the blob is known with another size.
   * @throws {StoreIoError} when what is held of it can't be found out.
   */
  open(digest: Digest, size: number): Promise<StoredBlob>
  /**
   * Pins a blob that the store has heard of; undefined for one that it has not.
   * @throws {StoreIoError} when what is held of it can't be found out.
   */
  find(digest: Digest): Promise<StoredBlob | undefined>
  /** What is held of one blob, without touching it; undefined for one that {@link list} would leave out. */
  info(digest: Digest): StoredBlobInfo | undefined
  /** What is held, most recently used first. */
  list(): StoredBlobInfo[]
  /** Deletes a blob unless it is pinned; returns whether it is gone. */
  remove(digest: Digest): Promise<boolean>
  usage(): StoreUsage
  /**
   * Checks every chunk that is held, once, those blobs first whose last check is longest ago. A pass that was cut
   * short goes on where it stopped. Does not count as use. Chunks that don't match their hash are dropped.
   * Blobs that are complete by a chunk list alone have their own digest computed, once: where it is wrong every chunk is
   * dropped, and {@link onRefuted} is told before that. Data that the kernel has in memory is checked there, not on the disk.
   * Rejects with the signal's reason when aborted.
   */
  scrub(options: { readonly bytesPerSecond: number; readonly signal: AbortSignal }): Promise<ScrubReport>
  /**
   * Calls `handler` synchronously for each chunk that was held and no longer is, whether it was found corrupt or
   * dropped on purpose, though not when its whole blob is removed. Returns what ends the subscription.
   */
  onDropped(handler: (digest: Digest, chunk: number) => void): () => void
  /**
   * Calls `handler` synchronously for each blob that was complete by a chunk list and whose digest proved wrong: whoever vouched
   * for that list is not to be believed about this blob.
   */
  onRefuted(handler: (digest: Digest) => void): () => void
  /** Calls `handler` synchronously for each blob that was listed and is gone, evicted or removed. */
  onRemoved(handler: (digest: Digest) => void): () => void
  /** Waits for running operations, makes everything durable and lets go of the directory. Handles end with it. */
  close(): Promise<void>
}

/**
 * One blob of a store, pinned until {@link StoredBlob.release} is called.
 *
 * Every asynchronous method
 * @throws {HandleReleasedError} after that;
 * @throws {StoreIoError} when the disk fails in a way that the method has no other answer to.
 */
export interface StoredBlob {
  readonly digest: Digest
  readonly layout: ChunkLayout
  /** The chunks that are held, live: it changes as chunks are written and dropped. */
  readonly held: ReadonlyBitfield
  /** Every chunk is held, and {@link markComplete} was called. */
  readonly complete: boolean
  /** The sha256 (32 bytes) of a held chunk, which stays what it is though the chunk is replaced. Not to be changed by the caller. */
  chunkHash(index: number): Uint8Array | undefined
  /**
   * Keeps a chunk that the caller has already hashed. Writing a held chunk again does nothing; while the same chunk
   * is being written, a second write waits for the first one and returns its result, whatever it brought itself.
   * `bytes` and `hash` must not change until the promise settles.
   * @returns 'full' when there is no room even after eviction (quota or disk): the chunk is then not held.
   * @throws {RangeError} for an index out of bounds, or bytes or a hash of the wrong length.
   */
  writeChunk(index: number, bytes: Uint8Array, hash: Uint8Array): Promise<'stored' | 'full'>
  /**
   * Reads part of a held chunk into `target`, from `offset` bytes into the chunk, filling as much of it as the
   * chunk has; returns the bytes read. The chunk's hash is checked first as {@link ReadVerification} says.
   * `target` holds nothing meaningful until the promise is fulfilled.
   * @throws {ChunkCorruptError} when the data does not match its hash (the chunk is dropped first);
   * @throws {ChunkMissingError} when the chunk is not held, or no longer by the time it was read;
   * @throws {RangeError} for an offset that is not a whole number from 0.
   */
  readChunk(index: number, offset: number, target: Uint8Array): Promise<number>
  /**
   * Puts bytes of a held chunk straight into a socket, up to `length` from `offset` bytes into the chunk: as many as go without waiting
   * for the socket or, most likely, for the disk. Returns how many. 0: not now, or not here; {@link readChunk} can tell why.
   * What was sent and not received yet changes with the chunk: only for a blob whose digest is right, of which a chunk is only ever
   * replaced by the same one.
   * @param to the socket's descriptor, asked right before bytes go there; undefined: they may not go any more.
   * @throws {RangeError} for an offset that is not a whole number from 0.
   */
  sendChunk(index: number, offset: number, length: number, to: () => number | undefined): Promise<number>
  /** Forgets a chunk, as when the whole blob's digest proved it wrong. The blob is then no longer complete. */
  dropChunk(index: number): Promise<void>
  /**
   * Records that the blob is whole and why that is believed, and makes its data durable. A digest that was checked is not
   * forgotten when a list is the proof later.
   * @throws {BlobIncompleteError} when a chunk is missing.
   */
  markComplete(proof: BlobProof): Promise<void>
  /** Ends this handle's pin. Calling it again does nothing. */
  release(): void
}
