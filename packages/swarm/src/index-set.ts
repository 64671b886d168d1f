import { lowestBit } from './lowest-bit.ts'

const WORD_BITS = 32

/**
 * A set of small whole numbers that finds the next member after any number in a few steps: each level of words says which
 * words of the level below are not empty.
 */
export class IndexSet {
  /** Numbers from 0 to below this can be members. */
  readonly length: number
  readonly #levels: Uint32Array[] = []
  #size = 0

  /** The empty set. */
  constructor(length: number) {
    this.length = length
    for (let bits = length; ; bits = Math.ceil(bits / WORD_BITS)) {
      this.#levels.push(new Uint32Array(Math.max(1, Math.ceil(bits / WORD_BITS))))
      if (bits <= WORD_BITS) break
    }
  }

  get size(): number {
    return this.#size
  }

  has(index: number): boolean {
    return (this.#levels[0]![index >>> 5]! & (1 << (index & 31))) !== 0
  }

  /** Adds a number; returns whether it was no member. One out of bounds changes nothing. */
  add(index: number): boolean {
    if (index < 0 || index >= this.length || this.has(index)) return false
    let bit = index
    for (const words of this.#levels) {
      words[bit >>> 5]! |= 1 << (bit & 31)
      bit >>>= 5
    }
    this.#size++
    return true
  }

  /** Takes a number out; returns whether it was a member. */
  delete(index: number): boolean {
    if (index < 0 || index >= this.length || !this.has(index)) return false
    let bit = index
    for (const words of this.#levels) {
      words[bit >>> 5]! &= ~(1 << (bit & 31))
      bit >>>= 5
      if (words[bit] !== 0) break
    }
    this.#size--
    return true
  }

  /** The smallest member at or after `from`; undefined when there is none. */
  next(from: number): number | undefined {
    if (from >= this.length) return undefined
    let bit = Math.max(0, from)
    for (let level = 0; level < this.#levels.length; level++) {
      const words = this.#levels[level]!
      const word = bit >>> 5
      const rest = word < words.length ? (words[word]! >>> (bit & 31)) << (bit & 31) : 0
      if (rest !== 0) return this.#descend(level, word * WORD_BITS + lowestBit(rest))
      bit = word + 1
      if (bit >= words.length) return undefined
    }
    return undefined
  }

  #descend(level: number, bit: number): number {
    let found = bit
    for (let below = level - 1; below >= 0; below--) {
      found = found * WORD_BITS + lowestBit(this.#levels[below]![found]!)
    }
    return found
  }
}
