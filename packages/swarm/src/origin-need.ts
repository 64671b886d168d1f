import type { NeighbourPool } from './neighbour-pool.ts'
import type { OriginPlan } from './origin-plan.ts'
import type { Patience } from './patience.ts'
import type { SessionContext } from './session-context.ts'

/** What one download needs its origin for: the leases that it asks for, what it or its readers read without one. */
export class OriginNeed {
  readonly #context: SessionContext
  readonly #patience: Patience
  readonly #pool: NeighbourPool
  readonly #origin: OriginPlan

  /** @param origin performs what is decided here. */
  constructor(context: SessionContext, patience: Patience, pool: NeighbourPool, origin: OriginPlan) {
    this.#context = context
    this.#patience = patience
    this.#pool = pool
    this.#origin = origin
  }

  /**
   * Whether a reader of a range that waits for a chunk, and has done so for `waitedMs`, is to read its part of it from the
   * origin itself: nobody nearby can give it soon who is believed.
   */
  onlyOriginServes(chunk: number, waitedMs: number, now: number): boolean {
    const { wanted, limits, belief } = this.#context
    if (wanted.isWholeOnly) return false
    if (waitedMs >= limits.hedgeAfterMs) return true
    // For those who read everything it is on its way from there.
    if (wanted.level === 'everything' && this.#origin.isNext(chunk)) return false
    if (this.#patience.awaitsScheduler) return this.#patience.schedulerIsLate(now)
    if (belief.list === undefined || belief.isDisputed(chunk)) return true
    if (this.#pool.offers(chunk)) return false
    return !this.#patience.awaitsNeighbours(this.#pool.introduced, now)
  }

  /** Asks for leases, and reads on this peer's own account, as far as is needed now. */
  pump(now: number): void {
    const { wanted } = this.#context
    const { level } = wanted
    if (level === 'background') return this.#pumpBackground(now)
    if (this.#patience.schedulerUp) {
      const isNeeded = level === 'everything' && !wanted.complete
      this.#origin.demand(isNeeded ? Number.POSITIVE_INFINITY : 0, now)
    }
    if (level !== 'everything' || wanted.satisfied) return
    if (this.#origin.mayRead(this.#patience.rescuing, now)) this.#read(now)
  }

  /** One origin read at a time, and none while the allowance is used up. */
  #pumpBackground(now: number): void {
    const { wanted, belief, pending } = this.#context
    const next = wanted.nextInBackground(now)
    if (this.#patience.schedulerUp) this.#origin.demand(next === undefined ? 0 : 1, now, next)
    if (next === undefined || !this.#origin.mayRead(false, now)) return
    const isOwn = this.#patience.ownRule(now)
    if (!isOwn && !belief.anyDisputed && !this.#pool.anyOrphans) return
    const isDue = (chunk: number): boolean =>
      isOwn ? this.#isMissing(chunk) && !this.#comesFromNeighbours(chunk) : this.#onlyOriginWillDo(chunk)
    if (this.#origin.busy) return
    const chunk = wanted.nextInBackground(now, missing => pending.isFree(missing) && isDue(missing))
    if (chunk !== undefined && wanted.take(chunk, now)) this.#origin.readOne(chunk)
  }

  #read(now: number): void {
    const { wanted, belief, readers } = this.#context
    if (this.#patience.ownRule(now)) {
      this.#origin.readFree(chunk => this.#isMissing(chunk) && !this.#comesFromNeighbours(chunk))
    } else if (belief.anyDisputed || this.#pool.anyOrphans || (wanted.isWholeOnly && readers.anyStrict)) {
      // The scheduler sees no need, since these are held somewhere; but only the origin's own bytes will do.
      this.#origin.readFree(chunk => this.#onlyOriginWillDo(chunk))
    }
  }

  #isMissing(chunk: number): boolean {
    return !this.#context.held.has(chunk) || this.#isForReader(chunk)
  }

  #onlyOriginWillDo(chunk: number): boolean {
    const { held, belief } = this.#context
    if (this.#isForReader(chunk)) return true
    return !held.has(chunk) && (belief.isDisputed(chunk) || this.#pool.isOrphan(chunk))
  }

  /** A reader of a range needs the origin's own bytes, and gets them only by a read of the whole blob. */
  #isForReader(chunk: number): boolean {
    const { wanted, readers } = this.#context
    return wanted.isWholeOnly && readers.needsOrigin(chunk)
  }

  #comesFromNeighbours(chunk: number): boolean {
    return !this.#patience.rescuing && this.#pool.offers(chunk) && !this.#onlyOriginWillDo(chunk)
  }
}
