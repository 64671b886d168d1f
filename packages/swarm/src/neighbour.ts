import type { Bitfield, BitfieldShelf } from './bitfield.ts'

const RESPONSE_WEIGHT = 0.25

/** A chunk that a neighbour was asked for. */
export interface Request {
  /** When, ms. */
  readonly at: number
  /** It has begun to come. */
  began: boolean
}

/** What a download session knows of one neighbour. */
export class Neighbour {
  readonly id: string
  /** It is in another zone: what someone nearer has is not asked of it. */
  readonly far: boolean
  readonly held: Bitfield
  /** Chunks that it has asked someone else for. */
  readonly expected: Bitfield
  /** Chunks requested from it. */
  readonly inFlight = new Map<number, Request>()
  /** Nothing is requested from it before this time, ms. */
  restUntil = 0
  /** It sent bytes that did not match: it is not asked again for this blob. */
  distrusted = false
  /** It has said what it holds. */
  introduced = false
  /** It was told to wait with its slots until it hears otherwise. */
  passed = false
  /** Since when it was seen to have something and to offer no slots, ms. */
  idleSince: number | undefined
  /** The chunk that it was asked for because it offers no slots. */
  poked: number | undefined
  /** Consecutive requests that it failed to serve. */
  failures = 0
  #responseMs = 0

  constructor(id: string, far: boolean, shelf: BitfieldShelf) {
    this.id = id
    this.far = far
    this.held = shelf.create()
    this.expected = shelf.create()
  }

  /** How long it usually takes from a request to the chunk, ms; undefined before the first chunk. */
  get responseMs(): number | undefined {
    return this.#responseMs === 0 ? undefined : this.#responseMs
  }

  /** Notes that a requested chunk came. */
  arrived(chunk: number, now: number): void {
    const took = Math.max(1, now - (this.inFlight.get(chunk)?.at ?? now))
    this.inFlight.delete(chunk)
    this.#responseMs =
      this.#responseMs === 0 ? took : this.#responseMs + RESPONSE_WEIGHT * (took - this.#responseMs)
  }
}
