/** Who takes in what was told by the peer of the number `from`. */
export interface Listener {
  /** It holds a chunk, and waits for `load` chunks in all. It said so at `at`, ms. */
  heardHeld(from: number, chunk: number, load: number, at: number): void
  /** It expects a chunk from someone else. */
  heardExpected(from: number, chunk: number, load: number): void
  /** A chunk that it was asked for begins to come. */
  heardBegun(from: number, chunk: number): void
}

/** What is said of a chunk: that it is held, expected from someone else, or begins to come to whoever is told. */
export const HELD = 0
export const EXPECTED = 1
export const BEGUN = 2
export type Word = typeof HELD | typeof EXPECTED | typeof BEGUN

const WORDS = 3
/** Numbers for each piece of news: who, chunk and word, load, time. */
const STRIDE = 4
/** Pieces of news that wait for one peer. */
const ROOM = 32

/**
 * What peers were told of chunks and have not taken in yet. Most messages of a swarm are of this kind, and nothing is decided
 * when one comes: so they lie here, side by side, until their receiver has something to do. It takes them in first,
 * in the order in which they came: all comes out as if it had done so at once, but its memory is fetched once for
 * many of them.
 */
export class NewsBoard {
  readonly #counts: Uint8Array
  readonly #numbers: Float64Array

  constructor(peers: number) {
    this.#counts = new Uint8Array(peers)
    this.#numbers = new Float64Array(peers * ROOM * STRIDE)
  }

  /** Leaves a piece of news for a peer. Returns whether there is no room for another one: it has to be read. */
  post(to: number, from: number, word: Word, chunk: number, load: number, at: number): boolean {
    const count = this.#counts[to]!
    const place = (to * ROOM + count) * STRIDE
    this.#numbers[place] = from
    this.#numbers[place + 1] = chunk * WORDS + word
    this.#numbers[place + 2] = load
    this.#numbers[place + 3] = at
    this.#counts[to] = count + 1
    return count + 1 === ROOM
  }

  /** Has a peer take in all that waits for it. */
  read(to: number, listener: Listener): void {
    const count = this.#counts[to]!
    if (count === 0) return
    this.#counts[to] = 0
    const numbers = this.#numbers
    const begin = to * ROOM * STRIDE
    for (let place = begin; place < begin + count * STRIDE; place += STRIDE) {
      const from = numbers[place]!
      const said = numbers[place + 1]!
      const word = said % WORDS
      const chunk = (said - word) / WORDS
      const load = numbers[place + 2]!
      if (word === HELD) listener.heardHeld(from, chunk, load, numbers[place + 3]!)
      else if (word === EXPECTED) listener.heardExpected(from, chunk, load)
      else listener.heardBegun(from, chunk)
    }
  }
}
