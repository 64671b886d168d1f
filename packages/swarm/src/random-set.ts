import type { Random } from './random.ts'

/** A set of which a member can be picked at random. Every operation costs the same however many members there are. */
export class RandomSet<T> {
  readonly #items: T[] = []
  readonly #index = new Map<T, number>()

  get size(): number {
    return this.#items.length
  }

  has(item: T): boolean {
    return this.#index.has(item)
  }

  /** Adds a member; returns whether it was none before. */
  add(item: T): boolean {
    if (this.#index.has(item)) return false
    this.#index.set(item, this.#items.length)
    this.#items.push(item)
    return true
  }

  /** Takes a member out; returns whether it was one. */
  delete(item: T): boolean {
    const index = this.#index.get(item)
    if (index === undefined) return false
    this.#index.delete(item)
    const last = this.#items.pop()!
    if (index < this.#items.length) {
      this.#items[index] = last
      this.#index.set(last, index)
    }
    return true
  }

  /** Any member, each as likely as another; undefined when there is none. */
  pick(random: Random): T | undefined {
    return this.#items[Math.floor(random() * this.#items.length)]
  }

  /** Any member but this one; undefined when there is no other. */
  pickOther(than: T, random: Random): T | undefined {
    const index = this.#index.get(than)
    if (index === undefined) return this.pick(random)
    const picked = Math.floor(random() * (this.#items.length - 1))
    return this.#items[picked < index ? picked : picked + 1]
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#items.values()
  }
}
