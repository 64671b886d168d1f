/** What the book wants said to one asker. */
export type FactAnswer =
  | { readonly to: string; readonly id: number; readonly state: 'known'; readonly value: string }
  | { readonly to: string; readonly id: number; readonly state: 'find-out' | 'unknown' }

interface Asker {
  readonly peer: string
  readonly id: number
}

interface Fact {
  value: string | undefined
  freshUntil: number
  finder: { readonly peer: string; readonly deadline: number } | undefined
  readonly waiters: Asker[]
}

/** Bounds of the book. */
export interface FactLimits {
  /** Facts kept; the least recently used go first. */
  readonly maxFacts: number
  /** How long one asker may take to find out before the next is told to, ms. */
  readonly findMs: number
  /** The longest that a value counts as fresh, ms, whatever its teller says. */
  readonly maxFreshMs: number
  /** Askers that wait for one fact; more are told to find out by themselves. */
  readonly maxWaiters: number
}

export const DEFAULT_FACT_LIMITS: FactLimits = {
  maxFacts: 50_000,
  findMs: 5_000,
  maxFreshMs: 300_000,
  maxWaiters: 20_000,
}

/**
 * Facts about public content that peers share, so that one of them asks the upstream and not all. Of those who ask for
 * an unknown fact at the same time one is told to find out; the others wait for what it tells. Pure bookkeeping.
 */
export class FactBook {
  readonly #facts = new Map<string, Fact>()
  /** Facts that someone is to find out. */
  readonly #sought = new Set<Fact>()
  readonly #limits: FactLimits

  constructor(limits: FactLimits = DEFAULT_FACT_LIMITS) {
    this.#limits = limits
  }

  get size(): number {
    return this.#facts.size
  }

  ask(peer: string, id: number, key: string, stale: boolean, now: number): FactAnswer[] {
    const known = this.#facts.get(key)
    if (known?.value !== undefined && (stale || known.freshUntil > now)) {
      this.#touch(key, known)
      return [{ to: peer, id, state: 'known', value: known.value }]
    }
    if (stale) return [{ to: peer, id, state: 'unknown' }]
    const fact = known ?? { value: undefined, freshUntil: 0, finder: undefined, waiters: [] }
    this.#touch(key, fact)
    if (
      fact.finder !== undefined &&
      fact.finder.deadline > now &&
      fact.waiters.length < this.#limits.maxWaiters
    ) {
      fact.waiters.push({ peer, id })
      return []
    }
    fact.finder ??= { peer, deadline: now + this.#limits.findMs }
    this.#sought.add(fact)
    return [{ to: peer, id, state: 'find-out' }]
  }

  /**
   * A peer tells a value, or that it found none. While a value is fresh only its finder's successor may change it; but
   * anyone may say by an empty value that it is fresh no more.
   */
  tell(peer: string, key: string, value: string | undefined, ttlMs: number, now: number): FactAnswer[] {
    const fact = this.#facts.get(key) ?? { value: undefined, freshUntil: 0, finder: undefined, waiters: [] }
    if (value === '') {
      // Something was changed through a peer: whoever asks next finds out. The last value stays for an outage.
      fact.freshUntil = 0
      return []
    }
    const isFinder = fact.finder?.peer === peer
    if (!isFinder && (value === undefined || fact.freshUntil > now || fact.finder !== undefined)) return []
    fact.finder = undefined
    if (value === undefined) return this.#nextFinder(fact, now)
    this.#sought.delete(fact)
    fact.value = value
    fact.freshUntil = now + Math.min(Math.max(0, ttlMs), this.#limits.maxFreshMs)
    this.#touch(key, fact)
    const waiters = fact.waiters.splice(0)
    return waiters.map(({ peer: to, id }) => ({ to, id, state: 'known', value }))
  }

  /** Someone left: what it was to find out goes to the next who waits. */
  left(peer: string, now: number): FactAnswer[] {
    const answers: FactAnswer[] = []
    for (const fact of this.#sought) {
      if (fact.waiters.length > 0) {
        const staying = fact.waiters.filter(waiter => waiter.peer !== peer)
        if (staying.length !== fact.waiters.length)
          fact.waiters.splice(0, Number.POSITIVE_INFINITY, ...staying)
      }
      if (fact.finder?.peer === peer) answers.push(...this.#nextFinder(fact, now))
    }
    return answers
  }

  /** Moves time on: finders that took too long lose their turn. */
  tick(now: number): FactAnswer[] {
    const answers: FactAnswer[] = []
    for (const fact of this.#sought) {
      if (fact.finder !== undefined && fact.finder.deadline <= now)
        answers.push(...this.#nextFinder(fact, now))
    }
    return answers
  }

  #nextFinder(fact: Fact, now: number): FactAnswer[] {
    const next = fact.waiters.shift()
    fact.finder = next === undefined ? undefined : { peer: next.peer, deadline: now + this.#limits.findMs }
    if (next === undefined) this.#sought.delete(fact)
    return next === undefined ? [] : [{ to: next.peer, id: next.id, state: 'find-out' }]
  }

  #touch(key: string, fact: Fact): void {
    this.#facts.delete(key)
    this.#facts.set(key, fact)
    if (this.#facts.size <= this.#limits.maxFacts) return
    for (const [oldest, entry] of this.#facts) {
      if (entry.finder !== undefined || entry.waiters.length > 0) continue
      this.#facts.delete(oldest)
      return
    }
  }
}
