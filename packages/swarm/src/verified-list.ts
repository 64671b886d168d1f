import { sameBytes } from './told-hashes.ts'

const HASH_BYTES = 32
/** Bytes of lists that are sent for each ms: a crowd that downloads is told one after another. */
const LIST_BYTES_PER_MS = 32 * 1024
/** The most time that is made up for when ticks were missed, ms. */
const MAX_TICK_MS = 250

/** The verified chunk list of one blob at the scheduler: which one is believed, if any, and who is still to be told. */
export class VerifiedList {
  readonly #chunks: number
  readonly #tell: (to: string, hashes: Uint8Array) => void
  #hashes: Uint8Array | undefined
  #contradicted = false
  readonly #untold = new Set<string>()
  #toldAt = 0

  /** @param chunks of the blob. @param tell called with the list for a peer, or with no bytes: none is verified any more. */
  constructor(chunks: number, tell: (to: string, hashes: Uint8Array) => void) {
    this.#chunks = chunks
    this.#tell = tell
  }

  /** A peer begins to want the blob: it is told at once. */
  wantedBy(id: string): void {
    if (this.#hashes !== undefined) this.#tell(id, this.#hashes)
  }

  /** A peer has no use for the list (any more). */
  uselessTo(id: string): void {
    this.#untold.delete(id)
  }

  /**
   * A peer that hashed the whole blob tells its chunk list. Once two lists contradict each other none is believed any
   * more: someone lies, and nobody here can tell who. `wanting`: all peers that are to be told.
   */
  vouch(
    id: string,
    hashes: Uint8Array,
    wanting: Iterable<string>,
  ): 'accepted' | 'contradicted' | 'malformed' {
    if (hashes.length !== this.#chunks * HASH_BYTES) return 'malformed'
    if (this.#contradicted) return 'contradicted'
    if (this.#hashes === undefined) {
      this.#hashes = hashes
      for (const other of wanting) if (other !== id) this.#untold.add(other)
      this.#tellSome(LIST_BYTES_PER_MS)
      return 'accepted'
    }
    if (sameBytes(this.#hashes, hashes)) return 'accepted'
    this.#contradicted = true
    this.#hashes = undefined
    for (const other of wanting) if (!this.#untold.has(other)) this.#tell(other, new Uint8Array(0))
    this.#untold.clear()
    return 'contradicted'
  }

  /** Moves time on: more of those who wait for it are told. */
  tick(now: number): void {
    if (this.#untold.size > 0) this.#tellSome(Math.min(MAX_TICK_MS, now - this.#toldAt) * LIST_BYTES_PER_MS)
    this.#toldAt = now
  }

  #tellSome(bytes: number): void {
    const hashes = this.#hashes
    if (hashes === undefined) return
    let left = bytes
    for (const id of this.#untold) {
      if (left <= 0) return
      this.#untold.delete(id)
      this.#tell(id, hashes)
      left -= hashes.length
    }
  }
}
