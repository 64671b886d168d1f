import { lowestBit } from './lowest-bit.ts'

/** What may be asked of a set of chunk indices that someone else owns. */
export interface ReadonlyBitfield {
  /** How many indices there are in all; valid ones are 0..length-1. */
  readonly length: number
  /** How many indices are set. */
  readonly count: number
  /** False for an index that is out of bounds. */
  has(index: number): boolean
  /** The set indices in ascending order. */
  indices(): Generator<number>
  /** The smallest index >= from that is not set, or `length`. */
  nextClear(from: number): number
  /** Calls `visit` with each index, ascending, that is set here and not in `other` (of the same length). */
  eachNotIn(other: ReadonlyBitfield, visit: (index: number) => void): void
  /** Indices `32 * at` to `32 * at + 31`, the least significant bit first. */
  word(at: number): number
  /** A copy of the bits, least significant bit first, ceil(length / 8) bytes. */
  toBytes(): Uint8Array
}

/** A set of chunk indices with a count that is always current. */
export class Bitfield implements ReadonlyBitfield {
  readonly length: number
  readonly #words: Uint32Array
  /** Its words begin here. */
  readonly #begin: number
  #count = 0

  /** The empty set. @param words where its words are, from `begin` on; see {@link BitfieldShelf}. */
  constructor(length: number, words = new Uint32Array(wordsOf(length)), begin = 0) {
    this.length = length
    this.#words = words
    this.#begin = begin
  }

  /**
   * Reads the form that {@link toBytes} writes. Bits beyond `length` are ignored.
   * @throws {RangeError} when `bytes` is not exactly ceil(length / 8) long.
   */
  static fromBytes(length: number, bytes: Uint8Array): Bitfield {
    const field = new Bitfield(length)
    const needed = (length + 7) >>> 3
    if (bytes.length !== needed) {
      throw new RangeError(`a bitfield of ${length} takes ${needed} bytes, not ${bytes.length}`)
    }
    for (let byte = 0; byte < needed; byte++) {
      for (let bits = bytes[byte]!; bits !== 0; bits &= bits - 1) field.set(byte * 8 + lowestBit(bits))
    }
    return field
  }

  /** A field with every index set. */
  static full(length: number): Bitfield {
    const field = new Bitfield(length)
    for (let i = 0; i < length; i++) field.set(i)
    return field
  }

  get count(): number {
    return this.#count
  }

  has(index: number): boolean {
    return (
      index >= 0 &&
      index < this.length &&
      (this.#words[this.#begin + (index >>> 5)]! & (1 << (index & 31))) !== 0
    )
  }

  /** Sets an index; returns whether that changed anything. An index out of bounds changes nothing. */
  set(index: number): boolean {
    if (index < 0 || index >= this.length || this.has(index)) return false
    this.#words[this.#begin + (index >>> 5)]! |= 1 << (index & 31)
    this.#count++
    return true
  }

  /** Clears an index; returns whether that changed anything. */
  clear(index: number): boolean {
    if (!this.has(index)) return false
    this.#words[this.#begin + (index >>> 5)]! &= ~(1 << (index & 31))
    this.#count--
    return true
  }

  *indices(): Generator<number> {
    const words = wordsOf(this.length)
    for (let word = 0; word < words; word++) {
      // What is set or cleared meanwhile in the word that is being gone through is not looked at again.
      for (let bits = this.word(word); bits !== 0; bits &= bits - 1) yield word * 32 + lowestBit(bits)
    }
  }

  word(at: number): number {
    return this.#words[this.#begin + at]!
  }

  eachNotIn(other: ReadonlyBitfield, visit: (index: number) => void): void {
    const words = wordsOf(this.length)
    for (let word = 0; word < words; word++) {
      const mine = this.word(word)
      if (mine === 0) continue
      let bits = mine & ~other.word(word)
      for (; bits !== 0; bits &= bits - 1) visit(word * 32 + lowestBit(bits))
    }
  }

  nextClear(from: number): number {
    if (from >= this.length) return this.length
    const words = wordsOf(this.length)
    let word = from >>> 5
    let clear = ~this.word(word) & (-1 << (from & 31))
    while (clear === 0) {
      if (++word >= words) return this.length
      clear = ~this.word(word)
    }
    return Math.min(this.length, word * 32 + lowestBit(clear))
  }

  toBytes(): Uint8Array {
    const bytes = new Uint8Array((this.length + 7) >>> 3)
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.word(i >>> 2) >>> ((i & 3) * 8)
    return bytes
  }
}

const SHELF_WORDS = 256
const SHELF_MOST = 16

/**
 * Makes bitfields of one length that lie side by side: who looks at many of them at a time fetches less memory. What they lie
 * in is freed when none of its bitfields is in use any more.
 */
export class BitfieldShelf {
  readonly #length: number
  #words = new Uint32Array(0)
  #used = 0

  /** @param length of each of them. */
  constructor(length: number) {
    this.#length = length
  }

  /** An empty one. */
  create(): Bitfield {
    const words = wordsOf(this.#length)
    if (this.#used + words > this.#words.length) {
      const room = Math.max(1, Math.min(SHELF_MOST, Math.floor(SHELF_WORDS / Math.max(1, words))))
      this.#words = new Uint32Array(words * room)
      this.#used = 0
    }
    const field = new Bitfield(this.#length, this.#words, this.#used)
    this.#used += words
    return field
  }
}

function wordsOf(length: number): number {
  return (length + 31) >>> 5
}
