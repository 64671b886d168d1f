import type { Digest } from '@darter/oci'
import { Bitfield, type ChunkLayout, chunkLayout } from '@darter/swarm'
import type { BlobFile } from './blob-file.ts'
import type { IndexedBlob } from './chunk-index.ts'
import type { BlobProof, StoredBlobInfo } from './contract.ts'
import { HashTable } from './hash-table.ts'

/** What is in memory of a blob only while it is in use. */
export class LoadedChunks {
  readonly held: Bitfield
  readonly hashes = new HashTable()
  /** Writes under way, by chunk. */
  readonly writes = new Map<number, Promise<'stored' | 'full'>>()
  /** Checks under way, by chunk. */
  readonly checks = new Map<number, Promise<void>>()

  constructor(count: number) {
    this.held = new Bitfield(count)
  }

  add(index: number, hash: Uint8Array): boolean {
    this.hashes.set(index, hash)
    return this.held.set(index)
  }
}

/** A blob as the disk store knows it. Everything in here changes synchronously, between awaits. */
export class BlobRecord implements IndexedBlob {
  readonly id: number
  readonly digest: Digest
  readonly layout: ChunkLayout
  heldChunks = 0
  heldBytes = 0
  proof: BlobProof | undefined
  synced = true
  lastUsed = 0
  checkedAt = 0
  checkedNext = 0
  /** An unclean stop left it unsynced, and it was not checked since. */
  doubtful = false
  /** Handles, and operations under way on them: while there are any, the blob may not be removed. */
  pins = 0
  /** Pins, and what else (a scrub, a sync) needs {@link loaded} and {@link file}. */
  users = 0
  /** Rises with each chunk that was written: tells whether a sync covered everything. */
  writes = 0
  /** The disk has refused what was written: no later sync can be taken at its word. */
  lossy = false
  /** Bytes written since the kernel was last told to bring the data to the disk. */
  unflushedBytes = 0
  /** Rises with each chunk that was dropped: tells whether what was read meanwhile can be trusted. */
  drops = 0
  loaded: LoadedChunks | undefined
  loading: Promise<LoadedChunks> | undefined
  file: Promise<BlobFile> | undefined
  recovering: Promise<void> | undefined
  /** Set once the blob is being removed; settles when it is gone. Nothing but that happens to it any more. */
  leaving: Promise<void> | undefined
  #verified: Bitfield | undefined

  constructor(id: number, digest: Digest, size: number) {
    this.id = id
    this.digest = digest
    this.layout = chunkLayout(size)
  }

  /** The record of a blob found in the index. */
  static from(row: IndexedBlob): BlobRecord {
    const record = new BlobRecord(row.id, row.digest, row.size)
    record.heldChunks = row.heldChunks
    record.heldBytes = row.heldBytes
    record.proof = row.proof
    record.synced = row.synced
    record.doubtful = !row.synced
    record.lastUsed = row.lastUsed
    record.checkedAt = row.checkedAt
    record.checkedNext = row.checkedNext
    return record
  }

  get size(): number {
    return this.layout.size
  }

  get complete(): boolean {
    return this.proof !== undefined
  }

  get gone(): boolean {
    return this.leaving !== undefined
  }

  /** Nothing is held and nothing is known: not worth a record once nobody uses it. */
  get vain(): boolean {
    return this.heldChunks === 0 && !this.complete
  }

  /** The chunks that are known to match their hash since the program started. */
  get verified(): Bitfield {
    this.#verified ??= new Bitfield(this.layout.count)
    return this.#verified
  }

  /** Trusts nothing of the data any more until it was read and checked. */
  distrust(): void {
    this.#verified = undefined
  }

  info(): StoredBlobInfo {
    const { digest, size, heldChunks, complete, lastUsed } = this
    return { digest, size, heldChunks, complete, lastUsed }
  }
}
