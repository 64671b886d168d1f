import { WireError } from './errors.ts'

/** Bytes of the length before each message of a control or link stream: unsigned, big-endian. */
export const LENGTH_BYTES = 4

/** A message as it goes over a control or link stream. An empty one says no more than that its sender is alive. */
export function lengthPrefixed(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(LENGTH_BYTES + message.length)
  new DataView(framed.buffer).setUint32(0, message.length)
  framed.set(message, LENGTH_BYTES)
  return framed
}

/** Collects bytes of one message, however finely they are cut; memory grows with what came, not with what was promised. */
export class Assembly {
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(0)
  #filled = 0
  #length = 0

  /** Starts on a message of `length` bytes. */
  begin(length: number): void {
    this.#length = length
    this.#filled = 0
  }

  /** Takes what the message still lacks from `bytes`, beginning at `from`; returns how many bytes that was. */
  take(bytes: Uint8Array, from: number): number {
    const taken = Math.min(this.#length - this.#filled, bytes.length - from)
    const needed = this.#filled + taken
    if (needed > this.#buffer.length) {
      const grown = new Uint8Array(Math.min(this.#length, Math.max(needed, 2 * this.#buffer.length)))
      grown.set(this.#buffer.subarray(0, this.#filled))
      this.#buffer = grown
    }
    this.#buffer.set(bytes.subarray(from, from + taken), this.#filled)
    this.#filled = needed
    return taken
  }

  get complete(): boolean {
    return this.#filled === this.#length
  }

  /** The whole message. Its memory is the caller's from now on. */
  finish(): Uint8Array {
    const message = this.#buffer.subarray(0, this.#length)
    this.#buffer = new Uint8Array(0)
    this.begin(0)
    return message
  }
}

/** Cuts a stream of bytes into its length-prefixed messages. */
export class MessageReader {
  readonly #limit: () => number
  readonly #assembly = new Assembly()
  #header = 0
  #length = 0

  /** `limit`: the largest message that is taken now, in bytes. */
  constructor(limit: () => number) {
    this.#limit = limit
  }

  /**
   * The messages that these bytes complete, in order.
   * @throws {WireError} `too-large`; the reader is of no use afterwards.
   */
  *push(bytes: Uint8Array): Generator<Uint8Array> {
    let at = 0
    while (at < bytes.length) {
      if (this.#header < LENGTH_BYTES) {
        this.#length = this.#length * 256 + (bytes[at] ?? 0)
        at++
        this.#header++
        if (this.#header < LENGTH_BYTES) continue
        const limit = this.#limit()
        if (this.#length > limit) {
          throw new WireError(
            'too-large',
            `message of ${this.#length} bytes announced, over the limit of ${limit}`,
          )
        }
        this.#assembly.begin(this.#length)
      }
      at += this.#assembly.take(bytes, at)
      if (!this.#assembly.complete) continue
      this.#header = 0
      this.#length = 0
      yield this.#assembly.finish()
    }
  }
}
