import { type Run, runBorder } from './extents.ts'
import { IndexSet } from './index-set.ts'
import { LeaseForecast, type LeaseProgress } from './lease-forecast.ts'

/** The word that one peer may fetch chunks [from, to) from the origin now. */
export interface Lease extends Run, LeaseProgress {
  readonly id: number
  readonly peer: string
  /** When it lapses unless something is heard of it, ms. */
  deadline: number
  /** Something was heard of it. */
  begun: boolean
  /** It is about to end: another one may be granted in its stead. */
  ending: boolean
}

/** How long a lease lives without a sign of progress, ms. */
export interface LeaseTimes {
  /** Until the first byte: an origin may need a while to begin. Doubled when leases lapse before it, to {@link longestMs}. */
  readonly firstByteMs: number
  /** Between two signs of progress. */
  readonly progressMs: number
  /** The longest that a first byte is waited for. */
  readonly longestMs: number
}

/** The times that production starts from. */
export const DEFAULT_LEASE_TIMES: LeaseTimes = { firstByteMs: 3_000, progressMs: 1_500, longestMs: 12_000 }

/**
 * The leases of one blob: no chunk is ever under two of them, and none that a peer holds is leased. It only keeps the
 * book; others decide who gets one.
 */
export class LeaseBook {
  readonly #leases = new Map<number, Lease>()
  readonly #byPeer = new Map<string, Set<Lease>>()
  /** Chunks that nobody holds and nobody has a lease for. */
  readonly #free: IndexSet
  readonly #holders: Uint32Array
  /** The lease of each chunk; 0: none. */
  readonly #leaseOf: Uint32Array
  readonly #times: LeaseTimes
  #longest: number
  #firstByteMs: number
  #nextId = 1
  readonly #forecast = new LeaseForecast()
  #ending = 0

  /** @param longest the length of a run, in chunks. */
  constructor(chunks: number, longest: number, times: LeaseTimes = DEFAULT_LEASE_TIMES) {
    this.#free = new IndexSet(chunks)
    for (let chunk = 0; chunk < chunks; chunk++) this.#free.add(chunk)
    this.#holders = new Uint32Array(chunks)
    this.#leaseOf = new Uint32Array(chunks)
    this.#times = times
    this.#longest = longest
    this.#firstByteMs = times.firstByteMs
  }

  /** Leases at work. */
  get size(): number {
    return this.#leases.size
  }

  /** Leases at work that are not about to end. */
  get working(): number {
    return this.#leases.size - this.#ending
  }

  /** Chunks that could be leased now. */
  get free(): number {
    return this.#free.size
  }

  /** How many leases a peer has. */
  countOf(peer: string): number {
    return this.#byPeer.get(peer)?.size ?? 0
  }

  /** The peer that has a lease for a chunk. */
  lesseeOf(chunk: number): string | undefined {
    return this.#leases.get(this.#leaseOf[chunk] ?? 0)?.peer
  }

  /** A peer tells that it holds chunks now that it did not hold before; returns how many of them it had a lease for. */
  told(peer: string, chunks: readonly number[], now: number): number {
    const counts = new Map<Lease, number>()
    for (const chunk of chunks) {
      const lease = this.#leases.get(this.#leaseOf[chunk] ?? 0)
      if (lease?.peer === peer) counts.set(lease, (counts.get(lease) ?? 0) + 1)
    }
    let total = 0
    for (const [lease, count] of counts) {
      this.#forecast.heard(lease, count, now)
      lease.heardAt = now
      lease.left -= count
      total += count
    }
    return total
  }

  /** Finds leases that are about to end, at most until `most` are; returns how many more are now. */
  foresee(most: number, now: number): number {
    let found = 0
    for (const lease of this.#leases.values()) {
      if (this.#ending >= most) break
      if (lease.ending || !this.#forecast.isEnding(lease, now)) continue
      lease.ending = true
      this.#ending++
      found++
    }
    return found
  }

  /** One more peer holds a chunk. */
  held(chunk: number): void {
    this.#holders[chunk]!++
    this.#free.delete(chunk)
  }

  /** One peer less holds a chunk. */
  lost(chunk: number): void {
    this.#holders[chunk]!--
    this.#judge(chunk)
  }

  /** From now on the blob is leased whole, from its first free chunk to its end. */
  leaseWhole(): void {
    this.#longest = this.#leaseOf.length
  }

  /** Leases the first free run at or after `from` (going around once); undefined when there is none. */
  grant(peer: string, from: number, now: number): Lease | undefined {
    const start = this.#free.next(from) ?? this.#free.next(0)
    if (start === undefined) return undefined
    const whole = this.#longest === this.#leaseOf.length
    const border = whole ? this.#longest : Math.min(this.#leaseOf.length, runBorder(this.#longest, start))
    let end = start
    const id = this.#nextId++
    while (end < border && this.#free.delete(end)) this.#leaseOf[end++] = id
    const deadline = now + this.#firstByteMs
    const lease: Lease = {
      id,
      peer,
      from: start,
      to: end,
      deadline,
      begun: false,
      grantedAt: now,
      heardAt: undefined,
      left: end - start,
      ending: false,
    }
    this.#leases.set(id, lease)
    const own = this.#byPeer.get(peer)
    if (own === undefined) this.#byPeer.set(peer, new Set([lease]))
    else own.add(lease)
    return lease
  }

  /** Notes progress. A peer can only speak for its own leases. */
  alive(id: number, peer: string, now: number): void {
    const lease = this.#leases.get(id)
    if (lease?.peer !== peer) return
    lease.begun = true
    lease.deadline = now + this.#times.progressMs
  }

  /** Ends a lease; returns it, or undefined when the peer has no such lease. */
  end(id: number, peer: string): Lease | undefined {
    const lease = this.#leases.get(id)
    if (lease?.peer !== peer) return undefined
    this.#leases.delete(id)
    if (lease.ending) this.#ending--
    const own = this.#byPeer.get(peer)
    own?.delete(lease)
    if (own?.size === 0) this.#byPeer.delete(peer)
    for (let chunk = lease.from; chunk < lease.to; chunk++) {
      this.#leaseOf[chunk] = 0
      this.#judge(chunk)
    }
    return lease
  }

  /** Ends all leases of a peer that left. */
  endAllOf(peer: string): Lease[] {
    const ended = [...(this.#byPeer.get(peer) ?? [])]
    for (const lease of ended) this.end(lease.id, peer)
    return ended
  }

  /** Ends the leases that lapsed. */
  lapse(now: number): Lease[] {
    const lapsed = [...this.#leases.values()].filter(lease => lease.deadline <= now)
    // An origin that takes long to begin would never get anywhere.
    if (lapsed.some(lease => !lease.begun)) {
      this.#firstByteMs = Math.min(this.#times.longestMs, this.#firstByteMs * 2)
    }
    for (const lease of lapsed) this.end(lease.id, lease.peer)
    return lapsed
  }

  #judge(chunk: number): void {
    if (this.#holders[chunk] === 0 && this.#leaseOf[chunk] === 0) this.#free.add(chunk)
  }
}
