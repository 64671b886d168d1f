import type { ReadonlyBitfield } from './bitfield.ts'

interface Reader {
  position: number
  readonly end: number
  /** Only chunks whose bytes are believed by themselves will do: the origin's own, or matching the verified list. */
  readonly strict: boolean
}

/** Where the readers of one blob stand, and what that makes urgent. */
export class ReaderSet {
  readonly #readers = new Map<number, Reader>()
  readonly #held: ReadonlyBitfield
  readonly #trusted: ReadonlyBitfield
  readonly #window: number

  /** @param window chunks before a reader that count as urgent. */
  constructor(held: ReadonlyBitfield, trusted: ReadonlyBitfield, window: number) {
    this.#held = held
    this.#trusted = trusted
    this.#window = window
  }

  add(id: number, from: number, to: number, strict: boolean): void {
    this.#readers.set(id, { position: from, end: to, strict })
  }

  /** Returns whether a strict reader moved: what it waits for may have become urgent. */
  move(id: number, position: number): boolean {
    const reader = this.#readers.get(id)
    if (reader === undefined) return false
    reader.position = position
    return reader.strict
  }

  remove(id: number): void {
    this.#readers.delete(id)
  }

  /** Some reader takes only what is believed by itself. */
  get anyStrict(): boolean {
    for (const reader of this.#readers.values()) if (reader.strict) return true
    return false
  }

  /** A strict reader waits for a chunk that is held but not believed: it has to be read from the origin. */
  needsOrigin(chunk: number): boolean {
    if (this.#trusted.has(chunk)) return false
    for (const reader of this.#readers.values()) {
      const end = Math.min(reader.end, reader.position + this.#window)
      if (reader.strict && chunk >= reader.position && chunk < end) return true
    }
    return false
  }

  /** No strict reader waits for a chunk that is not believed. */
  get strictSatisfied(): boolean {
    for (const reader of this.#readers.values()) {
      if (!reader.strict) continue
      for (let chunk = reader.position; chunk < reader.end; chunk++)
        if (!this.#trusted.has(chunk)) return false
    }
    return true
  }

  /** The first missing chunk before each reader. */
  positions(): number[] {
    return [...this.#readers.values()].map(reader => this.#held.nextClear(reader.position))
  }

  /** The window [from, to) before each strict reader, from the first chunk that it misses; never past the reader's end. */
  *strictWindows(): Generator<{ readonly from: number; readonly to: number }> {
    for (const reader of this.#readers.values()) {
      const from = this.#held.nextClear(reader.position)
      if (reader.strict && from < reader.end) yield { from, to: Math.min(reader.end, from + this.#window) }
    }
  }

  /**
   * The first chunk that a reader needs soon and that `isThere`: in the window before a strict reader; for others, which
   * want everything anyway, only the very next one.
   */
  urgent(isThere: (chunk: number) => boolean): number | undefined {
    for (const reader of this.#readers.values()) {
      const next = this.#held.nextClear(reader.position)
      const end = Math.min(reader.end, next + (reader.strict ? this.#window : 1))
      for (let chunk = next; chunk < end; chunk++) if (isThere(chunk)) return chunk
    }
    return undefined
  }

  /** The chunk that some reader misses first, else the first that is missing at all. */
  firstMissing(): number {
    const { length } = this.#held
    const first = Math.min(length, ...this.positions())
    return first < length ? first : Math.min(this.#held.nextClear(0), Math.max(0, length - 1))
  }

  /** The first chunk before a reader that is wanted, else 0. */
  firstWanted(wanted: (chunk: number) => boolean): number {
    let first = this.#held.length
    for (const reader of this.#readers.values()) {
      const end = Math.min(reader.end, first)
      for (let chunk = reader.position; chunk < end; chunk++) {
        if (!wanted(chunk)) continue
        first = chunk
        break
      }
    }
    return first < this.#held.length ? first : 0
  }
}
