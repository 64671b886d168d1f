import { firstFreeRun, type Run } from './extents.ts'

/** The word that one peer may fetch chunks [from, to) from the origin now. */
export interface Lease extends Run {
  readonly id: number
  readonly peer: string
  /** When it lapses unless something is heard of it, ms. */
  deadline: number
}

/** How long a lease lives without a sign of progress, ms. */
export interface LeaseTimes {
  /** Until the first byte: an origin may need a while to begin. */
  readonly firstByteMs: number
  /** Between two signs of progress. */
  readonly progressMs: number
}

/** The times that production starts from. */
export const DEFAULT_LEASE_TIMES: LeaseTimes = { firstByteMs: 5_000, progressMs: 1_500 }

/** The leases of one blob: no chunk is ever under two of them. It only keeps the book; others decide who gets one. */
export class LeaseBook {
  readonly #leases = new Map<number, Lease>()
  readonly #leased: Uint8Array
  readonly #times: LeaseTimes
  #nextId = 1

  constructor(chunks: number, times: LeaseTimes = DEFAULT_LEASE_TIMES) {
    this.#leased = new Uint8Array(chunks)
    this.#times = times
  }

  get size(): number {
    return this.#leases.size
  }

  /** How many leases a peer has. */
  countOf(peer: string): number {
    let count = 0
    for (const lease of this.#leases.values()) if (lease.peer === peer) count++
    return count
  }

  isLeased(chunk: number): boolean {
    return this.#leased[chunk] === 1
  }

  /** Leases the first free run, at most `longest` chunks, of those that nobody holds; undefined when there is none. */
  grant(
    peer: string,
    longest: number,
    from: number,
    isHeld: (chunk: number) => boolean,
    now: number,
  ): Lease | undefined {
    const run = firstFreeRun(
      this.#leased.length,
      longest,
      from,
      chunk => !this.isLeased(chunk) && !isHeld(chunk),
    )
    if (run === undefined) return undefined
    const lease: Lease = { ...run, id: this.#nextId++, peer, deadline: now + this.#times.firstByteMs }
    this.#leases.set(lease.id, lease)
    this.#leased.fill(1, lease.from, lease.to)
    return lease
  }

  /** Notes progress. A peer can only speak for its own leases. */
  alive(id: number, peer: string, now: number): void {
    const lease = this.#leases.get(id)
    if (lease?.peer === peer) lease.deadline = now + this.#times.progressMs
  }

  /** Ends a lease; returns it, or undefined when the peer has no such lease. */
  end(id: number, peer: string): Lease | undefined {
    const lease = this.#leases.get(id)
    if (lease?.peer !== peer) return undefined
    this.#leases.delete(id)
    this.#leased.fill(0, lease.from, lease.to)
    return lease
  }

  /** Ends all leases of a peer that left. */
  endAllOf(peer: string): Lease[] {
    const ended = [...this.#leases.values()].filter(lease => lease.peer === peer)
    for (const lease of ended) this.end(lease.id, peer)
    return ended
  }

  /** Ends the leases that lapsed. */
  lapse(now: number): Lease[] {
    const lapsed = [...this.#leases.values()].filter(lease => lease.deadline <= now)
    for (const lease of lapsed) this.end(lease.id, lease.peer)
    return lapsed
  }
}
