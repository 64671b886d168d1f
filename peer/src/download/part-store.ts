import { join } from 'node:path'
import type { Logger } from '@darter/runtime'
import { openPlainFile, type PlainFile } from '@darter/store'
import { PartIndex, type PartOwner, partSum } from './part-index.ts'
import { Places } from './places.ts'

/** What a range is rounded to, in bytes; every chunk size is a multiple of it. */
export const BLOCK_BYTES = 32 * 1024
/** Whole chunks of which is known who gave them. They have the first places of the index, and the slots of blocks those after them. */
const CHUNK_PLACES = 32 * 1024
/** The most that is kept: a part of the store's quota, and at most so many bytes. */
const QUOTA_SHARE = 1 / 16
const MAX_BYTES = 1024 * 1024 * 1024

/** What an earlier process left of an owner: a block in a slot, or the word for a whole chunk in a place. */
export interface Leftover {
  readonly kind: 'block' | 'chunk'
  readonly number: number
  readonly place: number
}

/** What has slots. */
export interface SlotHolder {
  /** Gives them all back, and is {@link PartStore.removed}: others need the room. */
  evict(): void
}

/**
 * Opens what is kept in a store's directory, which this process must have for itself, for a store with such a quota.
 * @throws the system's error.
 */
export async function openPartStore(directory: string, quotaBytes: number, log: Logger): Promise<PartStore> {
  const data = await openPlainFile(join(directory, 'ranges.data'))
  const index = await openPlainFile(join(directory, 'ranges.index'))
  return await PartStore.open({ data, index, bytes: Math.min(MAX_BYTES, quotaBytes * QUOTA_SHARE), log })
}

/**
 * Blocks of chunks that are not whole, and who gave whole ones: what readers of ranges got from an origin, kept so that nobody has
 * to ask for it again. Bounded: what was used least recently goes, and before that what nobody has asked for since the start. It outlives
 * the process, however that ended: a slot holds a block when its bytes fit what the index says of it, and not otherwise. Never given to
 * other peers.
 */
export class PartStore {
  readonly #data: PlainFile
  readonly #index: PartIndex
  readonly #log: Logger
  readonly #slots: Places
  readonly #chunkPlaces: Places
  /** Places of what an earlier process left and nobody has asked for, by owner (in hex). */
  readonly #leftovers = new Map<string, number[]>()
  /** What has slots, the least recently used first. */
  readonly #holders = new Set<SlotHolder>()
  /** Places of whole chunks that somebody has asked for, the oldest first. */
  readonly #chunks = new Set<number>()
  #failed = false
  #damaged = false

  private constructor(data: PlainFile, index: PartIndex, log: Logger) {
    this.#data = data
    this.#index = index
    this.#log = log
    this.#chunkPlaces = new Places(CHUNK_PLACES, place => index.isUsed(place))
    this.#slots = new Places(index.places - CHUNK_PLACES, slot => index.isUsed(CHUNK_PLACES + slot))
    for (let place = 0; place < index.places; place++) {
      if (!index.isUsed(place)) continue
      const owner = index.owner(place).toString('hex')
      const places = this.#leftovers.get(owner)
      if (places === undefined) this.#leftovers.set(owner, [place])
      else places.push(place)
    }
  }

  /**
   * Takes over two files, with what an earlier process left there.
   * @param options.bytes the most that is kept of blocks.
   * @throws the system's error.
   */
  static async open(options: {
    readonly data: PlainFile
    readonly index: PlainFile
    readonly bytes: number
    readonly log: Logger
  }): Promise<PartStore> {
    const { data, index, bytes, log } = options
    const places = CHUNK_PLACES + Math.floor(bytes / BLOCK_BYTES)
    const store = new PartStore(data, await PartIndex.open(index, places, log), log)
    await data.trim(store.#slots.end * BLOCK_BYTES)
    return store
  }

  /** Bytes that are kept, in whole blocks. */
  get bytes(): number {
    return this.#slots.taken * BLOCK_BYTES
  }

  /** What an earlier process left of an owner: whoever asks has its places from now on. */
  claim(owner: PartOwner): Leftover[] {
    const key = owner.toString('hex')
    const places = this.#leftovers.get(key) ?? []
    this.#leftovers.delete(key)
    return places.map(place => {
      const number = this.#index.number(place)
      if (place >= CHUNK_PLACES) return { kind: 'block', number, place: place - CHUNK_PLACES }
      this.#chunks.add(place)
      return { kind: 'chunk', number, place }
    })
  }

  /** Forgets what an earlier process left of owners that begin with this, in hex, and that nobody has claimed. */
  dropLeftovers(begin: string): void {
    for (const owner of this.#leftovers.keys()) if (owner.startsWith(begin)) this.#dropLeftoversOf(owner)
  }

  /** Counts as use. */
  touch(holder: SlotHolder): void {
    this.#holders.delete(holder)
    this.#holders.add(holder)
  }

  /** It has no slots any more. */
  removed(holder: SlotHolder): void {
    this.#holders.delete(holder)
  }

  /** The slot in which a block was written; undefined when there is no room for it. */
  async write(owner: PartOwner, block: number, bytes: Uint8Array): Promise<number | undefined> {
    const slot = this.#takeSlot()
    if (slot === undefined) return undefined
    try {
      await this.#data.write(slot * BLOCK_BYTES, bytes)
      this.#index.put(CHUNK_PLACES + slot, owner, block, partSum(owner, 'block', block, bytes))
      return slot
    } catch (error) {
      this.#slots.giveBack(slot)
      if (!this.#failed) this.#log.warn({ err: error }, 'parts of chunks cannot be kept on disk')
      this.#failed = true
      return undefined
    }
  }

  /** A slot's block is not needed any more. */
  giveBack(slot: number): void {
    this.#index.clear(CHUNK_PLACES + slot)
    this.#slots.giveBack(slot)
  }

  /** `length` bytes of blocks that lie one after another, to be {@link fits checked}; undefined when the disk does not give them. */
  async read(slot: number, length: number): Promise<Uint8Array | undefined> {
    const target = Buffer.allocUnsafe(length)
    const count = await this.#data.read(slot * BLOCK_BYTES, target).catch(() => 0)
    return count === length ? target : undefined
  }

  /** Whether that is the block that was written to a slot. */
  fits(slot: number, owner: PartOwner, block: number, bytes: Uint8Array): boolean {
    return this.#index.fits(CHUNK_PLACES + slot, partSum(owner, 'block', block, bytes))
  }

  /** A slot does not hold what was written there; told once. */
  damaged(): void {
    if (!this.#damaged) this.#log.warn('blocks on disk are not what was written: they are fetched again')
    this.#damaged = true
  }

  /** Notes that an owner gave a whole chunk with this hash; returns where. The oldest place is taken from whoever has it. */
  putChunk(owner: PartOwner, chunk: number, hash: Uint8Array): number {
    let place = this.#chunkPlaces.take()
    while (place === undefined && this.#dropSomeLeftovers()) place = this.#chunkPlaces.take()
    if (place === undefined) [place = 0] = this.#chunks
    this.#chunks.delete(place)
    this.#chunks.add(place)
    this.#index.put(place, owner, chunk, partSum(owner, 'chunk', chunk, hash))
    return place
  }

  /** Whether it was noted there that the owner gave the chunk with this hash. */
  isChunk(place: number, owner: PartOwner, chunk: number, hash: Uint8Array): boolean {
    return this.#index.fits(place, partSum(owner, 'chunk', chunk, hash))
  }

  /** What was noted there does not count any more; nothing when the place is another's by now. */
  dropChunk(place: number, owner: PartOwner, chunk: number): void {
    if (!this.#index.is(place, owner, chunk)) return
    this.#chunks.delete(place)
    this.#index.clear(place)
    this.#chunkPlaces.giveBack(place)
  }

  async close(): Promise<void> {
    await this.#index.close()
    await this.#data.close()
  }

  #takeSlot(): number | undefined {
    for (;;) {
      const slot = this.#slots.take()
      if (slot !== undefined) return slot
      if (this.#dropSomeLeftovers()) continue
      const [oldest] = this.#holders
      if (oldest === undefined) return undefined
      oldest.evict()
    }
  }

  /** Forgets something that nobody has asked for since the start; false when there is nothing like that. */
  #dropSomeLeftovers(): boolean {
    const [oldest] = this.#leftovers.keys()
    if (oldest !== undefined) this.#dropLeftoversOf(oldest)
    return oldest !== undefined
  }

  #dropLeftoversOf(owner: string): void {
    for (const place of this.#leftovers.get(owner) ?? []) {
      this.#index.clear(place)
      if (place < CHUNK_PLACES) this.#chunkPlaces.giveBack(place)
      else this.#slots.giveBack(place - CHUNK_PLACES)
    }
    this.#leftovers.delete(owner)
  }
}
