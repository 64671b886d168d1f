import { createHash, type Hash } from 'node:crypto'
import { type Digest, digestAlgorithm, digestHex } from '@darter/oci'
import { ChunkMissingError, type ChunkStore, type StoredBlob } from '@darter/store'
import { WrongBytesSentError } from './errors.ts'

const PIECE_BYTES = 1024 * 1024

/**
 * Hashes a blob from its first byte on as chunks become held, in whatever order they come: a chunk that arrives just
 * where the hash stands is hashed from memory, the others are read back.
 */
export class PrefixHasher {
  readonly #stored: StoredBlob
  readonly #content: Digest
  #hash: Hash
  #next = 0
  #offset = 0
  #scratch: Uint8Array | undefined
  #running: Promise<void> | undefined
  #generation = 0
  #stopped = false

  /** @param content - the digest that the bytes should have. */
  constructor(stored: StoredBlob, content: Digest) {
    this.#stored = stored
    this.#content = content
    this.#hash = createHash(digestAlgorithm(content))
  }

  /** Chunks hashed so far. */
  get chunks(): number {
    return this.#next
  }

  /** Every chunk was hashed. */
  get done(): boolean {
    return this.#next === this.#stored.layout.count
  }

  /** Starts again at the first byte, as when a chunk proved wrong. */
  restart(): void {
    this.#generation++
    this.#hash = createHash(digestAlgorithm(this.#content))
    this.#next = 0
    this.#offset = 0
  }

  /** Takes a chunk that is held now; true when it was just the next one. */
  offer(index: number, bytes: Uint8Array): boolean {
    if (index !== this.#next || this.#offset > 0 || this.#running !== undefined) return false
    this.#hash.update(bytes)
    this.#next++
    return true
  }

  /**
   * Hashes on as far as chunks are held. Calls share one run. Rejects with what reading throws
   * ({@link ChunkCorruptError}: the chunk was dropped, and is waited for again at the next call).
   */
  advance(): Promise<void> {
    this.#stopped = false
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  /** Ends a run early: nobody waits for the digest now. {@link advance} goes on where it stopped. */
  stop(): void {
    this.#stopped = true
  }

  /** Whether the finished hash is the blob's digest. Ends the hasher. */
  matches(): boolean {
    return this.#hash.digest('hex') === digestHex(this.#content)
  }

  async #run(): Promise<void> {
    const { layout, held } = this.#stored
    while (!this.#stopped && this.#next < layout.count && held.has(this.#next)) {
      const generation = this.#generation
      const length = layout.length(this.#next)
      this.#scratch ??= Buffer.allocUnsafe(Math.min(PIECE_BYTES, layout.chunkBytes))
      const read = await this.#stored.readChunk(
        this.#next,
        this.#offset,
        this.#scratch.subarray(0, Math.min(this.#scratch.length, length - this.#offset)),
      )
      if (generation !== this.#generation) continue
      this.#hash.update(this.#scratch.subarray(0, read))
      this.#offset += read
      if (this.#offset < length) continue
      this.#offset = 0
      this.#next++
    }
  }
}

/**
 * The hash of the first `length` bytes of a blob, which the store still has to hold.
 * @param content the digest that the whole of it has, which says how it is hashed.
 * @param sent the hashes that chunks of it had when they were passed on.
 * @throws {ChunkMissingError} when it does not; {@link WrongBytesSentError} when it holds others than were passed on.
 */
export async function hashPrefix(
  store: ChunkStore,
  digest: Digest,
  content: Digest,
  length: number,
  sent: ReadonlyMap<number, Uint8Array>,
): Promise<Hash> {
  const stored = await store.find(digest)
  if (stored === undefined) throw new ChunkMissingError(digest, 0)
  try {
    const hash = createHash(digestAlgorithm(content))
    const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, stored.layout.chunkBytes))
    for (let position = 0; position < length; ) {
      const chunk = stored.layout.at(position)
      const offset = position - stored.layout.offset(chunk)
      const read = await stored.readChunk(
        chunk,
        offset,
        buffer.subarray(0, Math.min(buffer.length, length - position)),
      )
      const passed = sent.get(chunk)
      const now = stored.chunkHash(chunk)
      if (passed !== undefined && (now === undefined || !sameHash(passed, now)))
        throw new WrongBytesSentError(digest)
      hash.update(buffer.subarray(0, read))
      position += read
    }
    return hash
  } finally {
    stored.release()
  }
}

/** Whether two hashes are equal. */
export function sameHash(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.length).equals(b)
}

/** The digest of no bytes at all, which needs no source. */
export function isEmptyDigest(digest: Digest): boolean {
  return createHash(digestAlgorithm(digest)).digest('hex') === digestHex(digest)
}
