/** Reads of one file: what asks for more goes in circles. It is about 0.1 s of work. */
const MAX_READS = 4_000_000

/**
 * Little-endian records of an untrusted file. Whatever lies outside of it is a `RangeError`, as are a number that
 * JavaScript cannot hold, and more than 4 million reads.
 */
export class Records {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #reads = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get length(): number {
    return this.#bytes.byteLength
  }

  u8(at: number): number {
    this.#count()
    return this.#view.getUint8(at)
  }

  u16(at: number): number {
    this.#count()
    return this.#view.getUint16(at, true)
  }

  u32(at: number): number {
    this.#count()
    return this.#view.getUint32(at, true)
  }

  u64(at: number): number {
    this.#count()
    const value = this.#view.getBigUint64(at, true)
    if (value > Number.MAX_SAFE_INTEGER) throw new RangeError(`a number of 64 bits at ${at} is too large`)
    return Number(value)
  }

  /** The text in `[from, to)`, up to the first zero. */
  text(from: number, to: number): string {
    this.#count()
    if (from < 0 || to < from || to > this.length) throw new RangeError(`there is no text at ${from}`)
    const slice = this.#bytes.subarray(from, to)
    const end = slice.indexOf(0)
    return Buffer.from(end < 0 ? slice : slice.subarray(0, end)).toString('latin1')
  }

  #count(): void {
    if (++this.#reads > MAX_READS) throw new RangeError('the file leads in circles')
  }
}
