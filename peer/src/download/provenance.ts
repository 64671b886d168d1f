import type { ChunkOrigin } from '@darter/swarm'

interface Suspect {
  readonly hash: Uint8Array
  readonly by: ChunkOrigin | undefined
}

/** Where the chunks of one download came from, and who is to blame when some prove wrong. */
export class Provenance {
  readonly #chunks = new Map<number, ChunkOrigin>()
  readonly #suspects = new Map<number, Suspect>()

  /** A chunk was kept. */
  came(chunk: number, by: ChunkOrigin): void {
    this.#chunks.set(chunk, by)
  }

  /** A chunk is gone. */
  lost(chunk: number): void {
    this.#chunks.delete(chunk)
  }

  /** Read from the origin by this very download; what was there before it counts as not. */
  isFromOrigin(chunk: number): boolean {
    return this.#chunks.get(chunk)?.kind === 'origin'
  }

  /** A chunk is dropped since the blob's digest was wrong: remembers what it was and whose. */
  suspect(chunk: number, hash: Uint8Array): void {
    this.#suspects.set(chunk, { hash, by: this.#chunks.get(chunk) })
  }

  /** The origin gave a chunk: the neighbour that had sent other bytes for it, if it was a suspect. */
  convict(chunk: number, hash: Uint8Array): string | undefined {
    const suspect = this.#suspects.get(chunk)
    this.#suspects.delete(chunk)
    const guilty = suspect?.by?.kind === 'neighbour' && !Buffer.from(hash).equals(suspect.hash)
    return guilty && suspect.by.kind === 'neighbour' ? suspect.by.id : undefined
  }
}
