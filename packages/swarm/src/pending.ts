import type { ChunkLayout } from './layout.ts'

/** How many sources are working on each chunk. */
export class PendingChunks {
  readonly #counts: Uint8Array

  constructor(layout: ChunkLayout) {
    this.#counts = new Uint8Array(layout.count)
  }

  /** Nobody works on it. */
  isFree(chunk: number): boolean {
    return this.#counts[chunk] === 0
  }

  /** Two or more work on it. */
  isShared(chunk: number): boolean {
    return this.#counts[chunk]! > 1
  }

  begin(chunk: number): void {
    if (this.#counts[chunk]! < 255) this.#counts[chunk]! += 1
  }

  end(chunk: number): void {
    if (this.#counts[chunk]! > 0) this.#counts[chunk]! -= 1
  }
}
