/** Which sha256 each neighbour told for each chunk. Nearly always they all tell the same, which is kept once. */
export class ToldHashes {
  readonly #first: (Uint8Array | undefined)[]
  /** What a neighbour told that is not the first hash. */
  readonly #others = new Map<string, Map<number, Uint8Array>>()

  /** @param count chunks of the blob. */
  constructor(count: number) {
    this.#first = Array.from({ length: count })
  }

  /** Notes what a neighbour told; returns whether it is what was told first. */
  told(id: string, chunk: number, hash: Uint8Array): boolean {
    const first = this.#first[chunk]
    const isFirst = first === undefined || sameBytes(first, hash)
    if (first === undefined) this.#first[chunk] = hash
    if (isFirst) {
      if (this.#others.size > 0) this.#others.get(id)?.delete(chunk)
    } else {
      const own = this.#others.get(id) ?? new Map<number, Uint8Array>()
      this.#others.set(id, own.set(chunk, hash))
    }
    return isFirst
  }

  /** What a neighbour that holds a chunk told of it. */
  of(id: string, chunk: number): Uint8Array | undefined {
    return this.#others.get(id)?.get(chunk) ?? this.#first[chunk]
  }

  /** Forgets what a neighbour told that others did not. */
  forget(id: string): void {
    this.#others.delete(id)
  }
}

/** Whether two hashes are equal. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
