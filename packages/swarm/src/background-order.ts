import type { ReadonlyBitfield } from './bitfield.ts'
import type { Run } from './extents.ts'

/** In which order the chunks of a blob are fetched that no reader waits for: some come first, the rest from the front on. */
export class BackgroundOrder {
  readonly #held: ReadonlyBitfield
  /** In the order in which they were named. */
  readonly #first = new Set<number>()

  /** @param held the chunks in the store, live. */
  constructor(held: ReadonlyBitfield) {
    this.#held = held
  }

  /** These chunks come after those that were named before, and before all others. */
  add({ from, to }: Run): void {
    for (let chunk = from; chunk < to; chunk++) if (!this.#held.has(chunk)) this.#first.add(chunk)
  }

  /** The missing chunk that comes next and for which `isWanted` holds; undefined when there is none. */
  next(isWanted: (chunk: number) => boolean = () => true): number | undefined {
    const named = this.named(isWanted)
    if (named !== undefined) return named
    const { length } = this.#held
    for (let chunk = this.#held.nextClear(0); chunk < length; chunk = this.#held.nextClear(chunk + 1)) {
      if (isWanted(chunk)) return chunk
    }
    return undefined
  }

  /** The same, of those that were named. */
  named(isWanted: (chunk: number) => boolean): number | undefined {
    for (const chunk of this.#first) {
      // One that gets lost again comes with the rest.
      if (this.#held.has(chunk)) this.#first.delete(chunk)
      else if (isWanted(chunk)) return chunk
    }
    return undefined
  }
}
