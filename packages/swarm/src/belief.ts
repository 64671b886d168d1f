import type { Bitfield, ReadonlyBitfield } from './bitfield.ts'
import { sameBytes } from './told-hashes.ts'

/** Which chunks of one blob are believed by themselves, and which only the origin may give. */
export class Belief {
  readonly #held: ReadonlyBitfield
  readonly #trusted: Bitfield
  /** Chunks that are believed for the verified list alone. */
  readonly #byList = new Set<number>()
  readonly #disputed = new Set<number>()
  #list: readonly Uint8Array[] | undefined

  /**
   * @param held the chunks in the store, live. @param trusted the chunks whose bytes are believed by themselves (own origin
   * reads, or matching the verified list); kept up to date here.
   */
  constructor(held: ReadonlyBitfield, trusted: Bitfield) {
    this.#held = held
    this.#trusted = trusted
  }

  /** The verified chunk list, against which everything is judged once it is known. */
  get list(): readonly Uint8Array[] | undefined {
    return this.#list
  }

  /**
   * Another verified list counts from now on, or none. Returns the held chunks that do not match it and were not read from
   * the origin here.
   */
  takeList(
    list: readonly Uint8Array[] | undefined,
    hashOf: (chunk: number) => Uint8Array | undefined,
  ): number[] {
    this.#list = list
    const wrong: number[] = []
    for (const chunk of this.#byList) this.#trusted.clear(chunk)
    this.#byList.clear()
    if (list === undefined) return wrong
    this.#disputed.clear()
    for (const chunk of this.#held.indices()) {
      const hash = hashOf(chunk)
      if (hash !== undefined && sameBytes(hash, list[chunk]!)) this.#trustByList(chunk)
      else if (!this.#trusted.has(chunk)) wrong.push(chunk)
    }
    return wrong
  }

  /** Only the origin may give this chunk: neighbours contradict each other about it, or it proved wrong. */
  dispute(chunk: number): void {
    this.#disputed.add(chunk)
  }

  /** The origin gave the chunk. */
  settle(chunk: number): void {
    this.#disputed.delete(chunk)
  }

  isDisputed(chunk: number): boolean {
    return this.#disputed.has(chunk)
  }

  get anyDisputed(): boolean {
    return this.#disputed.size > 0
  }

  /** A chunk is held now that came from here. */
  stored(chunk: number, from: 'origin' | 'neighbour'): void {
    if (from === 'origin') {
      this.#trusted.set(chunk)
      this.#byList.delete(chunk)
    } else if (this.#list !== undefined) this.#trustByList(chunk)
  }

  /** A chunk is held no more. */
  lost(chunk: number): void {
    this.#trusted.clear(chunk)
  }

  #trustByList(chunk: number): void {
    if (this.#trusted.set(chunk)) this.#byList.add(chunk)
  }
}
