import type { Random } from './random.ts'
import type { SessionLimits } from './session-contract.ts'

/**
 * How long one download waits: for the scheduler's answer, for what the neighbours hold, for the next chunk before it reads the
 * origin on its own account, for the next byte before it gives up.
 */
export class Patience {
  readonly #limits: SessionLimits
  readonly #random: Random
  #schedulerUp: boolean
  #answered = false
  /** Since when the scheduler's answer is awaited. */
  #askedAt: number
  /** Neighbours that the scheduler named, and when. */
  #named = 0
  #namedAt = 0
  /** When a neighbour last told of a chunk. */
  #heardAt = Number.NEGATIVE_INFINITY
  #lastByteAt: number
  #tickedAt: number
  #rescueAt: number
  #rescuing = false

  constructor(limits: SessionLimits, random: Random, schedulerUp: boolean, now: number) {
    this.#limits = limits
    this.#random = random
    this.#schedulerUp = schedulerUp
    this.#askedAt = now
    this.#lastByteAt = now
    this.#tickedAt = now
    this.#rescueAt = this.#nextRescue(now)
  }

  get schedulerUp(): boolean {
    return this.#schedulerUp
  }

  /** No chunk has come for so long that whatever neighbours offer is read from the origin too. */
  get rescuing(): boolean {
    return this.#rescuing
  }

  /** ms since the last byte. */
  quietMs(now: number): number {
    return now - this.#lastByteAt
  }

  /** No scheduler, a silent one, or no progress under it: this peer reads the origin on its own account. */
  ownRule(now: number): boolean {
    if (!this.#schedulerUp) return true
    return this.awaitsScheduler ? this.schedulerIsLate(now) : this.#rescuing
  }

  /** The scheduler is there and has not answered the join. */
  get awaitsScheduler(): boolean {
    return this.#schedulerUp && !this.#answered
  }

  /** Its answer is waited for no more. */
  schedulerIsLate(now: number): boolean {
    return now - this.#askedAt >= this.#limits.schedulerPatienceMs
  }

  /** Neighbours that the scheduler just named may be about to say what they hold; `introduced` have done so. */
  awaitsNeighbours(introduced: number, now: number): boolean {
    return now - this.#namedAt < this.#limits.introductionMs && introduced < this.#named
  }

  schedulerChanged(up: boolean, now: number): void {
    this.#schedulerUp = up
    this.#answered = false
    this.#askedAt = now
  }

  /** The scheduler named so many neighbours. */
  neighboursNamed(named: number, now: number): void {
    this.#answered = true
    this.#named = named
    this.#namedAt = now
  }

  /** The scheduler said something else of the blob. */
  schedulerSpoke(): void {
    this.#answered = true
  }

  /** Neighbours told of chunks. */
  neighboursSpoke(now: number): void {
    this.#heardAt = now
  }

  byteCame(now: number): void {
    this.#lastByteAt = now
  }

  /** A chunk is in the store. */
  chunkCame(from: 'origin' | 'neighbour', now: number): void {
    if (from === 'neighbour') this.#rescuing = false
    this.#lastByteAt = now
    this.#rescueAt = this.#nextRescue(now)
  }

  /** Time goes on while nothing has to come soon. */
  rest(now: number): void {
    this.#tickedAt = now
    this.#lastByteAt = now
    this.#rescueAt = this.#nextRescue(now)
    this.#rescuing = false
  }

  /**
   * Time goes on while something is waited for; false when that was long enough to give up. `heldBack`: by this peer's own
   * limits, so that it does not count. `isCold`: the neighbours have nothing that is missing either.
   */
  wait(now: number, heldBack: boolean, isCold: () => boolean): boolean {
    if (heldBack) {
      const passed = now - this.#tickedAt
      this.#lastByteAt += passed
      this.#rescueAt += passed
    }
    this.#tickedAt = now
    if (this.quietMs(now) > this.#limits.giveUpAfterMs) return false
    if (now >= this.#rescueAt && now >= this.#rescueAt + this.#extraMs(now, isCold)) this.#rescuing = true
    return true
  }

  /** How much longer than usual this peer waits before it reads the origin on its own account. */
  #extraMs(now: number, isCold: () => boolean): number {
    const { rescueAfterMs, coldRescueAfterMs, aliveMs } = this.#limits
    const isAlive = now - this.#heardAt < aliveMs
    return isAlive || isCold() ? coldRescueAfterMs - rescueAfterMs : 0
  }

  #nextRescue(now: number): number {
    return now + this.#limits.rescueAfterMs * (1 + this.#random() / 2)
  }
}
