import { Bitfield, BitfieldShelf, type ReadonlyBitfield } from './bitfield.ts'

/** A neighbour as an uploader sees it, over all blobs. */
export interface Receiver {
  readonly id: string
  /** Chunks that it waits for from anyone, as it last told. */
  load: number
  /** Slots that it was given and has not answered. */
  slots: number
  /** Slots in a row that it let pass without a word. */
  silent: number
}

/** One neighbour's need of one blob. */
export interface Need {
  readonly uploads: BlobUploads
  readonly receiver: Receiver
  /** Chunks that it holds, or expects from someone. */
  readonly covered: Bitfield
  /** It holds none of several chunks yet: whoever reads the blob there has got nothing, and it has nothing to give to others. */
  empty: boolean
  /** Chunks on offer here that it does not cover. */
  lacking: number
  /** It found nothing to ask for, and nothing has changed since. */
  passed: boolean
  /** Slots for this blob that it has not answered: the chunk that was suggested with each, and when, ms. */
  readonly open: { readonly chunk: number; readonly at: number }[]
}

/** What of one blob is on offer here, and who lacks what of it. It keeps the book; {@link UploadPlan} decides. */
export class BlobUploads {
  readonly blob: string
  /** The serial number, over all blobs, of the last slot for this one; 0: there was none. */
  offeredAt = 0
  /** Held here, or about to be. */
  readonly #offered: Bitfield
  readonly #held: Bitfield
  readonly #needs = new Map<string, Need>()
  readonly #shelf: BitfieldShelf
  /**
   * For each chunk two numbers: how many neighbours cover it, where what was given from here counts twice, since whoever got it
   * gives it to others whom nobody here knows; and when it was first heard of, as a serial number (0: never).
   */
  readonly #marks: Uint32Array
  #serial = 0
  readonly #receiver: (id: string) => Receiver
  readonly #onNeed: (need: Need) => void

  /** `onNeed` is called when a neighbour begins to lack something, or has asked for more. */
  constructor(options: {
    readonly blob: string
    readonly held: ReadonlyBitfield
    readonly receiver: (id: string) => Receiver
    readonly onNeed: (need: Need) => void
  }) {
    const { blob, held } = options
    this.blob = blob
    this.#offered = new Bitfield(held.length)
    this.#held = new Bitfield(held.length)
    this.#shelf = new BitfieldShelf(held.length)
    this.#marks = new Uint32Array(2 * held.length)
    this.#receiver = options.receiver
    this.#onNeed = options.onNeed
    for (const chunk of held.indices()) {
      this.#held.set(chunk)
      this.#offered.set(chunk)
    }
  }

  /** How many chunks there are. */
  get count(): number {
    return this.#offered.length
  }

  needs(): Iterable<Need> {
    return this.#needs.values()
  }

  need(id: string): Need | undefined {
    return this.#needs.get(id)
  }

  isOffered(chunk: number): boolean {
    return this.#offered.has(chunk)
  }

  isHeld(chunk: number): boolean {
    return this.#held.has(chunk)
  }

  /** A neighbour is interested, and holds this. Said again, it replaces what was known. */
  up(id: string, held: ReadonlyBitfield): void {
    this.down(id)
    const need: Need = {
      uploads: this,
      receiver: this.#receiver(id),
      covered: this.#shelf.create(),
      empty: held.count === 0 && held.length > 1,
      lacking: this.#offered.count,
      passed: false,
      open: [],
    }
    this.#needs.set(id, need)
    for (const chunk of held.indices()) this.#cover(need, chunk)
    if (need.lacking > 0) this.#onNeed(need)
  }

  /** A neighbour is not interested any more. */
  down(id: string): void {
    const need = this.#needs.get(id)
    if (need === undefined) return
    this.#needs.delete(id)
    need.lacking = 0
    need.receiver.slots -= need.open.length
    for (const { chunk } of need.open) if (chunk >= 0) this.#marks[2 * chunk]!--
    need.open.length = 0
    for (const chunk of need.covered.indices()) this.#marks[2 * chunk]!--
  }

  /** A neighbour expects a chunk from someone. Returns its need, if it is interested. */
  covers(id: string, chunk: number): Need | undefined {
    const need = this.#needs.get(id)
    if (need !== undefined) this.#cover(need, chunk)
    return need
  }

  /** A neighbour holds a chunk. Returns its need, if it is interested. */
  has(id: string, chunk: number): Need | undefined {
    const need = this.covers(id, chunk)
    if (need !== undefined) need.empty = false
    return need
  }

  /** A neighbour does not hold a chunk, and expects it from nobody. */
  lacks(id: string, chunk: number): void {
    const need = this.#needs.get(id)
    if (need?.covered.clear(chunk) !== true) return
    this.#marks[2 * chunk]!--
    if (this.#offered.has(chunk)) need.lacking++
    this.wants(id)
  }

  /** A neighbour that passed would have something now. */
  wants(id: string): void {
    const need = this.#needs.get(id)
    if (need === undefined) return
    need.passed = false
    if (need.lacking > 0) this.#onNeed(need)
  }

  /** A chunk is about to be held. Returns whether that is news. */
  coming(chunk: number): boolean {
    if (!this.#offered.set(chunk)) return false
    this.#hear(chunk)
    for (const need of this.#needs.values()) {
      if (need.covered.has(chunk)) continue
      need.lacking++
      need.passed = false
      this.#onNeed(need)
    }
    return true
  }

  /** A chunk is held. */
  held(chunk: number): void {
    this.#held.set(chunk)
    this.coming(chunk)
  }

  /** A chunk is not held any more, or did not come after all. */
  lost(chunk: number): void {
    this.#held.clear(chunk)
    if (!this.#offered.clear(chunk)) return
    for (const need of this.#needs.values()) if (!need.covered.has(chunk)) need.lacking--
  }

  /**
   * The chunk to suggest to a neighbour: the one that fewest neighbours have, and of those the one that was heard of last.
   * -1: there is none that it was not offered already.
   */
  suggest(need: Need): number {
    let best = -1
    let fewest = Number.POSITIVE_INFINITY
    let latest = -1
    this.#offered.eachNotIn(need.covered, chunk => {
      const copies = this.#marks[2 * chunk]!
      if (copies > fewest) return
      const heard = this.#marks[2 * chunk + 1]!
      if (copies === fewest && heard <= latest) return
      if (need.open.some(slot => slot.chunk === chunk)) return
      best = chunk
      fewest = copies
      latest = heard
    })
    return best
  }

  /** Notes a slot that a neighbour is given. */
  opened(need: Need, chunk: number, at: number): void {
    need.open.push({ chunk, at })
    need.receiver.slots++
    if (chunk >= 0) this.#marks[2 * chunk]!++
  }

  /**
   * Notes that a neighbour answered its oldest slot: with a request for a chunk that it will get, or with none. Returns when
   * it was given, ms.
   */
  answered(need: Need, chunk: number | undefined): number | undefined {
    const slot = need.open.shift()
    if (slot === undefined) return undefined
    need.receiver.slots--
    if (slot.chunk >= 0) this.#marks[2 * slot.chunk]!--
    if (chunk !== undefined) this.#marks[2 * chunk]!++
    return slot.at
  }

  #cover(need: Need, chunk: number): void {
    if (!need.covered.set(chunk)) return
    this.#hear(chunk)
    this.#marks[2 * chunk]!++
    if (this.#offered.has(chunk)) need.lacking--
  }

  #hear(chunk: number): void {
    if (this.#marks[2 * chunk + 1] === 0) this.#marks[2 * chunk + 1] = ++this.#serial
  }
}
