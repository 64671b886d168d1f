import type { Digest } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import { type Capacity, chooseOldest, chooseVictims } from './capacity.ts'
import type { BlobRecord } from './record.ts'

/** What goes beyond the need when the disk is full: the index and the file system take some of it. */
const SPARE_BYTES = 1024 * 1024

/** What the blobs of a disk store take, and which of them go when there is no room. */
export class Room {
  readonly capacity: Capacity
  readonly #log: Logger
  readonly #blobs: () => number
  readonly #remove: (victims: readonly BlobRecord[]) => Promise<void>
  /** What may be evicted, least recently used first. */
  readonly #idle = new Map<Digest, BlobRecord>()
  #used = 0
  #evicting: Promise<void> | undefined

  /** @param options.blobs how many there are now. @param options.remove deletes blobs, and calls {@link free} for what they took. */
  constructor(options: {
    readonly capacity: Capacity
    readonly log: Logger
    readonly blobs: () => number
    readonly remove: (victims: readonly BlobRecord[]) => Promise<void>
  }) {
    this.capacity = options.capacity
    this.#log = options.log
    this.#blobs = options.blobs
    this.#remove = options.remove
  }

  /** Bytes held, in doubt, or being written. */
  get used(): number {
    return this.#used
  }

  /** From now on a blob may go, after those that may go already. */
  idle(record: BlobRecord): void {
    this.#idle.set(record.digest, record)
  }

  /** A blob may not go, or is going. */
  busy(record: BlobRecord): void {
    this.#idle.delete(record.digest)
  }

  /** Counts bytes that are held already; fewer than 0 when it was fewer than thought. */
  take(bytes: number): void {
    this.#used += bytes
  }

  /** Bytes are held no more, or what {@link reserve} set aside was not used. */
  free(bytes: number): void {
    this.#used -= bytes
  }

  /** Sets `bytes` aside for a write, evicting if that helps; false when there is no room. */
  async reserve(bytes: number): Promise<boolean> {
    for (;;) {
      const fits = this.#used + bytes <= this.capacity.highBytes
      if (!fits && this.#evicting !== undefined) {
        await this.#evicting
        continue
      }
      const victims = fits ? [] : chooseVictims(this.capacity, this.#used, bytes, this.#idle.values())
      if (victims === undefined) return false
      if (victims.length === 0) {
        this.#used += bytes
        return true
      }
      await this.#evict(victims)
    }
  }

  /** Evicts because the disk is full though the quota is not; returns whether anything went. */
  async makeOnDisk(bytes: number): Promise<boolean> {
    if (this.#evicting !== undefined) {
      await this.#evicting
      return true
    }
    const wanted = Math.max(bytes + SPARE_BYTES, this.#used * this.capacity.spareFraction)
    const victims = chooseOldest(wanted, this.#idle.values())
    if (victims.length === 0) return false
    await this.#evict(victims)
    return true
  }

  /** Makes room for one more blob, if any may go. */
  async makeForBlob(): Promise<void> {
    while (this.#blobs() >= this.capacity.maxBlobs) {
      if (this.#evicting !== undefined) await this.#evicting
      else {
        const victims = this.#idle.values().take(this.capacity.spareBlobs).toArray()
        if (victims.length === 0) return
        await this.#evict(victims)
      }
    }
  }

  async #evict(victims: readonly BlobRecord[]): Promise<void> {
    const bytes = victims.reduce((sum, record) => sum + record.heldBytes, 0)
    this.#log.info({ blobs: victims.length, bytes }, 'making room in the store')
    this.#evicting = this.#remove(victims)
    try {
      await this.#evicting
    } finally {
      this.#evicting = undefined
    }
  }
}
