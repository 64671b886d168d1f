/** How long someone may stand in the line, in ms: well within the time that a handshake may take. */
const PATIENCE_MS = 1500
/** What a handshake is taken to cost until it has been measured, in ms. */
const FIRST_GUESS_MS = 10
/** How much a new measurement counts. */
const SMOOTHING = 0.1
/** Bounds of how long someone is sent away, in ms. */
const AWAY = { minMs: 500, maxMs: 60_000 }

/** A place that is kept for someone who knocked. */
export interface Ticket {
  /** Gets in line, having proved to be a member; resolves when it is this one's turn. Called once. */
  enter(): Promise<void>
  /** Gives the place up, whatever came of it. A second call does nothing. */
  leave(): void
}

/**
 * Lets so many through at the same moment, others wait in line, and more are told when to come back: one after another, at
 * the speed at which the turnstile was last seen to work, so that a crowd that comes at once is spread over the time that it
 * takes to let it in, and nobody waits in vain. Whoever has not proved anything keeps nobody from getting through.
 */
export class Turnstile {
  readonly #atOnce: number
  readonly #now: () => number
  readonly #line = new Set<() => void>()
  /** Everyone with a ticket. */
  #places = 0
  #inside = 0
  /** Time from one handshake's end to the next one's while others wait, ms. */
  #paceMs = FIRST_GUESS_MS
  #lastEnd: number | undefined
  /** When the next one that is sent away may come back. */
  #nextBack = 0

  /** `now`: a clock in ms. */
  constructor(atOnce: number, now: () => number) {
    this.#atOnce = atOnce
    this.#now = now
  }

  /** A place, or how long to stay away, in ms. */
  knock(): Ticket | number {
    if (this.#places < this.#atOnce + PATIENCE_MS / this.#paceMs) return this.#ticket()
    const now = this.#now()
    const earliest = Math.max(now + AWAY.minMs, this.#nextBack + this.#paceMs)
    this.#nextBack = Math.min(now + AWAY.maxMs, earliest)
    return Math.round(this.#nextBack - now)
  }

  #ticket(): Ticket {
    this.#places++
    let state: 'outside' | 'line' | 'inside' | 'left' = 'outside'
    let comeIn: (() => void) | undefined
    return {
      enter: () =>
        new Promise(resolve => {
          comeIn = () => {
            state = 'inside'
            this.#inside++
            resolve()
          }
          if (this.#inside < this.#atOnce) return comeIn()
          state = 'line'
          this.#line.add(comeIn)
        }),
      leave: () => {
        if (state === 'left') return
        if (state === 'inside') this.#next()
        if (comeIn !== undefined) this.#line.delete(comeIn)
        state = 'left'
        this.#places--
      },
    }
  }

  /** Someone inside is through: the first in line comes in. */
  #next(): void {
    this.#inside--
    const now = this.#now()
    const [first] = this.#line
    if (first === undefined) {
      this.#lastEnd = undefined
      return
    }
    if (this.#lastEnd !== undefined) {
      this.#paceMs += (Math.max(1, now - this.#lastEnd) - this.#paceMs) * SMOOTHING
    }
    this.#lastEnd = now
    this.#line.delete(first)
    first()
  }
}
