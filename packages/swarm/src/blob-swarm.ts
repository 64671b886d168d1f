import { Bitfield } from './bitfield.ts'
import { runChunks } from './extents.ts'
import { NeighbourGraph } from './graph.ts'
import type { ChunkLayout } from './layout.ts'
import { LeaseBook, type LeaseTimes } from './leases.ts'
import type { Random } from './random.ts'

/** What the scheduler is to tell a peer about one blob. */
export type SwarmEffect =
  | { readonly type: 'neighbours'; readonly to: string; readonly peers: readonly string[] }
  | {
      readonly type: 'lease'
      readonly to: string
      readonly lease: number
      readonly from: number
      readonly toChunk: number
    }
  | { readonly type: 'lease-void'; readonly to: string; readonly lease: number }
  | { readonly type: 'verified'; readonly to: string; readonly hashes: Uint8Array }

/** How a swarm is shaped. */
export interface SwarmShape {
  /** Neighbours of each wanting peer. */
  readonly degree: number
  /** Leases on one blob at the same time, over all peers: bounds the connections that its origin sees. */
  readonly maxLeases: number
  /** Leases of one peer when it is alone; with more peers each has fewer. */
  readonly maxLeasesPerPeer: number
  readonly leaseTimes?: LeaseTimes
}

/** The shape that production starts from. */
export const DEFAULT_SWARM_SHAPE: SwarmShape = { degree: 8, maxLeases: 16, maxLeasesPerPeer: 4 }

interface Member {
  readonly id: string
  held: Bitfield
  wants: boolean
  slots: number
  from: number
  /** No lease before this time, ms: its last ones failed. */
  restUntil: number
  failures: number
  /** It was blamed for wrong bytes: what it says it holds counts for nothing. */
  discounted: boolean
}

const REST_BASE_MS = 500
const REST_MAX_MS = 30_000

/**
 * One blob's swarm as the scheduler sees it: who holds what, who talks to whom, who reads what from the origin. Pure:
 * each event updates the state, {@link takeEffects} tells what to send.
 */
export class BlobSwarm {
  readonly layout: ChunkLayout
  readonly #members = new Map<string, Member>()
  readonly #holders: Uint32Array
  readonly #leases: LeaseBook
  readonly #graph: NeighbourGraph
  readonly #shape: SwarmShape
  readonly #random: Random
  readonly #vouchers = new Map<string, Uint8Array>()
  #verified: Uint8Array | undefined
  #wholeOnly = false
  #effects: SwarmEffect[] = []

  constructor(layout: ChunkLayout, random: Random, shape: SwarmShape = DEFAULT_SWARM_SHAPE) {
    this.layout = layout
    this.#holders = new Uint32Array(this.layout.count)
    this.#leases = new LeaseBook(this.layout.count, shape.leaseTimes)
    this.#graph = new NeighbourGraph(shape.degree, random)
    this.#shape = shape
    this.#random = random
  }

  /** Peers that hold or want something. */
  get members(): number {
    return this.#members.size
  }

  /** Leases at work now. */
  get leases(): number {
    return this.#leases.size
  }

  /** Peers that are downloading. */
  get wanting(): number {
    let count = 0
    for (const member of this.#members.values()) if (member.wants) count++
    return count
  }

  takeEffects(): SwarmEffect[] {
    for (const id of this.#graph.takeChanged()) {
      this.#effects.push({ type: 'neighbours', to: id, peers: [...this.#graph.neighbours(id)] })
    }
    const effects = this.#effects
    this.#effects = []
    return effects
  }

  /** A peer takes part, or says again what it holds. @throws {RangeError} for a bitfield of the wrong length. */
  join(id: string, held: Uint8Array, wants: boolean, now: number): void {
    const before = this.#members.get(id)
    const discounted = before?.discounted ?? false
    const told = Bitfield.fromBytes(this.layout.count, held)
    const field = discounted ? new Bitfield(this.layout.count) : told
    if (before !== undefined) this.#uncount(before.held)
    const member: Member = {
      id,
      held: field,
      wants,
      slots: wants ? (before?.slots ?? 0) : 0,
      from: before?.from ?? 0,
      restUntil: before?.restUntil ?? 0,
      failures: before?.failures ?? 0,
      discounted,
    }
    this.#members.set(id, member)
    for (const chunk of field.indices()) this.#holders[chunk]!++
    this.#graph.add(id)
    // One that only held it before had no use for the list.
    if (this.#verified !== undefined && (before === undefined || (wants && !before.wants))) {
      this.#effects.push({ type: 'verified', to: id, hashes: this.#verified })
    }
    if (discounted) this.#graph.prune(id, () => false)
    else if (wants) this.#graph.fill(id, this.#candidatesFor(id))
    else this.#graph.prune(id, other => this.#members.get(other)?.wants === true)
    if (before === undefined) this.#refill()
    this.#grant(now)
  }

  held(id: string, chunks: readonly number[], now: number): void {
    const member = this.#members.get(id)
    if (member === undefined || member.discounted) return
    for (const chunk of chunks) if (member.held.set(chunk)) this.#holders[chunk]!++
    member.failures = 0
    this.#grant(now)
  }

  dropped(id: string, chunks: readonly number[], now: number): void {
    const member = this.#members.get(id)
    if (member === undefined) return
    for (const chunk of chunks) if (member.held.clear(chunk)) this.#holders[chunk]!--
    this.#grant(now)
  }

  /**
   * A member sent wrong bytes, says another: its holdings no longer keep chunks from being leased, and nobody is
   * sent to it for this blob. A false accuser gains no more than some extra reads of the origin.
   */
  discount(id: string, now: number): void {
    const member = this.#members.get(id)
    if (member === undefined || member.discounted) return
    member.discounted = true
    this.#uncount(member.held)
    member.held = new Bitfield(this.layout.count)
    this.#graph.prune(id, () => false)
    this.#refill()
    this.#grant(now)
  }

  leave(id: string, now: number): void {
    const member = this.#members.get(id)
    if (member === undefined) return
    this.#members.delete(id)
    this.#vouchers.delete(id)
    this.#uncount(member.held)
    this.#leases.endAllOf(id)
    this.#graph.remove(id)
    this.#refill()
    this.#grant(now)
  }

  leaseDemand(id: string, slots: number, from: number, now: number): void {
    const member = this.#members.get(id)
    if (member === undefined) return
    member.slots = member.wants ? Math.min(slots, this.#shape.maxLeasesPerPeer) : 0
    member.from = from
    this.#grant(now)
  }

  leaseAlive(id: string, lease: number, now: number): void {
    this.#leases.alive(lease, id, now)
  }

  leaseEnd(
    id: string,
    lease: number,
    outcome: 'done' | 'failed' | 'released',
    hint: { readonly wholeOnly?: boolean | undefined; readonly retryAfterMs?: number | undefined },
    now: number,
  ): void {
    if (this.#leases.end(lease, id) === undefined) return
    const member = this.#members.get(id)
    if (hint.wholeOnly === true) this.#wholeOnly = true
    else if (outcome === 'failed' && member !== undefined) {
      member.failures++
      const rest = Math.min(REST_MAX_MS, REST_BASE_MS * 2 ** (member.failures - 1))
      member.restUntil = now + Math.max(rest, hint.retryAfterMs ?? 0)
    }
    this.#grant(now)
  }

  /**
   * A peer that hashed the whole blob tells its chunk list. Lists that contradict each other are all given up:
   * someone lies, and nobody here can tell who.
   */
  vouch(id: string, hashes: Uint8Array): 'accepted' | 'contradicted' | 'malformed' {
    if (hashes.length !== this.layout.count * HASH_BYTES) return 'malformed'
    // Equal lists are kept once, however many vouch.
    const same = this.#verified !== undefined && sameBytes(this.#verified, hashes)
    this.#vouchers.set(id, same ? this.#verified! : hashes)
    for (const other of this.#vouchers.values()) {
      if (other === this.#vouchers.get(id) || sameBytes(other, hashes)) continue
      if (this.#verified !== undefined) this.#tellVerified(new Uint8Array(0))
      this.#verified = undefined
      return 'contradicted'
    }
    if (this.#verified === undefined) {
      this.#verified = hashes
      this.#tellVerified(hashes)
    }
    return 'accepted'
  }

  /** Moves time on: lapsed leases go to others. */
  tick(now: number): void {
    for (const lease of this.#leases.lapse(now)) {
      this.#effects.push({ type: 'lease-void', to: lease.peer, lease: lease.id })
      const member = this.#members.get(lease.peer)
      // It may try again, but only after those whose reads did not stall.
      if (member !== undefined) member.restUntil = now + REST_BASE_MS
    }
    this.#grant(now)
  }

  #tellVerified(hashes: Uint8Array): void {
    for (const member of this.#members.values()) {
      if (member.wants) this.#effects.push({ type: 'verified', to: member.id, hashes })
    }
  }

  #uncount(held: Bitfield): void {
    for (const chunk of held.indices()) this.#holders[chunk]!--
  }

  #candidatesFor(id: string): string[] {
    const candidates: string[] = []
    for (const other of this.#members.values()) {
      if (other.id !== id && !other.discounted && (other.wants || other.held.count > 0))
        candidates.push(other.id)
    }
    return candidates
  }

  /** Brings wanting peers that lost neighbours, or found none when they came, back to their degree. */
  #refill(): void {
    for (const member of this.#members.values()) {
      if (
        member.wants &&
        this.#graph.neighbours(member.id).size < Math.min(this.#shape.degree, this.#members.size - 1)
      ) {
        this.#graph.fill(member.id, this.#candidatesFor(member.id))
      }
    }
  }

  #grant(now: number): void {
    if (this.#wholeOnly && this.#leases.size > 0) return
    const isHeld = (chunk: number): boolean => this.#holders[chunk]! > 0
    const longest = this.#wholeOnly ? this.layout.count : runChunks(this.layout)
    const cap = Math.max(1, Math.ceil(this.#shape.maxLeasesPerPeer / Math.max(1, this.wanting)))
    while (this.#leases.size < (this.#wholeOnly ? 1 : this.#shape.maxLeases)) {
      const member = this.#nextLessee(cap, now)
      if (member === undefined) return
      const lease = this.#leases.grant(member.id, longest, this.#wholeOnly ? 0 : member.from, isHeld, now)
      if (lease === undefined) return
      member.slots--
      this.#effects.push({
        type: 'lease',
        to: member.id,
        lease: lease.id,
        from: lease.from,
        toChunk: lease.to,
      })
    }
  }

  /** The peer with the fewest leases of those that ask for one, ties broken at random. */
  #nextLessee(cap: number, now: number): Member | undefined {
    let best: Member | undefined
    let fewest = cap
    let ties = 0
    for (const member of this.#members.values()) {
      if (member.slots <= 0 || member.restUntil > now) continue
      const leases = this.#leases.countOf(member.id)
      if (leases < fewest) {
        best = member
        fewest = leases
        ties = 1
      } else if (best !== undefined && leases === fewest && this.#random() * ++ties < 1) {
        best = member
      }
    }
    return best
  }
}

const HASH_BYTES = 32

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}
