const KIB = 1024
const MIB = 1024 * KIB

/** The smallest chunk, in bytes, but for those of the head, and for a blob's last chunk (or a smaller blob's only one). */
export const MIN_CHUNK_BYTES = 256 * KIB
/** The largest chunk, in bytes: it bounds what one request makes a peer hold in memory. */
export const MAX_CHUNK_BYTES = 4 * MIB
/** The largest blob that can be shared, in bytes (16 TiB). */
export const MAX_BLOB_BYTES = 16 * 1024 * 1024 * MIB

/** The first chunk of a head, in bytes. */
export const HEAD_CHUNK_BYTES = 32 * KIB

const TARGET_CHUNKS = 512
/** Blobs of more chunks have a head; others would have many more chunks for it, and are whole soon anyway. */
const HEADLESS_CHUNKS = 64

/** How a blob is cut into chunks: a pure function of its size, so that all peers agree without asking. */
export interface ChunkLayout {
  /** The blob's size in bytes. */
  readonly size: number
  /** The size of every chunk but those of the head and the last, in bytes: a power of two. */
  readonly chunkBytes: number
  /**
   * How many chunks the head has, which takes the place of one chunk at the beginning of a large blob: its chunks double from
   * {@link HEAD_CHUNK_BYTES} on. Whoever reads the blob waits for its first chunk to pass from peer to peer, whole each time. 0: none.
   */
  readonly head: number
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
 * The layout of a blob of `size` bytes: about 512 chunks, each a power of two between 256 KiB and 4 MiB; the first of more than 64 is cut
 * into a head.
 * @throws {RangeError} when size is not a whole number from 0 to {@link MAX_BLOB_BYTES}.
 */
export function chunkLayout(size: number): ChunkLayout {
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_BLOB_BYTES) {
    throw new RangeError(`a blob's size is a whole number from 0 to ${MAX_BLOB_BYTES}, not ${size}`)
  }
  const wanted = 2 ** Math.ceil(Math.log2(Math.max(1, size / TARGET_CHUNKS)))
  const chunkBytes = Math.min(MAX_CHUNK_BYTES, Math.max(MIN_CHUNK_BYTES, wanted))
  const even = Math.ceil(size / chunkBytes)
  const head = even > HEADLESS_CHUNKS ? Math.log2(chunkBytes / HEAD_CHUNK_BYTES) + 1 : 0
  /** Chunks more than there would be without a head. */
  const more = Math.max(0, head - 1)
  const count = even + more
  const offset = (index: number): number => {
    if (index >= head) return (index - more) * chunkBytes
    return index === 0 ? 0 : HEAD_CHUNK_BYTES * 2 ** (index - 1)
  }
  return {
    size,
    chunkBytes,
    head,
    count,
    offset,
    length: index => (index < 0 || index >= count ? 0 : Math.min(size, offset(index + 1)) - offset(index)),
    at: position => {
      if (head === 0 || position >= chunkBytes) return Math.floor(position / chunkBytes) + more
      return position < HEAD_CHUNK_BYTES ? 0 : Math.floor(Math.log2(position / HEAD_CHUNK_BYTES)) + 1
    },
  }
}
