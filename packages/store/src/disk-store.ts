import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DarterError, type Digest } from '@darter/oci'
import type { Clock, Logger } from '@darter/runtime'
import { blobPath, deleteBlobFile, listBlobFiles } from './blob-file.ts'
import { BlobKeeper } from './blob-keeper.ts'
import { type CapacityOptions, capacity } from './capacity.ts'
import { assertRate } from './checks.ts'
import { type IndexedBlob, openIndex } from './chunk-index.ts'
import type {
  ChunkStore,
  ReadVerification,
  RecoveryReport,
  ScrubReport,
  StoredBlob,
  StoredBlobInfo,
  StoreUsage,
} from './contract.ts'
import { DiskBlob } from './disk-blob.ts'
import { BlobSizeMismatchError, ChunkCorruptError, ChunkMissingError, StoreIoError } from './errors.ts'
import { lockDirectory } from './lock.ts'
import { BlobRecord } from './record.ts'

/** How many blobs are checked at once after an unclean stop. */
const RECOVERY_CONCURRENCY = 2

/** Options of {@link createDiskStore}. */
export interface DiskStoreOptions extends CapacityOptions {
  /** The store's own directory; made when it is missing. One process at a time. */
  readonly directory: string
  /** When chunks are checked as they are read. Default `once`. */
  readonly verify?: ReadVerification
  readonly clock: Clock
  readonly log: Logger
}

/**
 * A store on the local disk: one sparse file per blob (`blobs/<aa>/<algorithm>-<hex>`) and an SQLite index. Sound after
 * kill -9 and power cuts: a chunk enters the index once it is in its file, and is believed after an unclean stop only
 * if its file was synced since, or its data matches its hash.
 * @throws {StoreLockedError} when another process has the directory open.
 * @throws {StoreVersionError} when a newer version wrote it.
 * @throws {StoreIoError} when the directory can't be used.
 * @throws {RangeError} for capacity options out of bounds.
 */
export async function createDiskStore(options: DiskStoreOptions): Promise<ChunkStore> {
  const { directory, clock, log, verify = 'once' } = options
  const bounds = capacity(options)
  try {
    await mkdir(join(directory, 'blobs'), { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new StoreIoError('make its directory', error)
  }
  const unlock = lockDirectory(directory)
  try {
    const { index, blobs } = openIndex(directory, log)
    const keeper = new BlobKeeper({ directory, capacity: bounds, clock, log, index })
    try {
      await reconcile(keeper, blobs)
    } catch (error) {
      index.close()
      throw new StoreIoError('read its directory', error)
    }
    return new DiskStore(keeper, verify, 1 + Math.max(0, ...blobs.map(blob => blob.id)), unlock)
  } catch (error) {
    unlock()
    throw error
  }
}

/** Takes in the blobs that both the index and the directory know, and deletes what only one of them does. */
async function reconcile(keeper: BlobKeeper, blobs: readonly IndexedBlob[]): Promise<void> {
  const rows = new Map(blobs.map(row => [row.digest, row]))
  const files = new Set<Digest>()
  for await (const digest of listBlobFiles(keeper.directory)) {
    if (rows.has(digest)) files.add(digest)
    else {
      keeper.log.info({ digest }, 'deleting a data file that the index does not know')
      await deleteBlobFile(blobPath(keeper.directory, digest))
    }
  }
  for (const row of rows.values()) {
    if (files.has(row.digest) || (row.size === 0 && row.proof !== undefined))
      keeper.adopt(BlobRecord.from(row))
    else {
      keeper.log.warn({ digest: row.digest }, 'a blob has lost its data file')
      keeper.index.removeBlob(row)
    }
  }
  keeper.index.flush(true)
}

class DiskStore implements ChunkStore {
  readonly recovered: Promise<RecoveryReport>
  readonly #keeper: BlobKeeper
  readonly #verify: ReadVerification
  readonly #unlock: () => void
  readonly #recovery = { blobs: 0, kept: 0, dropped: 0 }
  #nextId: number
  #closed: Promise<void> | undefined

  constructor(keeper: BlobKeeper, verify: ReadVerification, nextId: number, unlock: () => void) {
    this.#keeper = keeper
    this.#verify = verify
    this.#nextId = nextId
    this.#unlock = unlock
    this.recovered = this.#recoverAll()
  }

  async open(digest: Digest, size: number): Promise<StoredBlob> {
    return await this.#keeper.run(async () => {
      for (;;) {
        const busy = this.#busy(digest)
        if (busy !== undefined) {
          await busy
          continue
        }
        const known = this.#keeper.records.get(digest)
        if (known !== undefined && known.size !== size) {
          throw new BlobSizeMismatchError(digest, known.size, size)
        }
        if (known !== undefined) return await this.#handle(known)
        if (this.#keeper.records.size >= this.#keeper.room.capacity.maxBlobs) {
          await this.#keeper.room.makeForBlob()
          if (this.#keeper.records.has(digest)) continue
        }
        const record = new BlobRecord(this.#nextId++, digest, size)
        const handle = await this.#handle(record)
        // Its first chunk need not wait for that then. A failure is told to the write that tries again.
        if (size > 0) this.#keeper.file(record).catch(() => {})
        return handle
      }
    })
  }

  async find(digest: Digest): Promise<StoredBlob | undefined> {
    return await this.#keeper.run(async () => {
      for (let busy = this.#busy(digest); busy !== undefined; busy = this.#busy(digest)) await busy
      const known = this.#keeper.records.get(digest)
      return known === undefined ? undefined : await this.#handle(known)
    })
  }

  info(digest: Digest): StoredBlobInfo | undefined {
    const record = this.#keeper.records.get(digest)
    return record !== undefined && isListed(record) ? record.info() : undefined
  }

  list(): StoredBlobInfo[] {
    return [...this.#listed()].toReversed().map(record => record.info())
  }

  async remove(digest: Digest): Promise<boolean> {
    return await this.#keeper.run(async () => {
      const record = this.#keeper.records.get(digest)
      if (record === undefined) return true
      if (record.pins > 0) return false
      await (record.leaving ?? this.#keeper.remove([record]))
      return true
    })
  }

  usage(): StoreUsage {
    return {
      bytes: this.#keeper.room.used,
      quotaBytes: this.#keeper.room.capacity.quotaBytes,
      blobs: this.#listed().reduce(count => count + 1, 0),
    }
  }

  async scrub(options: {
    readonly bytesPerSecond: number
    readonly signal: AbortSignal
  }): Promise<ScrubReport> {
    assertRate(options.bytesPerSecond)
    return await this.#keeper.run(async () => {
      const signal = AbortSignal.any([options.signal, this.#keeper.closing])
      const report = { chunks: 0, bytes: 0, dropped: 0 }
      const started = this.#keeper.clock.now()
      const pace = async (bytes: number): Promise<void> => {
        report.bytes += bytes
        const wait = started + (report.bytes / options.bytesPerSecond) * 1000 - this.#keeper.clock.now()
        // The only way for it to fail is the signal, whose own reason is the better error.
        if (wait > 0) await sleep(wait, undefined, { signal }).catch(() => undefined)
        signal.throwIfAborted()
      }
      const oldestFirst = this.#listed()
        .toArray()
        .toSorted((a, b) => a.checkedAt - b.checkedAt)
      for (const record of oldestFirst) {
        signal.throwIfAborted()
        await this.#scrubBlob(record, report, pace)
      }
      return report
    })
  }

  onDropped(handler: (digest: Digest, chunk: number) => void): () => void {
    return this.#keeper.dropped.add(handler)
  }

  onRefuted(handler: (digest: Digest) => void): () => void {
    return this.#keeper.refuted.add(handler)
  }

  onRemoved(handler: (digest: Digest) => void): () => void {
    return this.#keeper.removed.add(handler)
  }

  close(): Promise<void> {
    this.#closed ??= this.#keeper.close().finally(this.#unlock)
    return this.#closed
  }

  #listed(): IteratorObject<BlobRecord> {
    return this.#keeper.records.values().filter(isListed)
  }

  /** What to wait for before a blob can be used: that it is gone, or out of doubt. Then ask again. */
  #busy(digest: Digest): Promise<void> | undefined {
    this.#keeper.closing.throwIfAborted()
    const record = this.#keeper.records.get(digest)
    if (record?.leaving !== undefined) return record.leaving
    return record?.doubtful === true ? this.#recover(record) : undefined
  }

  async #handle(record: BlobRecord): Promise<StoredBlob> {
    this.#keeper.pin(record)
    try {
      this.#keeper.touch(record)
      return new DiskBlob(this.#keeper, record, await this.#keeper.load(record), this.#verify)
    } catch (error) {
      this.#keeper.unpin(record)
      throw error
    }
  }

  async #scrubBlob(
    record: BlobRecord,
    report: { chunks: number; dropped: number },
    pace: (bytes: number) => Promise<void>,
  ): Promise<void> {
    const keeper = this.#keeper
    keeper.enter(record)
    try {
      const { held } = await keeper.load(record)
      for (const index of held.indices()) {
        if (index < record.checkedNext) continue
        if (record.gone) return
        try {
          await keeper.check(record, index)
        } catch (error) {
          if (record.gone) return
          if (error instanceof ChunkMissingError) continue
          if (!(error instanceof ChunkCorruptError)) throw error
          report.dropped++
        }
        report.chunks++
        record.checkedNext = index + 1
        if (!record.vain) keeper.index.changeBlob(record)
        await pace(record.layout.length(index))
      }
      if (record.proof === 'list') report.dropped += await keeper.settle(record, pace)
      if (record.gone) return
      record.checkedNext = 0
      record.checkedAt = keeper.clock.wall()
      if (!record.vain) keeper.index.changeBlob(record)
    } finally {
      keeper.leave(record)
    }
  }

  async #recoverAll(): Promise<RecoveryReport> {
    const keeper = this.#keeper
    const queue = keeper.records
      .values()
      .filter(record => record.doubtful)
      .toArray()
    if (queue.length > 0)
      keeper.log.info({ blobs: queue.length }, 'checking what the last stop left in doubt')
    const worker = async (): Promise<void> => {
      for (let record = queue.pop(); record !== undefined; record = queue.pop()) {
        if (keeper.closing.aborted) return
        if (record.gone || !record.doubtful) continue
        try {
          await this.#recover(record)
        } catch (error) {
          if (keeper.closing.aborted) return
          keeper.log.error({ err: error, digest: record.digest }, 'a blob stays in doubt')
        }
      }
    }
    await Promise.all(Array.from({ length: RECOVERY_CONCURRENCY }, worker))
    if (this.#recovery.blobs > 0) keeper.log.info(this.#recovery, 'checked what the last stop left in doubt')
    return this.#recovery
  }

  /** Checks every chunk of a blob in doubt, for all who wait for it. @throws {StoreIoError} when it stays in doubt. */
  #recover(record: BlobRecord): Promise<void> {
    record.recovering ??= this.#keeper
      .run(() => this.#checkAll(record))
      .catch(error => {
        throw error instanceof DarterError ? error : new StoreIoError(`check blob ${record.digest}`, error)
      })
      .finally(() => {
        record.recovering = undefined
      })
    return record.recovering
  }

  async #checkAll(record: BlobRecord): Promise<void> {
    const keeper = this.#keeper
    keeper.enter(record)
    try {
      const { held } = await keeper.load(record)
      const before = held.count
      for (const index of held.indices()) {
        keeper.closing.throwIfAborted()
        if (record.gone) return
        try {
          await keeper.check(record, index)
        } catch (error) {
          if (record.gone) return
          if (!(error instanceof ChunkCorruptError)) throw error
        }
      }
      await keeper.sync(record)
      if (record.gone) return
      record.doubtful = false
      this.#recovery.blobs++
      this.#recovery.kept += held.count
      this.#recovery.dropped += before - held.count
    } finally {
      keeper.leave(record)
    }
  }
}

function isListed(record: BlobRecord): boolean {
  return !record.gone && !record.doubtful && !record.vain
}
