import type { ReadonlyBitfield } from './bitfield.ts'
import type { Run } from './extents.ts'

interface Reader {
  readonly from: number
  position: number
  readonly end: number
  /**
   * It reads a range: only chunks whose bytes are believed by themselves will do, the origin's own, or matching the verified
   * list.
   */
  readonly strict: boolean
  /** Where what is likely to be read next ends. */
  readonly aheadTo: number
}

/** Runs of chunks that are wanted after the range before them was read. */
const MAX_AHEAD_RUNS = 8

/** Where the readers of one blob stand, what they want, and what of that is urgent. */
export class ReaderSet {
  readonly #readers = new Map<number, Reader>()
  /** What is likely to be read next, after ranges that were read; the oldest goes first. */
  #ahead: Run[] = []
  #whole = 0
  #strict = 0
  readonly #held: ReadonlyBitfield
  readonly #trusted: ReadonlyBitfield
  readonly #window: number

  /** @param window chunks before a reader that count as urgent. */
  constructor(held: ReadonlyBitfield, trusted: ReadonlyBitfield, window: number) {
    this.#held = held
    this.#trusted = trusted
    this.#window = window
  }

  /** @param aheadTo where what the reader is likely to want next ends: `to` or a chunk after it. */
  add(id: number, from: number, to: number, strict: boolean, aheadTo = to): void {
    this.#readers.set(id, { from, position: from, end: to, strict, aheadTo })
    if (strict) this.#strict++
    else this.#whole++
  }

  /** Returns whether a strict reader moved: what it waits for may have become urgent. */
  move(id: number, position: number): boolean {
    const reader = this.#readers.get(id)
    if (reader === undefined) return false
    reader.position = position
    return reader.strict
  }

  /** `aborted`: what would have been read next is of no interest either. */
  remove(id: number, aborted: boolean): void {
    const reader = this.#readers.get(id)
    if (reader === undefined) return
    this.#readers.delete(id)
    if (reader.strict) this.#strict--
    else this.#whole--
    if (aborted || reader.aheadTo <= reader.end) return
    this.#ahead.push({ from: reader.end, to: reader.aheadTo })
    if (this.#ahead.length > MAX_AHEAD_RUNS) this.#ahead.shift()
  }

  /** Some reader wants all of the blob. */
  get anyWhole(): boolean {
    return this.#whole > 0
  }

  /** A reader of a range waits for a chunk, or is likely to do so soon. Those of the whole blob want everything. */
  wants(chunk: number): boolean {
    for (const { from, to } of this.#ahead) if (chunk >= from && chunk < to) return true
    for (const reader of this.#readers.values()) {
      if (!reader.strict || chunk < reader.position || chunk >= reader.aheadTo) continue
      if (chunk >= reader.end || chunk < this.#held.nextClear(reader.position) + this.#window) return true
    }
    return false
  }

  /** Some reader takes only what is believed by itself. */
  get anyStrict(): boolean {
    return this.#strict > 0
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

  /**
   * The window [from, to) before each strict reader, from the first chunk that it misses; never past the reader's end. Then
   * what is likely to be read next.
   */
  *strictWindows(): Generator<Run> {
    for (const reader of this.#readers.values()) {
      const from = this.#held.nextClear(reader.position)
      if (reader.strict && from < reader.end) yield { from, to: Math.min(reader.end, from + this.#window) }
    }
    yield* this.#ahead
    for (const { strict, end, aheadTo } of this.#readers.values()) {
      if (strict && aheadTo > end) yield { from: end, to: aheadTo }
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

  /** Some reader begins with this chunk: as long as it is missing that reader has nothing at all. */
  beginsWith(chunk: number): boolean {
    for (const reader of this.#readers.values()) if (reader.from === chunk) return true
    return false
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
