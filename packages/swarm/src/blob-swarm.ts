import { Bitfield } from './bitfield.ts'
import { runChunks } from './extents.ts'
import { NeighbourGraph } from './graph.ts'
import type { ChunkLayout } from './layout.ts'
import { LeaseSeekers } from './lease-seekers.ts'
import { LeaseRamp } from './lease-ramp.ts'
import { type Lease, LeaseBook } from './leases.ts'
import { createPace, type OriginPace } from './origin-pace.ts'
import type { Random } from './random.ts'
import {
  DEFAULT_SWARM_SHAPE,
  type MemberTraits,
  type SwarmEffect,
  type SwarmShape,
} from './swarm-contract.ts'
import { VerifiedList } from './verified-list.ts'

interface Member {
  readonly id: string
  readonly zone: string
  /** Gets leases before others, until one of them fails or lapses. */
  seed: boolean
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
/** How long a seed may go without a sign of progress before others get leases too, ms. */
const SEED_PATIENCE_MS = 1_000

/**
 * One blob's swarm as the scheduler sees it: who holds what, who talks to whom, who reads what from the origin. Pure:
 * each event updates the state, {@link takeEffects} tells what to send. What an event costs does not depend on the number
 * of members.
 */
export class BlobSwarm {
  readonly layout: ChunkLayout
  readonly #members = new Map<string, Member>()
  readonly #leases: LeaseBook
  readonly #ramp = new LeaseRamp()
  readonly #seekers: LeaseSeekers
  /** The seeds among those that seek a lease. */
  readonly #seekingSeeds: LeaseSeekers
  /** The seed that is asked to fetch the blob, and until when leases wait for it, ms. */
  #awaited: { readonly id: string; until: number } | undefined
  /** Those that would take a lease, but rest first. */
  readonly #resting = new Set<Member>()
  readonly #graph: NeighbourGraph
  readonly #shape: SwarmShape
  #pace: OriginPace
  #wanting = 0
  readonly #list: VerifiedList
  #wholeOnly = false
  /** The pace counts this blob. */
  #paced = false
  #effects: SwarmEffect[] = []

  /** `pace`: of the upstream that the blob comes from, shared with its other blobs; one of its own when left out. */
  constructor(
    layout: ChunkLayout,
    random: Random,
    shape: SwarmShape = DEFAULT_SWARM_SHAPE,
    pace: OriginPace = createPace(shape),
  ) {
    this.layout = layout
    this.#leases = new LeaseBook(layout.count, runChunks(layout), shape.leaseTimes)
    this.#seekers = new LeaseSeekers(random)
    this.#seekingSeeds = new LeaseSeekers(random)
    this.#graph = new NeighbourGraph(shape.degree, shape.crossLinks, random)
    this.#shape = shape
    this.#pace = pace
    this.#list = new VerifiedList(layout.count, (to, hashes) =>
      this.#effects.push({ type: 'verified', to, hashes }),
    )
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
    return this.#wanting
  }

  /** Someone wants the blob, and there is something in it that nobody holds or reads. */
  get isCold(): boolean {
    return this.#wanting > 0 && this.#leases.free > 0
  }

  /**
   * A seed was asked to fetch the blob: leases go to seeds alone as long as it gets on, and to others when it shows no
   * progress for a second or has as many as one peer may have. A blob of one chunk waits for nobody: the way over a seed would be
   * longer than what it saves.
   */
  awaitSeed(id: string, now: number): void {
    if (this.layout.count > 1) this.#awaited = { id, until: now + SEED_PATIENCE_MS }
  }

  /** The seed that was asked does not fetch the blob (any more). */
  seedFailed(id: string, now: number): void {
    if (this.#awaited?.id !== id) return
    this.#awaited = undefined
    this.#grant(now)
  }

  /** From now on the blob comes from the upstream of this pace. */
  usePace(pace: OriginPace): void {
    if (pace === this.#pace) return
    const needy = this.#paced
    this.#count(false)
    for (let i = this.#leases.working; i > 0; i--) this.#pace.ended()
    this.#pace = pace
    this.#count(needy)
    for (let i = this.#leases.working; i > 0; i--) pace.granted()
  }

  takeEffects(): SwarmEffect[] {
    for (const id of this.#graph.takeChanged()) {
      this.#effects.push({ type: 'neighbours', to: id, peers: this.#graph.neighbours(id) })
    }
    const effects = this.#effects
    this.#effects = []
    return effects
  }

  /**
   * A peer takes part, or says again what it holds. One that wants something is always told its neighbours.
   * @throws {RangeError} for a bitfield of the wrong length.
   */
  join(id: string, held: Uint8Array, wants: boolean, now: number, traits: MemberTraits = {}): void {
    const { zone = '', seed = false } = traits
    const before = this.#members.get(id)
    const discounted = before?.discounted ?? false
    const told = Bitfield.fromBytes(this.layout.count, held)
    const field = discounted ? new Bitfield(this.layout.count) : told
    if (before !== undefined) this.#uncount(before)
    const member: Member = {
      id,
      zone,
      seed,
      held: field,
      wants,
      slots: wants ? (before?.slots ?? 0) : 0,
      from: before?.from ?? 0,
      restUntil: before?.restUntil ?? 0,
      failures: before?.failures ?? 0,
      discounted,
    }
    this.#members.set(id, member)
    if (wants) this.#wanting++
    for (const chunk of field.indices()) this.#leases.held(chunk)
    if (!wants) this.#list.uselessTo(id)
    // One that only held it before had no use for the list.
    else if (before?.wants !== true) this.#list.wantedBy(id)
    if (wants) this.#progressed(id, now)
    this.#place(member, now)
    this.#seek(member, now)
    this.#grant(now)
  }

  held(id: string, chunks: readonly number[], now: number): void {
    const member = this.#members.get(id)
    if (member === undefined || member.discounted) return
    const news = chunks.filter(chunk => member.held.set(chunk))
    for (const chunk of news) {
      if (this.#leases.lesseeOf(chunk) === id) this.#pace.received(this.layout.length(chunk), now)
      this.#leases.held(chunk)
    }
    if (this.#leases.told(id, news, now) > 0) {
      this.#ramp.received()
      this.#progressed(id, now)
    }
    member.failures = 0
    this.#grant(now)
  }

  dropped(id: string, chunks: readonly number[], now: number): void {
    const member = this.#members.get(id)
    if (member === undefined) return
    for (const chunk of chunks) if (member.held.clear(chunk)) this.#leases.lost(chunk)
    if (!member.wants && member.held.count === 0) this.#place(member, now)
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
    for (const chunk of member.held.indices()) this.#leases.lost(chunk)
    member.held = new Bitfield(this.layout.count)
    this.#place(member, now)
    this.#grant(now)
  }

  leave(id: string, now: number): void {
    const member = this.#members.get(id)
    if (member === undefined) return
    this.#members.delete(id)
    this.#list.uselessTo(id)
    if (this.#awaited?.id === id) this.#awaited = undefined
    this.#uncount(member)
    for (const lease of this.#leases.endAllOf(id)) this.#ended(lease)
    this.#graph.remove(id, now)
    this.#grant(now)
  }

  leaseDemand(id: string, slots: number, from: number, now: number): void {
    const member = this.#members.get(id)
    if (member === undefined) return
    member.slots = member.wants ? Math.min(slots, this.#shape.maxLeasesPerPeer) : 0
    member.from = from
    this.#seek(member, now)
    this.#grant(now)
  }

  leaseAlive(id: string, lease: number, now: number): void {
    this.#leases.alive(lease, id, now)
    this.#progressed(id, now)
  }

  leaseEnd(
    id: string,
    lease: number,
    outcome: 'done' | 'failed' | 'released',
    hint: { readonly wholeOnly?: boolean | undefined; readonly retryAfterMs?: number | undefined },
    now: number,
  ): void {
    const ended = this.#leases.end(lease, id)
    if (ended === undefined) return
    this.#ended(ended)
    const member = this.#members.get(id)
    if (hint.wholeOnly === true) {
      this.#wholeOnly = true
      this.#leases.leaseWhole()
    } else if (outcome === 'failed' && member !== undefined) {
      member.failures++
      const rest = Math.max(REST_BASE_MS * 2 ** (member.failures - 1), hint.retryAfterMs ?? 0)
      member.restUntil = now + Math.min(REST_MAX_MS, rest)
      if (hint.retryAfterMs !== undefined) this.#pace.pause(hint.retryAfterMs, now)
      this.#demote(member)
    }
    if (member !== undefined) this.#seek(member, now)
    this.#grant(now)
  }

  /** A peer that hashed the whole blob tells its chunk list ({@link VerifiedList.vouch}). */
  vouch(id: string, hashes: Uint8Array): 'accepted' | 'contradicted' | 'malformed' {
    const members = this.#members.values()
    const wanting = members.filter(member => member.wants).map(member => member.id)
    return this.#list.vouch(id, hashes, wanting)
  }

  /** Moves time on, about ten times a second: lapsed leases go to others, and so do neighbours of peers that left. */
  tick(now: number): void {
    for (const lease of this.#leases.lapse(now)) {
      this.#ended(lease)
      this.#effects.push({ type: 'lease-void', to: lease.peer, lease: lease.id })
      const member = this.#members.get(lease.peer)
      if (member === undefined) continue
      this.#demote(member)
      // It may try again, but only after those whose reads did not stall.
      member.restUntil = now + REST_BASE_MS
      this.#seek(member, now)
    }
    for (const member of this.#resting) if (member.restUntil <= now) this.#seek(member, now)
    this.#graph.settle(now)
    this.#list.tick(now)
    this.#grant(now)
  }

  #place(member: Member, now: number): void {
    const { id, wants, zone, held, discounted } = member
    this.#graph.put(id, { wants, zone, offers: !discounted && (wants || held.count > 0) }, now)
  }

  #uncount(member: Member): void {
    if (member.wants) this.#wanting--
    for (const chunk of member.held.indices()) this.#leases.lost(chunk)
    this.#seekersLike(member).remove(member.id)
    this.#resting.delete(member)
  }

  /** Those that `member` is among when it seeks a lease. */
  #seekersLike(member: Member): LeaseSeekers {
    return member.seed ? this.#seekingSeeds : this.#seekers
  }

  /** A seed's read came to nothing: it waits its turn like others from now on, and nobody waits for it. */
  #demote(member: Member): void {
    if (!member.seed) return
    if (this.#awaited?.id === member.id) this.#awaited = undefined
    this.#seekingSeeds.remove(member.id)
    member.seed = false
  }

  /** Bytes come to a member from the origin, or it has just begun. */
  #progressed(id: string, now: number): void {
    if (this.#awaited?.id === id) this.#awaited.until = now + SEED_PATIENCE_MS
  }

  #ended(lease: Lease): void {
    if (!lease.ending) this.#pace.ended()
    this.#leaseCountChanged(lease.peer)
  }

  #leaseCountChanged(id: string): void {
    const member = this.#members.get(id)
    if (member !== undefined && member.slots > 0 && !this.#resting.has(member)) {
      this.#seekersLike(member).add(id, member.zone, this.#leases.countOf(id))
    }
  }

  /** Puts a member among those that seek a lease, or those that rest, or neither. */
  #seek(member: Member, now: number): void {
    this.#resting.delete(member)
    const seekers = this.#seekersLike(member)
    if (member.slots <= 0) {
      seekers.remove(member.id)
    } else if (member.restUntil > now) {
      seekers.remove(member.id)
      this.#resting.add(member)
    } else {
      seekers.add(member.id, member.zone, this.#leases.countOf(member.id))
    }
  }

  #count(needy: boolean): void {
    if (needy === this.#paced) return
    this.#paced = needy
    if (needy) this.#pace.enter()
    else this.#pace.leave()
  }

  /** Who gets the next lease: a seed that seeks one, else another, unless a seed is being waited for. */
  #nextLessee(now: number): Member | undefined {
    const most = this.#shape.maxLeasesPerPeer
    const seed = this.#seekingSeeds.next(most)
    if (seed !== undefined) return this.#members.get(seed)
    if (this.#awaited !== undefined && this.#awaited.until > now) {
      if (this.#leases.countOf(this.#awaited.id) < most) return undefined
    }
    const even = Math.ceil(this.#pace.share / Math.max(1, this.#wanting))
    return this.#members.get(this.#seekers.next(Math.min(most, even)) ?? '')
  }

  /** Those who will read where a lease is about to end are granted theirs now: they find the origin free. */
  #foresee(now: number): void {
    for (let found = this.#leases.foresee(this.#pace.share, now); found > 0; found--) this.#pace.ended()
  }

  #mayGrant(now: number): boolean {
    if (this.#wholeOnly) return this.#leases.size === 0
    const { working } = this.#leases
    return this.#pace.mayGrant(working) && this.#ramp.mayGrant(working, now)
  }

  #grant(now: number): void {
    const seeking = this.#seekers.size + this.#seekingSeeds.size
    this.#count(this.#leases.size > 0 || (this.#leases.free > 0 && seeking > 0))
    if (this.#leases.free === 0 || seeking === 0 || this.#pace.pausedUntil > now) return
    if (!this.#wholeOnly) this.#foresee(now)
    while (this.#mayGrant(now)) {
      const member = this.#nextLessee(now)
      if (member === undefined) return
      const lease = this.#leases.grant(member.id, this.#wholeOnly ? 0 : member.from, now)
      if (lease === undefined) return
      member.slots--
      this.#seekersLike(member).granted(member.zone)
      this.#seek(member, now)
      this.#pace.granted()
      this.#ramp.granted(this.#leases.working, now)
      this.#effects.push({
        type: 'lease',
        to: member.id,
        lease: lease.id,
        from: lease.from,
        toChunk: lease.to,
      })
    }
  }
}
