/** Bytes of a chunk's hash (sha256). */
export const HASH_BYTES = 32

const PER_PAGE = 512

/** The hashes of a blob's chunks by index, in pages made on demand: a huge blob costs only what is held of it. */
export class HashTable {
  #pages = new Map<number, Uint8Array>()

  /** A copy of the hash that was set last; only meaningful for an index that was set. */
  get(index: number): Uint8Array | undefined {
    const start = (index % PER_PAGE) * HASH_BYTES
    return this.#pages.get(Math.floor(index / PER_PAGE))?.slice(start, start + HASH_BYTES)
  }

  /** Copies `hash` ({@link HASH_BYTES} long). */
  set(index: number, hash: Uint8Array): void {
    const number = Math.floor(index / PER_PAGE)
    let page = this.#pages.get(number)
    if (page === undefined) {
      page = new Uint8Array(PER_PAGE * HASH_BYTES)
      this.#pages.set(number, page)
    }
    page.set(hash, (index % PER_PAGE) * HASH_BYTES)
  }
}
