import type { ChunkLayout } from '@darter/swarm'
import type { PartOwner } from './part-index.ts'
import { BLOCK_BYTES, type PartStore, type SlotHolder } from './part-store.ts'

const NO_SLOT = -1

/** What there is of one chunk. */
interface Part extends SlotHolder {
  /** Where each block lies, or {@link NO_SLOT}. */
  readonly slots: Int32Array
  count: number
}

/**
 * What readers of ranges got of one blob from one origin: the blocks of its chunks, and which whole chunks it gave. Blocks are numbered over
 * the whole blob.
 */
export class BlobParts {
  readonly #store: PartStore
  readonly #layout: ChunkLayout
  readonly #owner: PartOwner
  readonly #perChunk: number
  readonly #parts = new Map<number, Part>()
  /** Where the store has noted a whole chunk. */
  readonly #chunks = new Map<number, number>()

  /** Takes over what an earlier process left of the owner, who is one for the blob, its size and the origin. */
  constructor(store: PartStore, layout: ChunkLayout, owner: PartOwner) {
    this.#store = store
    this.#layout = layout
    this.#owner = owner
    this.#perChunk = layout.chunkBytes / BLOCK_BYTES
    for (const { kind, number, place } of store.claim(owner)) {
      if (kind === 'chunk') this.#chunks.set(number, place)
      else if (number * BLOCK_BYTES >= layout.size || !this.#put(number, place)) store.giveBack(place)
    }
  }

  has(block: number): boolean {
    return this.#slot(block) !== NO_SLOT
  }

  /** The bytes of some blocks from `from` on, good for ever: those before `to`, up to the first that is not there. */
  async read(from: number, to: number): Promise<Uint8Array[]> {
    const runs: { readonly block: number; readonly slot: number; length: number }[] = []
    for (let block = from, last = NO_SLOT - 1; block < to; block++) {
      const part = this.#part(block)
      const slot = this.#slot(block)
      if (part === undefined || slot === NO_SLOT) break
      this.#store.touch(part)
      if (slot === last + 1) runs.at(-1)!.length += this.length(block)
      else runs.push({ block, slot, length: this.length(block) })
      last = slot
    }
    const read = await Promise.all(runs.map(({ slot, length }) => this.#store.read(slot, length)))
    const blocks: Uint8Array[] = []
    for (const [i, run] of runs.entries()) {
      for (let at = 0; at < run.length; at += BLOCK_BYTES) {
        const bytes = read[i]?.subarray(at, at + BLOCK_BYTES)
        const [block, slot] = [run.block + at / BLOCK_BYTES, run.slot + at / BLOCK_BYTES]
        if (bytes === undefined || !this.#store.fits(slot, this.#owner, block, bytes)) {
          this.#lose(block, slot)
          return blocks
        }
        blocks.push(bytes)
      }
    }
    return blocks
  }

  /** Keeps a block if there is room. Returns whether its chunk is whole now. */
  async keep(block: number, bytes: Uint8Array): Promise<boolean> {
    const slot = await this.#store.write(this.#owner, block, bytes)
    if (slot === undefined) return false
    if (this.#put(block, slot)) return this.#part(block)?.slots.length === this.#part(block)?.count
    this.#store.giveBack(slot)
    return false
  }

  /** Forgets the blocks of a chunk. */
  drop(chunk: number): void {
    const part = this.#parts.get(chunk)
    if (part === undefined) return
    this.#parts.delete(chunk)
    this.#store.removed(part)
    for (const slot of part.slots) if (slot !== NO_SLOT) this.#store.giveBack(slot)
  }

  /** The origin gave a whole chunk, with this sha256. */
  gave(chunk: number, hash: Uint8Array): void {
    if (this.hasGiven(chunk, hash)) return
    this.#forget(chunk)
    this.#chunks.set(chunk, this.#store.putChunk(this.#owner, chunk, hash))
  }

  /** Whether the origin is known to have given a chunk with just this sha256. */
  hasGiven(chunk: number, hash: Uint8Array): boolean {
    const place = this.#chunks.get(chunk)
    return place !== undefined && this.#store.isChunk(place, this.#owner, chunk, hash)
  }

  /** Forgets everything. */
  clear(): void {
    for (const chunk of [...this.#parts.keys()]) this.drop(chunk)
    for (const chunk of [...this.#chunks.keys()]) this.#forget(chunk)
  }

  /** A block's length in bytes: only the blob's last one may be shorter than {@link BLOCK_BYTES}. */
  length(block: number): number {
    return Math.min(BLOCK_BYTES, this.#layout.size - block * BLOCK_BYTES)
  }

  #forget(chunk: number): void {
    const place = this.#chunks.get(chunk)
    if (place === undefined) return
    this.#chunks.delete(chunk)
    this.#store.dropChunk(place, this.#owner, chunk)
  }

  /** Notes where a block lies; false when it is somewhere already. */
  #put(block: number, slot: number): boolean {
    const chunk = Math.floor(block / this.#perChunk)
    let part = this.#parts.get(chunk)
    if (part === undefined) {
      const slots = new Int32Array(Math.ceil(this.#layout.length(chunk) / BLOCK_BYTES)).fill(NO_SLOT)
      part = { slots, count: 0, evict: () => this.drop(chunk) }
      this.#parts.set(chunk, part)
      this.#store.touch(part)
    }
    if (part.slots[block % this.#perChunk] !== NO_SLOT) return false
    part.slots[block % this.#perChunk] = slot
    part.count++
    return true
  }

  /** The disk does not give a block that was written to a slot. */
  #lose(block: number, slot: number): void {
    const part = this.#part(block)
    if (part === undefined || this.#slot(block) !== slot) return
    part.slots[block % this.#perChunk] = NO_SLOT
    part.count--
    this.#store.giveBack(slot)
    this.#store.damaged()
  }

  #slot(block: number): number {
    return this.#part(block)?.slots[block % this.#perChunk] ?? NO_SLOT
  }

  #part(block: number): Part | undefined {
    return this.#parts.get(Math.floor(block / this.#perChunk))
  }
}
