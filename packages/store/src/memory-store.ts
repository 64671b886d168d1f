import { createHash } from 'node:crypto'
import { type Digest, digestAlgorithm, digestHex } from '@darter/oci'
import type { Clock } from '@darter/runtime'
import { Bitfield, type ChunkLayout, chunkLayout, type ReadonlyBitfield } from '@darter/swarm'
import { type Capacity, type CapacityOptions, capacity, chooseVictims } from './capacity.ts'
import { assertOffset, assertRate, assertWritable } from './checks.ts'
import type {
  BlobProof,
  ChunkStore,
  RecoveryReport,
  ScrubReport,
  StoredBlob,
  StoredBlobInfo,
  StoreUsage,
} from './contract.ts'
import {
  BlobIncompleteError,
  BlobSizeMismatchError,
  ChunkMissingError,
  HandleReleasedError,
  StoreClosedError,
} from './errors.ts'
import { Listeners } from './listeners.ts'

/** Options of {@link createMemoryStore}. */
export interface MemoryStoreOptions extends CapacityOptions {
  readonly clock: Clock
}

/**
 * A store that keeps everything in memory and nothing for longer than itself: for tests, and for the simulator. Every
 * operation takes effect at once, in the call, and never waits.
 * @throws {RangeError} for capacity options out of bounds.
 */
export function createMemoryStore(options: MemoryStoreOptions): ChunkStore {
  return new MemoryStore(capacity(options), options.clock)
}

interface HeldChunk {
  readonly bytes: Uint8Array
  readonly hash: Uint8Array
}

class MemoryRecord {
  readonly digest: Digest
  readonly layout: ChunkLayout
  readonly held: Bitfield
  readonly chunks = new Map<number, HeldChunk>()
  heldBytes = 0
  proof: BlobProof | undefined
  lastUsed = 0
  pins = 0

  constructor(digest: Digest, size: number) {
    this.digest = digest
    this.layout = chunkLayout(size)
    this.held = new Bitfield(this.layout.count)
  }

  get complete(): boolean {
    return this.proof !== undefined
  }

  get vain(): boolean {
    return this.held.count === 0 && !this.complete
  }

  info(): StoredBlobInfo {
    const { digest, layout, held, complete, lastUsed } = this
    return { digest, size: layout.size, heldChunks: held.count, complete, lastUsed }
  }
}

class MemoryStore implements ChunkStore {
  readonly recovered: Promise<RecoveryReport> = Promise.resolve({ blobs: 0, kept: 0, dropped: 0 })
  readonly #capacity: Capacity
  readonly #clock: Clock
  /** Least recently used first. */
  readonly #records = new Map<Digest, MemoryRecord>()
  readonly #dropped: Listeners<[digest: Digest, chunk: number]>
  readonly #refuted: Listeners<[digest: Digest]>
  readonly #removed: Listeners<[digest: Digest]>
  #used = 0
  #closed = false

  constructor(bounds: Capacity, clock: Clock) {
    this.#capacity = bounds
    this.#clock = clock
    // There is no log here, and a test should see it.
    const onError = (error: unknown): void => {
      throw error
    }
    this.#dropped = new Listeners(onError)
    this.#refuted = new Listeners(onError)
    this.#removed = new Listeners(onError)
  }

  async open(digest: Digest, size: number): Promise<StoredBlob> {
    this.assertOpen()
    const known = this.#records.get(digest)
    if (known === undefined) {
      const record = new MemoryRecord(digest, size)
      if (this.#records.size >= this.#capacity.maxBlobs) {
        this.#evict(this.#idle().take(this.#capacity.spareBlobs).toArray())
      }
      return this.#handle(record)
    }
    if (known.layout.size !== size) throw new BlobSizeMismatchError(digest, known.layout.size, size)
    return this.#handle(known)
  }

  async find(digest: Digest): Promise<StoredBlob | undefined> {
    this.assertOpen()
    const known = this.#records.get(digest)
    return known === undefined ? undefined : this.#handle(known)
  }

  info(digest: Digest): StoredBlobInfo | undefined {
    const record = this.#records.get(digest)
    return record === undefined || record.vain ? undefined : record.info()
  }

  list(): StoredBlobInfo[] {
    return this.#listed()
      .map(record => record.info())
      .toArray()
      .toReversed()
  }

  async remove(digest: Digest): Promise<boolean> {
    this.assertOpen()
    const record = this.#records.get(digest)
    if (record === undefined) return true
    if (record.pins > 0) return false
    this.#evict([record])
    return true
  }

  usage(): StoreUsage {
    return {
      bytes: this.#used,
      quotaBytes: this.#capacity.quotaBytes,
      blobs: this.#listed().toArray().length,
    }
  }

  /** Finds no rot: memory is taken at its word. */
  async scrub(options: {
    readonly bytesPerSecond: number
    readonly signal: AbortSignal
  }): Promise<ScrubReport> {
    assertRate(options.bytesPerSecond)
    this.assertOpen()
    options.signal.throwIfAborted()
    const chunks = this.#records.values().reduce((sum, record) => sum + record.held.count, 0)
    const report = { chunks, bytes: this.#used, dropped: 0 }
    for (const record of this.#records.values()) {
      if (record.proof === 'list') report.dropped += this.#settle(record)
    }
    return report
  }

  onDropped(handler: (digest: Digest, chunk: number) => void): () => void {
    return this.#dropped.add(handler)
  }

  onRefuted(handler: (digest: Digest) => void): () => void {
    return this.#refuted.add(handler)
  }

  onRemoved(handler: (digest: Digest) => void): () => void {
    return this.#removed.add(handler)
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  assertOpen(): void {
    if (this.#closed) throw new StoreClosedError()
  }

  write(record: MemoryRecord, index: number, bytes: Uint8Array, hash: Uint8Array): 'stored' | 'full' {
    if (record.held.has(index)) return 'stored'
    const victims = chooseVictims(this.#capacity, this.#used, bytes.length, this.#idle())
    if (victims === undefined) return 'full'
    this.#evict(victims)
    record.chunks.set(index, { bytes: new Uint8Array(bytes), hash: new Uint8Array(hash) })
    record.held.set(index)
    record.heldBytes += bytes.length
    this.#used += bytes.length
    return 'stored'
  }

  drop(record: MemoryRecord, index: number): void {
    if (!record.held.clear(index)) return
    record.chunks.delete(index)
    record.heldBytes -= record.layout.length(index)
    record.proof = undefined
    this.#used -= record.layout.length(index)
    this.#dropped.emit(record.digest, index)
  }

  unpin(record: MemoryRecord): void {
    record.pins--
    if (record.pins > 0) return
    if (record.vain) this.#records.delete(record.digest)
    else this.#touch(record)
  }

  #settle(record: MemoryRecord): number {
    const hash = createHash(digestAlgorithm(record.digest))
    for (const index of record.held.indices()) hash.update(record.chunks.get(index)?.bytes ?? '')
    if (hash.digest('hex') === digestHex(record.digest)) {
      record.proof = 'digest'
      return 0
    }
    this.#refuted.emit(record.digest)
    for (let index = 0; index < record.layout.count; index++) this.drop(record, index)
    return record.layout.count
  }

  #listed(): IteratorObject<MemoryRecord> {
    return this.#records.values().filter(record => !record.vain)
  }

  #idle(): IteratorObject<MemoryRecord> {
    return this.#records.values().filter(record => record.pins === 0)
  }

  #handle(record: MemoryRecord): StoredBlob {
    record.pins++
    this.#touch(record)
    return new MemoryBlob(this, record)
  }

  #touch(record: MemoryRecord): void {
    record.lastUsed = this.#clock.wall()
    this.#records.delete(record.digest)
    this.#records.set(record.digest, record)
  }

  #evict(victims: readonly MemoryRecord[]): void {
    for (const { digest, heldBytes } of victims) {
      this.#records.delete(digest)
      this.#used -= heldBytes
      this.#removed.emit(digest)
    }
  }
}

class MemoryBlob implements StoredBlob {
  readonly #store: MemoryStore
  readonly #record: MemoryRecord
  #released = false

  constructor(store: MemoryStore, record: MemoryRecord) {
    this.#store = store
    this.#record = record
  }

  get digest(): Digest {
    return this.#record.digest
  }

  get layout(): ChunkLayout {
    return this.#record.layout
  }

  get held(): ReadonlyBitfield {
    return this.#record.held
  }

  get complete(): boolean {
    return this.#record.complete
  }

  chunkHash(index: number): Uint8Array | undefined {
    return this.#record.chunks.get(index)?.hash
  }

  async writeChunk(index: number, bytes: Uint8Array, hash: Uint8Array): Promise<'stored' | 'full'> {
    assertWritable(this.layout, index, bytes, hash)
    this.#assertUsable()
    return this.#store.write(this.#record, index, bytes, hash)
  }

  async readChunk(index: number, offset: number, target: Uint8Array): Promise<number> {
    assertOffset(offset)
    this.#assertUsable()
    const chunk = this.#record.chunks.get(index)
    if (chunk === undefined) throw new ChunkMissingError(this.digest, index)
    const part = chunk.bytes.subarray(offset, offset + target.length)
    target.set(part)
    return part.length
  }

  async sendChunk(): Promise<number> {
    this.#assertUsable()
    return 0
  }

  async dropChunk(index: number): Promise<void> {
    this.#assertUsable()
    this.#store.drop(this.#record, index)
  }

  async markComplete(proof: BlobProof): Promise<void> {
    this.#assertUsable()
    const { held } = this.#record
    if (held.count < held.length) throw new BlobIncompleteError(this.digest, held.count, held.length)
    if (this.#record.proof !== 'digest') this.#record.proof = proof
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    this.#store.unpin(this.#record)
  }

  #assertUsable(): void {
    if (this.#released) throw new HandleReleasedError(this.digest)
    this.#store.assertOpen()
  }
}
