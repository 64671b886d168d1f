import type { Clock } from '@darter/runtime'

/** Tells how soon a chunk will be whole, judged by how fast it has come so far. */
export class Arrival {
  readonly #clock: Clock
  readonly #length: number
  #first: { readonly at: number; readonly received: number } | undefined

  /** @param length of the chunk, bytes. */
  constructor(clock: Clock, length: number) {
    this.#clock = clock
    this.#length = length
  }

  /** Of `received` bytes that have come: in how many ms the rest will; undefined at the first ones, and when all are there. */
  came(received: number): number | undefined {
    const now = this.#clock.now()
    if (this.#first === undefined) {
      this.#first = { at: now, received }
      return undefined
    }
    if (received >= this.#length) return undefined
    return ((now - this.#first.at) * (this.#length - received)) / (received - this.#first.received)
  }
}
