const KIB = 1024
const MIB = 1024 * KIB

/** The smallest chunk, in bytes; only a blob's last chunk (or a smaller blob's only one) is shorter. */
export const MIN_CHUNK_BYTES = 256 * KIB
/** The largest chunk, in bytes: it bounds what one request makes a peer hold in memory. */
export const MAX_CHUNK_BYTES = 4 * MIB
/** The largest blob that can be shared, in bytes (16 TiB). */
export const MAX_BLOB_BYTES = 16 * 1024 * 1024 * MIB

const TARGET_CHUNKS = 512

/** How a blob is cut into chunks: a pure function of its size, so that all peers agree without asking. */
export interface ChunkLayout {
  /** The blob's size in bytes. */
  readonly size: number
  /** The size of every chunk but the last, in bytes: a power of two. */
  readonly chunkBytes: number
  /** How many chunks there are. The empty blob has none. */
  readonly count: number
  /** Offset of chunk `index` in the blob, in bytes. */
  offset(index: number): number
  /** Length of chunk `index` in bytes; 0 for an index out of bounds. */
  length(index: number): number
  /** The chunk that holds the byte at `offset`. */
  at(offset: number): number
}

/**
 * The layout of a blob of `size` bytes: about 512 chunks, each a power of two between 256 KiB and 4 MiB.
 * @throws {RangeError} when size is not a whole number from 0 to {@link MAX_BLOB_BYTES}.
 */
export function chunkLayout(size: number): ChunkLayout {
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_BLOB_BYTES) {
    throw new RangeError(`a blob's size is a whole number from 0 to ${MAX_BLOB_BYTES}, not ${size}`)
  }
  const wanted = 2 ** Math.ceil(Math.log2(Math.max(1, size / TARGET_CHUNKS)))
  const chunkBytes = Math.min(MAX_CHUNK_BYTES, Math.max(MIN_CHUNK_BYTES, wanted))
  const count = Math.ceil(size / chunkBytes)
  return {
    size,
    chunkBytes,
    count,
    offset: index => index * chunkBytes,
    length: index => (index < 0 || index >= count ? 0 : Math.min(chunkBytes, size - index * chunkBytes)),
    at: offset => Math.floor(offset / chunkBytes),
  }
}
