import { BackgroundOrder } from './background-order.ts'
import type { ReadonlyBitfield } from './bitfield.ts'
import type { ChunkLayout } from './layout.ts'
import type { ReaderSet } from './readers.ts'
import type { Allowance, Appetite } from './session-contract.ts'

/** Which chunks of one blob are wanted now: by its readers, or for their own sake. */
export class Wanted {
  readonly #layout: ChunkLayout
  readonly #held: ReadonlyBitfield
  readonly #readers: ReaderSet
  readonly #allowance: Allowance | undefined
  readonly #isComing: (chunk: number) => boolean
  /** In which order the background fetches what is missing. */
  readonly order: BackgroundOrder
  /** What is wanted besides what readers want. */
  appetite: Appetite = 'nothing'
  /** The blob can only be read as a whole: readers of ranges wait for their part of that. */
  isWholeOnly = false
  /** What neighbours send is believed by itself, chunk for chunk: it is of use to readers of ranges. */
  isListed = false

  /**
   * @param held the chunks in the store, live. @param background what is true of the background: its `allowance`, without which there is no
   * limit, and whether a chunk `isComing` anyway, so that it need not be fetched.
   */
  constructor(
    layout: ChunkLayout,
    held: ReadonlyBitfield,
    readers: ReaderSet,
    background: { readonly allowance?: Allowance; readonly isComing?: (chunk: number) => boolean },
  ) {
    this.#layout = layout
    this.#held = held
    this.order = new BackgroundOrder(held)
    this.#readers = readers
    this.#allowance = background.allowance
    this.#isComing = background.isComing ?? (() => false)
  }

  /** How much is wanted, readers of ranges aside. */
  get level(): Appetite {
    return this.#readers.anyWhole || this.isWholeOnly ? 'everything' : this.appetite
  }

  /** Every chunk is held. */
  get complete(): boolean {
    return this.#held.count === this.#layout.count
  }

  /** Every chunk is held, and believed by itself where a reader that waits for the whole blob needs that. */
  get satisfied(): boolean {
    return this.complete && (!this.isWholeOnly || this.#readers.strictSatisfied)
  }

  /** Whether neighbours are to be asked for a missing chunk now. */
  ofNeighbours(chunk: number, now: number): boolean {
    const { level } = this
    if (level === 'everything' || (this.isListed && this.#readers.wants(chunk))) return true
    if (level !== 'background' || this.#isComing(chunk)) return false
    return this.#allowance?.has(this.#layout.length(chunk), now) !== false
  }

  /** A neighbour is asked for a chunk. */
  asked(chunk: number, now: number): void {
    if (!this.#readers.wants(chunk)) this.take(chunk, now)
  }

  /**
   * The chunk that the background fetches first of those that are missing, do not come anyway, and for which `isWanted` holds; undefined
   * when it may fetch nothing now.
   */
  nextInBackground(now: number, isWanted: (chunk: number) => boolean = () => true): number | undefined {
    const next = this.order.next(chunk => !this.#isComing(chunk) && isWanted(chunk))
    const may = next !== undefined && this.#allowance?.has(this.#layout.length(next), now) !== false
    return may ? next : undefined
  }

  /** Whether a chunk may be fetched for its own sake now; if so, it counts as fetched. */
  take(chunk: number, now: number): boolean {
    const { level } = this
    if (level !== 'background') return level === 'everything'
    // One that comes anyway counts too: else a lease for it would be given back and granted again, over and over.
    return this.#allowance?.take(this.#layout.length(chunk), now) !== false && !this.#isComing(chunk)
  }
}
