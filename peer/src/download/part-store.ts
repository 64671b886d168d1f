import { crc32 } from 'node:zlib'
import type { Logger } from '@darter/runtime'
import type { Scratch } from '@darter/store'
import type { ChunkLayout } from '@darter/swarm'

/** What a range is rounded to, in bytes; every chunk size is a multiple of it. */
export const BLOCK_BYTES = 32 * 1024
const NO_SLOT = -1

/** What is there of one chunk. */
interface Part {
  readonly owner: BlobParts
  readonly chunk: number
  /** Where each block lies, or {@link NO_SLOT}. */
  readonly slots: Int32Array
  readonly sums: Uint32Array
  count: number
}

/**
 * Blocks of chunks that are not whole: what readers of ranges got from an origin, kept so that nobody has to ask for it again.
 * Bounded: what was used least recently goes. It ends with the process, and is never given to other peers.
 */
export class PartStore {
  readonly #scratch: Scratch
  readonly #slots: number
  readonly #log: Logger
  #unused = 0
  readonly #free: number[] = []
  /** The least recently used first. */
  readonly #parts = new Set<Part>()
  #failed = false

  /** @param bytes the most that is kept. */
  constructor(scratch: Scratch, bytes: number, log: Logger) {
    this.#scratch = scratch
    this.#slots = Math.floor(bytes / BLOCK_BYTES)
    this.#log = log
  }

  /** Bytes that are kept, in whole blocks. */
  get bytes(): number {
    return (this.#unused - this.#free.length) * BLOCK_BYTES
  }

  added(part: Part): void {
    this.#parts.add(part)
  }

  /** Counts as use. */
  touch(part: Part): void {
    if (this.#parts.delete(part)) this.#parts.add(part)
  }

  removed(part: Part): void {
    this.#parts.delete(part)
    for (const slot of part.slots) if (slot !== NO_SLOT) this.#free.push(slot)
    part.slots.fill(NO_SLOT)
  }

  /** Where a block was written; undefined when there is no room for it. */
  async write(bytes: Uint8Array): Promise<number | undefined> {
    const slot = this.#takeSlot()
    if (slot === undefined) return undefined
    try {
      await this.#scratch.write(slot * BLOCK_BYTES, bytes)
      return slot
    } catch (error) {
      this.#free.push(slot)
      if (!this.#failed) this.#log.warn({ err: error }, 'parts of chunks cannot be kept on disk')
      this.#failed = true
      return undefined
    }
  }

  giveBack(slot: number): void {
    this.#free.push(slot)
  }

  /** `length` bytes of blocks that lie one after another; undefined when the disk does not give them. */
  async read(slot: number, length: number): Promise<Uint8Array | undefined> {
    const target = Buffer.allocUnsafe(length)
    const count = await this.#scratch.read(slot * BLOCK_BYTES, target).catch(() => 0)
    return count === length ? target : undefined
  }

  async close(): Promise<void> {
    await this.#scratch.close()
  }

  #takeSlot(): number | undefined {
    if (this.#free.length === 0 && this.#unused === this.#slots) {
      const [oldest] = this.#parts
      if (oldest !== undefined) oldest.owner.drop(oldest.chunk)
    }
    return this.#free.pop() ?? (this.#unused < this.#slots ? this.#unused++ : undefined)
  }
}

/** The parts of one blob's chunks. Blocks are numbered over the whole blob. */
export class BlobParts {
  readonly #store: PartStore
  readonly #layout: ChunkLayout
  readonly #perChunk: number
  readonly #parts = new Map<number, Part>()

  constructor(store: PartStore, layout: ChunkLayout) {
    this.#store = store
    this.#layout = layout
    this.#perChunk = layout.chunkBytes / BLOCK_BYTES
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
    const sums = Array.from({ length: to - from }, (_, i) => this.#sum(from + i))
    const read = await Promise.all(runs.map(({ slot, length }) => this.#store.read(slot, length)))
    const blocks: Uint8Array[] = []
    for (const [i, { block, slot, length }] of runs.entries()) {
      for (let at = 0; at < length; at += BLOCK_BYTES) {
        const bytes = read[i]?.subarray(at, at + BLOCK_BYTES)
        if (bytes === undefined || crc32(bytes) !== sums[blocks.length]) {
          this.#lose(block + at / BLOCK_BYTES, slot + at / BLOCK_BYTES)
          return blocks
        }
        blocks.push(bytes)
      }
    }
    return blocks
  }

  /** Keeps a block if there is room. Returns whether its chunk is whole now. */
  async keep(block: number, bytes: Uint8Array): Promise<boolean> {
    const slot = await this.#store.write(bytes)
    if (slot === undefined) return false
    const chunk = Math.floor(block / this.#perChunk)
    const at = block % this.#perChunk
    const blocks = Math.ceil(this.#layout.length(chunk) / BLOCK_BYTES)
    let part = this.#parts.get(chunk)
    if (part === undefined) {
      const slots = new Int32Array(blocks).fill(NO_SLOT)
      part = { owner: this, chunk, slots, sums: new Uint32Array(blocks), count: 0 }
      this.#parts.set(chunk, part)
      this.#store.added(part)
    }
    if (part.slots[at] !== NO_SLOT) {
      this.#store.giveBack(slot)
      return false
    }
    part.slots[at] = slot
    part.sums[at] = crc32(bytes)
    part.count++
    return part.count === blocks
  }

  /** Forgets what there is of a chunk. */
  drop(chunk: number): void {
    const part = this.#parts.get(chunk)
    if (part === undefined) return
    this.#parts.delete(chunk)
    this.#store.removed(part)
  }

  /** Forgets everything. */
  clear(): void {
    for (const chunk of [...this.#parts.keys()]) this.drop(chunk)
  }

  /** A block's length in bytes: only the blob's last one may be shorter than {@link BLOCK_BYTES}. */
  length(block: number): number {
    return Math.min(BLOCK_BYTES, this.#layout.size - block * BLOCK_BYTES)
  }

  /** The disk does not give a block that was written to a slot. */
  #lose(block: number, slot: number): void {
    const part = this.#part(block)
    if (part === undefined || this.#slot(block) !== slot) return
    part.slots[block % this.#perChunk] = NO_SLOT
    part.count--
    this.#store.giveBack(slot)
  }

  #slot(block: number): number {
    return this.#part(block)?.slots[block % this.#perChunk] ?? NO_SLOT
  }

  #sum(block: number): number {
    return this.#part(block)?.sums[block % this.#perChunk] ?? 0
  }

  #part(block: number): Part | undefined {
    return this.#parts.get(Math.floor(block / this.#perChunk))
  }
}
