import { DarterError, type Digest } from '@darter/oci'
import type { ChunkLayout, ReadonlyBitfield } from '@darter/swarm'
import { type BlobFile, systemCode } from './blob-file.ts'
import type { BlobKeeper } from './blob-keeper.ts'
import { assertOffset, assertWritable } from './checks.ts'
import type { BlobProof, ReadVerification, StoredBlob } from './contract.ts'
import {
  BlobIncompleteError,
  ChunkCorruptError,
  ChunkMissingError,
  HandleReleasedError,
  StoreIoError,
} from './errors.ts'
import type { BlobRecord, LoadedChunks } from './record.ts'

/** There is no room, and eviction makes some. */
const DISK_FULL = new Set(['ENOSPC', 'EDQUOT'])
/** There is none, and eviction can't help: a failing or read-only disk, or a file that is too large for it. */
const DISK_UNFIT = new Set(['EIO', 'EFBIG', 'EROFS'])

/** A handle to a pinned blob of a disk store. */
export class DiskBlob implements StoredBlob {
  readonly #keeper: BlobKeeper
  readonly #record: BlobRecord
  readonly #loaded: LoadedChunks
  readonly #verify: ReadVerification
  #released = false

  /** Takes over a pin on `record`. */
  constructor(keeper: BlobKeeper, record: BlobRecord, loaded: LoadedChunks, verify: ReadVerification) {
    this.#keeper = keeper
    this.#record = record
    this.#loaded = loaded
    this.#verify = verify
  }

  get digest(): Digest {
    return this.#record.digest
  }

  get layout(): ChunkLayout {
    return this.#record.layout
  }

  get held(): ReadonlyBitfield {
    return this.#loaded.held
  }

  get complete(): boolean {
    return this.#record.complete
  }

  chunkHash(index: number): Uint8Array | undefined {
    return this.#loaded.held.has(index) ? this.#loaded.hashes.get(index) : undefined
  }

  async writeChunk(index: number, bytes: Uint8Array, hash: Uint8Array): Promise<'stored' | 'full'> {
    assertWritable(this.layout, index, bytes, hash)
    return await this.#use(`write chunk ${index}`, async () => {
      const { held, writes } = this.#loaded
      if (held.has(index)) return 'stored'
      let write = writes.get(index)
      if (write === undefined) {
        write = this.#write(index, bytes, hash).finally(() => writes.delete(index))
        writes.set(index, write)
      }
      return await write
    })
  }

  async readChunk(index: number, offset: number, target: Uint8Array): Promise<number> {
    assertOffset(offset)
    return await this.#use(`read chunk ${index}`, async () => {
      const { held } = this.#loaded
      const wanted = Math.min(target.length, this.layout.length(index) - offset)
      for (;;) {
        if (!held.has(index)) throw new ChunkMissingError(this.digest, index)
        if (wanted <= 0) return 0
        const { drops } = this.#record
        await this.#fill(index, offset, target.subarray(0, wanted))
        if (this.#record.drops === drops) return wanted
      }
    })
  }

  async sendChunk(
    index: number,
    offset: number,
    length: number,
    to: () => number | undefined,
  ): Promise<number> {
    assertOffset(offset)
    const wanted = Math.min(length, this.layout.length(index) - offset)
    if (this.#verify === 'always' || wanted <= 0) return 0
    return await this.#use(`send chunk ${index}`, async () => {
      const file = await this.#keeper.file(this.#record)
      const isRight = () => this.held.has(index) && this.#record.verified.has(index)
      return await file.send(() => (isRight() ? to() : undefined), this.layout.offset(index) + offset, wanted)
    })
  }

  async dropChunk(index: number): Promise<void> {
    await this.#use(`drop chunk ${index}`, async () => {
      await this.#loaded.writes.get(index)?.catch(() => undefined)
      this.#keeper.drop(this.#record, index)
    })
  }

  async markComplete(proof: BlobProof): Promise<void> {
    await this.#use('complete the blob', async () => {
      if (this.held.count < this.held.length) throw this.#incomplete()
      const { drops } = this.#record
      if (!this.#record.synced) await this.#keeper.sync(this.#record)
      // What was dropped and written again meanwhile is not what the caller has checked.
      if (this.#record.drops !== drops) throw this.#incomplete()
      if (this.#record.proof !== 'digest') this.#record.proof = proof
      this.#keeper.index.changeBlob(this.#record)
    })
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    this.#keeper.unpin(this.#record)
  }

  async #write(index: number, bytes: Uint8Array, hash: Uint8Array): Promise<'stored' | 'full'> {
    if (!(await this.#keeper.indexWritable())) return 'full'
    if (!(await this.#keeper.room.reserve(bytes.length))) return 'full'
    let stored = false
    try {
      stored = await this.#put(index, bytes)
    } finally {
      if (!stored) this.#keeper.room.free(bytes.length)
    }
    if (!stored) return 'full'
    this.#keeper.add(this.#record, this.#loaded, index, hash)
    return 'stored'
  }

  async #put(index: number, bytes: Uint8Array): Promise<boolean> {
    for (let attempt = 0; ; attempt++) {
      try {
        const file = await this.#keeper.file(this.#record)
        await file.write(this.layout.offset(index), bytes)
        return true
      } catch (error) {
        const code = systemCode(error) ?? ''
        const full = DISK_FULL.has(code)
        if (!full && !DISK_UNFIT.has(code)) throw error
        if (full && attempt === 0 && (await this.#keeper.room.makeOnDisk(bytes.length))) continue
        this.#keeper.log.warn(
          { err: error, digest: this.digest, chunk: index },
          'the disk takes no more chunks',
        )
        return false
      }
    }
  }

  async #fill(index: number, offset: number, target: Uint8Array): Promise<void> {
    const record = this.#record
    if (this.#verify === 'always') return await this.#keeper.check(record, index, offset, target)
    // First of all: opening the file may show that nothing in it can be trusted.
    const file = await this.#keeper.file(record)
    if (record.verified.has(index)) return await this.#readVerified(file, index, offset, target)
    const { checks } = this.#loaded
    const running = checks.get(index)
    if (running !== undefined) {
      await running
      return await this.#readVerified(file, index, offset, target)
    }
    const check = this.#keeper.check(record, index, offset, target).finally(() => checks.delete(index))
    checks.set(index, check)
    await check
  }

  async #readVerified(file: BlobFile, index: number, offset: number, target: Uint8Array): Promise<void> {
    const { drops } = this.#record
    let read = 0
    try {
      read = await file.read(this.layout.offset(index) + offset, target)
    } catch (error) {
      if (systemCode(error) !== 'EIO') throw error
    }
    if (read === target.length || this.#record.drops !== drops) return
    this.#keeper.drop(this.#record, index)
    throw new ChunkCorruptError(this.digest, index)
  }

  #incomplete(): BlobIncompleteError {
    return new BlobIncompleteError(this.digest, this.held.count, this.held.length)
  }

  /** Runs an operation with a pin of its own, so that the handle may be released while it runs. */
  async #use<T>(what: string, operation: () => Promise<T>): Promise<T> {
    if (this.#released) throw new HandleReleasedError(this.digest)
    this.#keeper.begin(this.#record)
    try {
      return await operation()
    } catch (error) {
      throw error instanceof DarterError ? error : new StoreIoError(`${what} of blob ${this.digest}`, error)
    } finally {
      this.#keeper.end(this.#record)
    }
  }
}
