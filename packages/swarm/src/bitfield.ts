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
  readonly #bits: Uint8Array
  /** The same bits, 32 at a time, for what looks at many of them. Its byte order is little-endian, as on all of Node's platforms here. */
  readonly #words: Uint32Array
  #count = 0

  constructor(length: number) {
    this.length = length
    this.#words = new Uint32Array((length + 31) >>> 5)
    this.#bits = new Uint8Array(this.#words.buffer, 0, (length + 7) >>> 3)
  }

  /**
   * Reads the form that {@link toBytes} writes. Bits beyond `length` are ignored.
   * @throws {RangeError} when `bytes` is not exactly ceil(length / 8) long.
   */
  static fromBytes(length: number, bytes: Uint8Array): Bitfield {
    const field = new Bitfield(length)
    if (bytes.length !== field.#bits.length) {
      throw new RangeError(`a bitfield of ${length} takes ${field.#bits.length} bytes, not ${bytes.length}`)
    }
    for (let i = 0; i < length; i++) if ((bytes[i >>> 3]! >>> (i & 7)) & 1) field.set(i)
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
    return index >= 0 && index < this.length && ((this.#bits[index >>> 3]! >>> (index & 7)) & 1) === 1
  }

  /** Sets an index; returns whether that changed anything. An index out of bounds changes nothing. */
  set(index: number): boolean {
    if (index < 0 || index >= this.length || this.has(index)) return false
    this.#bits[index >>> 3]! |= 1 << (index & 7)
    this.#count++
    return true
  }

  /** Clears an index; returns whether that changed anything. */
  clear(index: number): boolean {
    if (!this.has(index)) return false
    this.#bits[index >>> 3]! &= ~(1 << (index & 7))
    this.#count--
    return true
  }

  *indices(): Generator<number> {
    for (let byte = 0; byte < this.#bits.length; byte++) {
      let bits = this.#bits[byte]!
      while (bits !== 0) {
        const low = bits & -bits
        yield byte * 8 + (31 - Math.clz32(low))
        bits ^= low
      }
    }
  }

  word(at: number): number {
    return this.#words[at]!
  }

  eachNotIn(other: ReadonlyBitfield, visit: (index: number) => void): void {
    const mine = this.#words
    for (let word = 0; word < mine.length; word++) {
      if (mine[word] === 0) continue
      let bits = mine[word]! & ~other.word(word)
      while (bits !== 0) {
        const low = bits & -bits
        visit(word * 32 + (31 - Math.clz32(low)))
        bits ^= low
      }
    }
  }

  nextClear(from: number): number {
    let i = from
    while (i < this.length) {
      if ((i & 7) === 0 && this.#bits[i >>> 3] === 0xff) i += 8
      else if (this.has(i)) i++
      else return i
    }
    return this.length
  }

  toBytes(): Uint8Array {
    return this.#bits.slice()
  }
}
