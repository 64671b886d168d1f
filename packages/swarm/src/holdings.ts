import type { Neighbour } from './neighbour.ts'
import { sameBytes, ToldHashes } from './told-hashes.ts'

/** What the neighbours of one download hold and expect, and which hashes they told. */
export class Holdings {
  readonly #neighbours: ReadonlyMap<string, Neighbour>
  /** For each chunk how many neighbours hold it, and how many in this peer's own zone hold or expect it. */
  readonly #counts: Uint16Array
  readonly #told: ToldHashes
  /** Chunks that a stalled neighbour had offered: the scheduler believes they can be had, and leases them to nobody. */
  readonly #orphans = new Set<number>()

  /** @param count chunks of the blob. @param neighbours all of them by their ids, live. */
  constructor(count: number, neighbours: ReadonlyMap<string, Neighbour>) {
    this.#neighbours = neighbours
    this.#counts = new Uint16Array(2 * count)
    this.#told = new ToldHashes(count)
  }

  /** How many neighbours hold a chunk. */
  holders(chunk: number): number {
    return this.#counts[2 * chunk]!
  }

  /** Someone in this peer's own zone has the chunk or expects it, and this neighbour is in another one. */
  isNearer(neighbour: Neighbour, chunk: number): boolean {
    return neighbour.far && this.#counts[2 * chunk + 1]! > 0
  }

  /** What a neighbour told of a chunk that it holds. */
  told(neighbour: Neighbour, chunk: number): Uint8Array | undefined {
    return neighbour.held.has(chunk) ? this.#told.of(neighbour.id, chunk) : undefined
  }

  /** A neighbour told that it holds a chunk with this sha256; 'contradicted': another one that holds it told another one. */
  has(neighbour: Neighbour, chunk: number, hash: Uint8Array): 'agreed' | 'contradicted' {
    if (neighbour.held.set(chunk)) this.#count(neighbour, chunk, 1)
    if (this.#told.told(neighbour.id, chunk, hash)) return 'agreed'
    for (const other of this.#neighbours.values()) {
      const told = this.told(other, chunk)
      if (other !== neighbour && told !== undefined && !sameBytes(told, hash)) return 'contradicted'
    }
    return 'agreed'
  }

  /** A neighbour expects a chunk from someone else. */
  expects(neighbour: Neighbour, chunk: number): void {
    if (neighbour.far || neighbour.held.has(chunk)) return
    if (neighbour.expected.set(chunk)) this.#counts[2 * chunk + 1]!++
  }

  /** A neighbour has a chunk no more, or expects it from nobody. */
  lost(neighbour: Neighbour, chunk: number): void {
    this.#expectNoMore(neighbour, chunk)
    if (neighbour.held.clear(chunk)) this.#count(neighbour, chunk, -1)
  }

  /** A neighbour has nothing to give any more; `stalled`: because nothing comes from it. */
  gone(neighbour: Neighbour, stalled: boolean): void {
    this.#told.forget(neighbour.id)
    for (const chunk of neighbour.expected.indices()) this.#expectNoMore(neighbour, chunk)
    for (const chunk of [...neighbour.held.indices()]) {
      this.#count(neighbour, chunk, -1)
      neighbour.held.clear(chunk)
      if (stalled) this.#orphans.add(chunk)
    }
  }

  /** Some chunks may be missing that only a stalled neighbour had offered. */
  get anyOrphans(): boolean {
    return this.#orphans.size > 0
  }

  /** Only a stalled neighbour had offered the chunk, and nobody does now. */
  isOrphan(chunk: number): boolean {
    return this.#orphans.has(chunk) && this.holders(chunk) === 0
  }

  #count(neighbour: Neighbour, chunk: number, change: 1 | -1): void {
    this.#counts[2 * chunk]! += change
    if (!neighbour.far && !neighbour.expected.has(chunk)) this.#counts[2 * chunk + 1]! += change
  }

  #expectNoMore(neighbour: Neighbour, chunk: number): void {
    if (neighbour.expected.clear(chunk) && !neighbour.held.has(chunk)) this.#counts[2 * chunk + 1]!--
  }
}
