import type { Random } from './random.ts'

/**
 * The graph of who talks to whom in one swarm: random and nearly regular, which keeps it connected and its diameter
 * logarithmic while peers come and go. Edges join at least one peer that still wants something.
 */
export class NeighbourGraph {
  readonly #edges = new Map<string, Set<string>>()
  readonly #degree: number
  readonly #random: Random
  readonly #changed = new Set<string>()

  /** @param degree the number of neighbours that each wanting peer should have. */
  constructor(degree: number, random: Random) {
    this.#degree = degree
    this.#random = random
  }

  neighbours(peer: string): ReadonlySet<string> {
    return this.#edges.get(peer) ?? NONE
  }

  /** The peers whose neighbours changed since the last call. */
  takeChanged(): string[] {
    const changed = [...this.#changed].filter(peer => this.#edges.has(peer))
    this.#changed.clear()
    return changed
  }

  /** Adds a peer without edges, or notes that it is there. */
  add(peer: string): void {
    if (this.#edges.has(peer)) return
    this.#edges.set(peer, new Set())
    this.#changed.add(peer)
  }

  remove(peer: string): void {
    for (const other of this.neighbours(peer)) this.#disconnect(peer, other)
    this.#edges.delete(peer)
    this.#changed.delete(peer)
  }

  connect(a: string, b: string): void {
    if (a === b) return
    this.#edges.get(a)?.add(b)
    this.#edges.get(b)?.add(a)
    this.#changed.add(a).add(b)
  }

  /** Cuts the edges of `peer` that `keep` does not want. */
  prune(peer: string, keep: (other: string) => boolean): void {
    for (const other of [...this.neighbours(peer)]) if (!keep(other)) this.#disconnect(peer, other)
  }

  /**
   * Gives a wanting peer neighbours up to the degree, out of `candidates` (in random order). Those with few
   * neighbours come first; a peer with twice the degree takes no more, unless `peer` would stay alone.
   */
  fill(peer: string, candidates: readonly string[]): void {
    const mine = this.neighbours(peer)
    if (mine.size >= this.#degree) return
    const open = candidates.filter(other => other !== peer && !mine.has(other))
    const ranked = sample(open, this.#degree * SAMPLE_FACTOR, this.#random)
      .map(other => ({ other, degree: this.neighbours(other).size }))
      .toSorted((a, b) => a.degree - b.degree)
    for (const { other, degree } of ranked) {
      if (mine.size >= this.#degree) return
      if (degree < this.#degree * 2 || mine.size === 0) this.connect(peer, other)
    }
  }

  #disconnect(a: string, b: string): void {
    this.#edges.get(a)?.delete(b)
    this.#edges.get(b)?.delete(a)
    this.#changed.add(a).add(b)
  }
}

const NONE: ReadonlySet<string> = new Set()
const SAMPLE_FACTOR = 6

/** Up to `count` different items, chosen and ordered at random (partial Fisher-Yates). */
function sample(items: readonly string[], count: number, random: Random): string[] {
  const pool = [...items]
  const wanted = Math.min(count, pool.length)
  for (let i = 0; i < wanted; i++) {
    const j = i + Math.floor(random() * (pool.length - i))
    const chosen = pool[j]!
    pool[j] = pool[i]!
    pool[i] = chosen
  }
  return pool.slice(0, wanted)
}
