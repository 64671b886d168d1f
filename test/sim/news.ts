/** Who takes in what was told. */
export interface Listener {
  /** The peer `from` holds a chunk (`held`), or expects it from someone; it waits for `load` chunks in all. It said so at `at`, ms. */
  heard(from: number, chunk: number, load: number, held: boolean, at: number): void
}

/** Words for each piece of news: who, which chunk and whether it is held, load, time. */
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
  readonly #words: Float64Array

  constructor(peers: number) {
    this.#counts = new Uint8Array(peers)
    this.#words = new Float64Array(peers * ROOM * STRIDE)
  }

  /** Leaves a piece of news for a peer. Returns whether there is no room for another one: it has to be read. */
  post(to: number, from: number, chunk: number, load: number, held: boolean, at: number): boolean {
    const count = this.#counts[to]!
    const word = (to * ROOM + count) * STRIDE
    this.#words[word] = from
    this.#words[word + 1] = held ? chunk : -1 - chunk
    this.#words[word + 2] = load
    this.#words[word + 3] = at
    this.#counts[to] = count + 1
    return count + 1 === ROOM
  }

  /** Has a peer take in all that waits for it. */
  read(to: number, listener: Listener): void {
    const count = this.#counts[to]!
    if (count === 0) return
    this.#counts[to] = 0
    const words = this.#words
    const begin = to * ROOM * STRIDE
    for (let word = begin; word < begin + count * STRIDE; word += STRIDE) {
      const chunk = words[word + 1]!
      const held = chunk >= 0
      listener.heard(words[word]!, held ? chunk : -1 - chunk, words[word + 2]!, held, words[word + 3]!)
    }
  }
}
