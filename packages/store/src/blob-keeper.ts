import { createHash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type Digest, digestAlgorithm, digestHex } from '@darter/oci'
import type { Clock, Logger } from '@darter/runtime'
import { BlobFile, blobPath, deleteBlobFile, FileRooms } from './blob-file.ts'
import type { Capacity } from './capacity.ts'
import type { ChunkIndex } from './chunk-index.ts'
import { ChunkCorruptError, ChunkMissingError, StoreClosedError, StoreIoError } from './errors.ts'
import { Listeners } from './listeners.ts'
import { type BlobRecord, LoadedChunks } from './record.ts'
import { Room } from './room.ts'

/**
 * Bytes of one blob after which they are brought to the disk while more arrive: what is left for {@link BlobKeeper.sync} at the
 * end is less than a second's work of most disks, and the kernel never has to stop a writer until it has caught up.
 */
const FLUSH_BYTES = 64 * 1024 * 1024

/**
 * The disk store's state and the few ways in which it changes: which blobs there are, who uses them, what is held of them.
 * Memory, index and files are kept in step here and nowhere else.
 */
export class BlobKeeper {
  readonly directory: string
  readonly clock: Clock
  readonly log: Logger
  readonly index: ChunkIndex
  readonly room: Room
  /** All blobs, least recently used first. */
  readonly records = new Map<Digest, BlobRecord>()
  readonly dropped: Listeners<[digest: Digest, chunk: number]>
  readonly refuted: Listeners<[digest: Digest]>
  readonly removed: Listeners<[digest: Digest]>
  /** Whether a blob is brought to the disk early; one at a time, since each takes a thread that reads and writes need too. */
  #flushing = false
  #files = new FileRooms()
  #closing = new AbortController()
  #active = 0
  #onQuiet: (() => void) | undefined
  #closed = false

  constructor(parts: {
    readonly directory: string
    readonly capacity: Capacity
    readonly clock: Clock
    readonly log: Logger
    readonly index: ChunkIndex
  }) {
    this.directory = parts.directory
    this.clock = parts.clock
    this.log = parts.log
    this.index = parts.index
    this.room = new Room({
      capacity: parts.capacity,
      log: parts.log,
      blobs: () => this.records.size,
      remove: victims => this.remove(victims),
    })
    const onError = (error: unknown): void => this.log.error({ err: error }, 'a store listener failed')
    this.dropped = new Listeners(onError)
    this.refuted = new Listeners(onError)
    this.removed = new Listeners(onError)
  }

  /** Aborted, with a {@link StoreClosedError}, once the store is being closed. */
  get closing(): AbortSignal {
    return this.#closing.signal
  }

  /** Takes in a blob as the index has it. */
  adopt(record: BlobRecord): void {
    this.records.set(record.digest, record)
    this.room.idle(record)
    this.room.take(record.heldBytes)
  }

  /** Runs an operation that {@link close} waits for. @throws {StoreClosedError} */
  async run<T>(operation: () => Promise<T>): Promise<T> {
    this.closing.throwIfAborted()
    return await this.#track(operation)
  }

  /** Begins an operation on a blob that {@link close} waits for and that pins it; {@link end} must follow. @throws {StoreClosedError} */
  begin(record: BlobRecord): void {
    this.closing.throwIfAborted()
    this.#active++
    this.pin(record)
  }

  /** Ends what {@link begin} began. */
  end(record: BlobRecord): void {
    this.unpin(record)
    this.#done()
  }

  /** Keeps a blob from being removed, and its state in memory. */
  pin(record: BlobRecord): void {
    record.pins++
    record.users++
    this.room.busy(record)
  }

  /** Ends a pin. The last one puts the blob at the safe end of the queue for eviction. */
  unpin(record: BlobRecord): void {
    if (this.#closed) return
    record.pins--
    if (record.pins === 0) {
      this.touch(record)
      this.room.idle(record)
      if (!record.synced && !record.vain) this.#syncLater(record)
    }
    this.leave(record)
  }

  /** Keeps a blob's state in memory, though not the blob. */
  enter(record: BlobRecord): void {
    record.users++
  }

  /** Ends an {@link enter}. The last one closes the file, and forgets a blob of which there is nothing. */
  leave(record: BlobRecord): void {
    record.users--
    if (record.users > 0) return
    const { file } = record
    record.loaded = undefined
    record.file = undefined
    const closed = file === undefined ? undefined : this.#closeFile(file)
    if (record.vain && !record.doubtful && !record.gone) {
      void this.#background('a blob could not be forgotten', () => this.remove([record], closed))
    }
  }

  /** Counts as use. */
  touch(record: BlobRecord): void {
    record.lastUsed = this.clock.wall()
    this.records.delete(record.digest)
    this.records.set(record.digest, record)
    if (!record.vain) this.index.changeBlob(record)
  }

  /** What is held of a blob; for its users only. @throws {StoreIoError} */
  load(record: BlobRecord): Promise<LoadedChunks> {
    if (record.loaded !== undefined) return Promise.resolve(record.loaded)
    record.loading ??= this.#load(record).finally(() => {
      record.loading = undefined
    })
    return record.loading
  }

  /** A blob's data file; for its users only. Rejects with the system's error. */
  file(record: BlobRecord): Promise<BlobFile> {
    if (record.file !== undefined) return record.file
    const opening = this.#openFile(record)
    record.file = opening
    opening.catch(() => {
      if (record.file === opening) record.file = undefined
    })
    return opening
  }

  /** Whether the index takes changes; when it had no room for the last ones, evicts and tries again. */
  async indexWritable(): Promise<boolean> {
    if (this.index.health === 'full' && (await this.room.makeOnDisk(0))) this.index.flush(false)
    return this.index.health === 'well'
  }

  /**
   * Deletes blobs that nobody has pinned. Files go first, so that it works on a full disk; the index follows durably,
   * before a blob can come back under the same name.
   * @param after what to wait for first: a file that is being made would outlive its blob.
   */
  async remove(victims: readonly BlobRecord[], after?: Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const listed = victims.filter(record => !record.vain && !record.doubtful)
    for (const record of victims) {
      record.leaving = promise
      this.room.busy(record)
    }
    await after
    for (const { digest } of victims) {
      try {
        await deleteBlobFile(blobPath(this.directory, digest))
      } catch (error) {
        this.log.warn(
          { err: error, digest },
          'a data file could not be deleted; will try again at the next start',
        )
      }
    }
    for (const record of victims) {
      this.room.free(record.heldBytes)
      this.records.delete(record.digest)
      this.index.removeBlob(record)
    }
    this.index.flush(true)
    for (const { digest } of listed) this.removed.emit(digest)
    resolve()
  }

  /** Notes that a chunk is in its file and matches `hash`; its room was set aside by {@link Room.reserve}. */
  add(record: BlobRecord, loaded: LoadedChunks, index: number, hash: Uint8Array): void {
    loaded.add(index, hash)
    record.verified.set(index)
    record.heldChunks++
    record.heldBytes += record.layout.length(index)
    record.writes++
    record.unflushedBytes += record.layout.length(index)
    record.synced = false
    this.index.putChunk(record, index, hash)
    if (record.unflushedBytes >= FLUSH_BYTES && !this.#flushing) this.#flushEarly(record)
  }

  /** Forgets a chunk of a loaded blob and tells the listeners; nothing when it is not held. */
  drop(record: BlobRecord, index: number): void {
    // What is in doubt anyway may come back after a power cut, to be checked; this would be believed.
    if (this.#forget(record, index) && record.synced) this.index.flush(true)
  }

  #forget(record: BlobRecord, index: number): boolean {
    if (record.gone || record.loaded?.held.clear(index) !== true) return false
    record.verified.clear(index)
    record.heldChunks--
    record.heldBytes -= record.layout.length(index)
    record.drops++
    record.proof = undefined
    this.room.free(record.layout.length(index))
    this.index.dropChunk(record, index)
    if (!record.doubtful) this.dropped.emit(record.digest, index)
    return true
  }

  /**
   * Compares a chunk with its hash, leaving the part from `offset` on in `target`. Drops a chunk that differs.
   * @throws {ChunkCorruptError}
   * @throws {ChunkMissingError}
   */
  async check(record: BlobRecord, index: number, offset?: number, target?: Uint8Array): Promise<void> {
    const { layout, digest } = record
    for (;;) {
      if (record.gone || record.loaded?.held.has(index) !== true) throw new ChunkMissingError(digest, index)
      const { drops } = record
      const file = await this.file(record)
      const found = await file.hash(layout.offset(index), layout.length(index), offset, target)
      // Another chunk, or this one, was dropped and maybe written again while it was read.
      if (record.drops !== drops || record.gone) continue
      const wanted = record.loaded.hashes.get(index)
      if (found !== undefined && wanted !== undefined && found.equals(wanted)) {
        record.verified.set(index)
        return
      }
      this.drop(record, index)
      this.log.warn({ digest, chunk: index }, 'a stored chunk did not match its hash and was dropped')
      throw new ChunkCorruptError(digest, index)
    }
  }

  /**
   * Computes the digest of a blob that is complete by a chunk list. One that is wrong costs it all of its chunks.
   * @param pace awaited after each chunk with its length in bytes; may reject.
   * @returns how many were dropped.
   */
  async settle(record: BlobRecord, pace: (bytes: number) => Promise<void>): Promise<number> {
    const { layout, digest, drops } = record
    const isSame = () => record.proof === 'list' && record.drops === drops && !record.gone
    const hash = createHash(digestAlgorithm(digest))
    const file = await this.file(record)
    for (let index = 0; index < layout.count; index++) {
      if (!isSame()) return 0
      // What the disk can't read is for the check of that chunk to find.
      if (!(await file.feed(hash, layout.offset(index), layout.length(index)))) return 0
      await pace(layout.length(index))
    }
    if (!isSame()) return 0
    if (hash.digest('hex') === digestHex(digest)) {
      record.proof = 'digest'
      this.index.changeBlob(record)
      return 0
    }
    this.log.error({ digest }, 'a blob that matches its chunk list has the wrong digest and was dropped')
    this.refuted.emit(digest)
    for (let index = 0; index < layout.count; index++) this.#forget(record, index)
    this.index.flush(true)
    return layout.count
  }

  /**
   * Makes what is held of a blob survive a power cut, and notes it unless more was written meanwhile.
   * @throws {StoreIoError}
   */
  async sync(record: BlobRecord): Promise<void> {
    const { writes } = record
    try {
      const file = await this.file(record)
      record.unflushedBytes = 0
      await file.sync()
    } catch (error) {
      // The kernel may have thrown away what it could not write.
      record.distrust()
      record.lossy = true
      throw new StoreIoError(`make blob ${record.digest} durable`, error)
    }
    // The kernel tells of a failed write once: after that, only a check of every chunk at the next start will do.
    if (record.gone || record.writes !== writes || record.lossy) return
    record.synced = true
    if (!record.vain) this.index.changeBlob(record)
  }

  /** Stops taking operations, waits for those under way, and leaves a synced index and no open file behind. */
  async close(): Promise<void> {
    this.#closing.abort(new StoreClosedError())
    while (this.#active > 0) {
      await new Promise<void>(resolve => {
        this.#onQuiet = resolve
      })
    }
    this.#closed = true
    for (const record of this.records.values()) {
      try {
        if (!record.synced && !record.doubtful && !record.vain) await this.sync(record)
        if (record.file !== undefined) await (await record.file).close()
      } catch (error) {
        this.log.warn({ err: error, digest: record.digest }, 'a blob is left in doubt')
      }
    }
    this.index.close()
  }

  async #track<T>(operation: () => Promise<T>): Promise<T> {
    this.#active++
    try {
      return await operation()
    } finally {
      this.#done()
    }
  }

  #done(): void {
    this.#active--
    if (this.#active === 0) this.#onQuiet?.()
  }

  /** Runs what nobody waits for but {@link close}; a failure is logged as `what`. */
  async #background(what: string, operation: () => Promise<void>): Promise<void> {
    try {
      await this.#track(operation)
    } catch (error) {
      this.log.warn({ err: error }, what)
    }
  }

  /** Closes a file that may still be being opened; resolves when that is done, or failed. */
  #closeFile(opening: Promise<BlobFile>): Promise<void> {
    return this.#background('a data file could not be closed', async () => {
      const file = await opening.catch(() => undefined)
      await file?.close()
    })
  }

  #flushEarly(record: BlobRecord): void {
    this.#flushing = true
    this.enter(record)
    void this.#background('a blob could not be made durable', async () => {
      try {
        await this.sync(record)
      } finally {
        this.#flushing = false
        this.leave(record)
      }
    })
  }

  #syncLater(record: BlobRecord): void {
    this.enter(record)
    void this.#background('a blob could not be made durable', async () => {
      try {
        await this.sync(record)
      } finally {
        this.leave(record)
      }
    })
  }

  async #openFile(record: BlobRecord): Promise<BlobFile> {
    const path = blobPath(this.directory, record.digest)
    const file = await BlobFile.open(path, record.size, this.#files)
    if (file.wasShort) record.distrust()
    return file
  }

  async #load(record: BlobRecord): Promise<LoadedChunks> {
    const loaded = new LoadedChunks(record.layout.count)
    let bytes = 0
    let pages = 0
    for (const page of this.index.chunks(record.id)) {
      if (pages++ > 0) await nextTurn()
      for (const [index, hash] of page) if (loaded.add(index, hash)) bytes += record.layout.length(index)
    }
    this.room.take(bytes - record.heldBytes)
    record.heldBytes = bytes
    record.heldChunks = loaded.held.count
    if (loaded.held.count < record.layout.count) record.proof = undefined
    record.loaded = loaded
    return loaded
  }
}
