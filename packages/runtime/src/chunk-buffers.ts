/** Released memory that is kept for the next chunks, in bytes. */
const KEPT_BYTES = 32 * 1024 * 1024
/** No buffer is smaller, in bytes, so that small blobs of many sizes share theirs. */
const SMALLEST_BYTES = 256 * 1024

/**
 * Memory for chunks on their way in. Used again it costs nothing; a fresh buffer for every chunk costs its page faults and its
 * share of the garbage collector's time, together half as much as decrypting and hashing the chunk.
 */
export interface ChunkBuffers {
  /** A buffer of exactly `length` bytes, with arbitrary content. */
  take(length: number): Uint8Array
  /** Gives a buffer back that no one uses any more. */
  give(buffer: Uint8Array): void
}

/** Keeps up to 32 MiB of released memory. */
export function createChunkBuffers(): ChunkBuffers {
  const free = new Map<number, ArrayBuffer[]>()
  let kept = 0
  return {
    take: length => {
      // Chunks are powers of two but for each blob's last one: a few sizes serve all.
      const capacity = Math.max(SMALLEST_BYTES, 2 ** Math.ceil(Math.log2(Math.max(1, length))))
      const buffer = free.get(capacity)?.pop()
      if (buffer !== undefined) kept -= capacity
      return new Uint8Array(buffer ?? Buffer.allocUnsafeSlow(capacity).buffer, 0, length)
    },
    give: ({ buffer }) => {
      const capacity = buffer.byteLength
      if (!(buffer instanceof ArrayBuffer) || kept + capacity > KEPT_BYTES) return
      const list = free.get(capacity) ?? []
      free.set(capacity, list)
      list.push(buffer)
      kept += capacity
    },
  }
}
