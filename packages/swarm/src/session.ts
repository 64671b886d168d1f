import type { Bitfield, ReadonlyBitfield } from './bitfield.ts'
import type { Run } from './extents.ts'
import type { ChunkLayout } from './layout.ts'
import { NeighbourPool, type PoolContext } from './neighbour-pool.ts'
import { type OriginFailure, OriginPlan } from './origin-plan.ts'
import { PendingChunks } from './pending.ts'
import type { Random } from './random.ts'
import { ReaderSet } from './readers.ts'
import {
  type Allowance,
  type Appetite,
  type ChunkOrigin,
  DEFAULT_SESSION_LIMITS,
  type LinkDeed,
  type SessionEffect,
  type SessionLimits,
} from './session-contract.ts'
import { sameBytes } from './told-hashes.ts'
import { Wanted } from './wanted.ts'

/**
 * The decisions of one blob's download on one peer: which chunk to request from whom, when to read the origin, when
 * to stop waiting. It performs nothing: each event updates the state, and {@link takeEffects} tells what to do.
 * Time and randomness come in, so that the simulator runs this very code.
 */
export class DownloadSession {
  readonly layout: ChunkLayout
  readonly #held: ReadonlyBitfield
  readonly #trusted: Bitfield
  /** Chunks that are believed for the verified list alone. */
  readonly #trustedByList = new Set<number>()
  readonly #random: Random
  readonly #limits: SessionLimits
  readonly #pending: PendingChunks
  readonly #readers: ReaderSet
  readonly #disputed = new Set<number>()
  readonly #pool: NeighbourPool
  readonly #origin: OriginPlan
  #effects: SessionEffect[] = []
  #schedulerUp: boolean
  #schedulerAnswered = false
  /** Neighbours that the scheduler named, and when. */
  #named = 0
  #namedAt = 0
  readonly #wanted: Wanted
  #startedAt: number
  #lastByteAt: number
  #tickedAt: number
  #rescueAt: number
  #rescuing = false
  /** When a neighbour last told of a chunk. */
  #heardAt = Number.NEGATIVE_INFINITY
  #active = true

  /**
   * @param held the chunks in the store, live. @param trusted the chunks whose bytes are believed by themselves
   * (own origin reads, or matching the verified list); the session adds to it. @param allowance for the background; without
   * one there is no limit.
   */
  constructor(options: {
    readonly layout: ChunkLayout
    readonly held: ReadonlyBitfield
    readonly trusted: Bitfield
    readonly random: Random
    readonly now: number
    readonly schedulerUp: boolean
    readonly allowance?: Allowance
    readonly limits?: Partial<SessionLimits>
  }) {
    const { layout, held, trusted, random, now } = options
    this.layout = layout
    this.#held = held
    this.#trusted = trusted
    this.#random = random
    this.#limits = { ...DEFAULT_SESSION_LIMITS, ...options.limits }
    this.#pending = new PendingChunks(layout)
    this.#readers = new ReaderSet(held, trusted, this.#limits.readerWindow)
    this.#wanted = new Wanted(layout, held, this.#readers, options.allowance)
    const context: PoolContext = {
      layout,
      held,
      random,
      pending: this.#pending,
      readers: this.#readers,
      disputed: this.#disputed,
      limits: this.#limits,
      wanted: this.#wanted,
      emit: effect => void this.#effects.push(effect),
    }
    this.#pool = new NeighbourPool(context)
    this.#origin = new OriginPlan(context)
    this.#schedulerUp = options.schedulerUp
    this.#startedAt = now
    this.#lastByteAt = now
    this.#tickedAt = now
    this.#rescueAt = this.#nextRescue(now)
  }

  /** Every chunk is held. */
  get complete(): boolean {
    return this.#held.count === this.layout.count
  }

  /** The verified chunk list, once known. */
  get verifiedHashes(): readonly Uint8Array[] | undefined {
    return this.#pool.verified
  }

  /** What is to be done since the last call. */
  takeEffects(): SessionEffect[] {
    const effects = this.#effects
    if (effects.length > 0) this.#effects = []
    return effects
  }

  // ---- readers

  /**
   * A reader wants chunks [from, to); `strict` ones take only chunks that are believed by themselves. `aheadTo`: up to where
   * it is likely to read on.
   */
  readerAdded(id: number, from: number, to: number, strict: boolean, now: number, aheadTo = to): void {
    this.#readers.add(id, from, to, strict, aheadTo)
    this.#origin.forgive()
    this.#pump(now)
  }

  readerMoved(id: number, position: number, now: number): void {
    if (!this.#readers.move(id, position)) return
    this.#pump(now)
  }

  /** `aborted`: it left before it had everything. What nobody wants any more is called off. */
  readerGone(id: number, aborted: boolean): void {
    this.#readers.remove(id, aborted)
    this.#callOff()
  }

  /** Says how much is wanted besides what readers want. */
  setAppetite(appetite: Appetite, now: number): void {
    if (appetite === this.#wanted.appetite) return
    this.#wanted.appetite = appetite
    this.#origin.demandAnew()
    this.#callOff()
    this.#pump(now)
  }

  /** In the background these chunks come after those that were named before, and before all others. */
  wantFirst(run: Run, now: number): void {
    this.#wanted.order.add(run)
    if (this.#wanted.level !== 'background') return
    this.#origin.demandAnew()
    this.#pump(now)
  }

  /**
   * The origin answers ranges with the whole blob: all of it is read, and readers of ranges wait for their part of that.
   */
  rangesIgnored(now: number): void {
    this.#wanted.isWholeOnly = true
    this.#origin.rangesIgnored()
    this.#pump(now)
  }

  /**
   * Whether a reader of a range that waits for a chunk, and has done so for `waitedMs`, is to read its part of it from the
   * origin itself: nobody nearby can give it soon who is believed.
   */
  onlyOriginServes(chunk: number, waitedMs: number, now: number): boolean {
    if (this.#wanted.isWholeOnly) return false
    if (waitedMs >= this.#limits.hedgeAfterMs) return true
    // For those who read everything it is on its way from there.
    if (this.#wanted.level === 'everything' && this.#origin.isNext(chunk)) return false
    if (this.#schedulerUp && !this.#schedulerAnswered) {
      return now - this.#startedAt >= this.#limits.schedulerPatienceMs
    }
    if (this.#pool.verified === undefined || this.#disputed.has(chunk)) return true
    if (this.#pool.offers(chunk)) return false
    const isEarly = now - this.#namedAt < this.#limits.introductionMs
    return !isEarly || this.#pool.introduced >= this.#named
  }

  // ---- the scheduler

  schedulerChanged(up: boolean, now: number): void {
    this.#schedulerUp = up
    this.#schedulerAnswered = false
    this.#origin.demandAnew()
    this.#startedAt = now
    if (!up) this.#origin.leasesGone()
    this.#pump(now)
  }

  /** The scheduler said who the neighbours are, `named` of them: it is there. */
  schedulerAnswered(now: number, named = 0): void {
    this.#schedulerAnswered = true
    this.#named = named
    this.#namedAt = now
    this.#pump(now)
  }

  leased(lease: number, from: number, to: number, now: number): void {
    this.#schedulerAnswered = true
    const mayRead = (chunk: number): boolean => this.#active && this.#wanted.take(chunk, now)
    this.#origin.leased(lease, from, to, mayRead)
    this.#pump(now)
  }

  leaseVoid(lease: number, now: number): void {
    this.#origin.leaseVoid(lease)
    this.#pump(now)
  }

  /**
   * The scheduler's verified list. Returns the held chunks that do not match it and were not read from the origin here:
   * the driver drops them and calls {@link chunkLost}.
   */
  verifiedList(
    hashes: readonly Uint8Array[] | undefined,
    hashOf: (chunk: number) => Uint8Array | undefined,
  ): number[] {
    this.#pool.verified = hashes
    this.#wanted.isListed = hashes !== undefined
    const wrong: number[] = []
    for (const chunk of this.#trustedByList) this.#trusted.clear(chunk)
    this.#trustedByList.clear()
    if (hashes === undefined) return wrong
    this.#disputed.clear()
    for (const chunk of this.#held.indices()) {
      const hash = hashOf(chunk)
      if (hash !== undefined && sameBytes(hash, hashes[chunk]!)) this.#trustByList(chunk)
      else if (!this.#trusted.has(chunk)) wrong.push(chunk)
    }
    return wrong
  }

  // ---- neighbours

  /** `far`: it is known to be in another zone. */
  neighbourUp(id: string, far = false): void {
    this.#pool.up(id, far)
  }

  /** `deed` names what it did, when its end was not in order. */
  neighbourDown(id: string, deed: LinkDeed | undefined, now: number): void {
    this.#pool.down(id, deed)
    this.#pump(now)
  }

  /** A neighbour may be asked for a chunk now, and suggests one. */
  slotOffered(id: string, chunk: number, now: number): void {
    if (this.#active) this.#pool.slot(id, chunk, now)
    else this.#effects.push({ type: 'pass', neighbour: id })
  }

  /** The first bytes of a chunk came that a neighbour was asked for. */
  chunkBegan(id: string, chunk: number): void {
    this.#pool.began(id, chunk)
  }

  /** A neighbour said that it holds a chunk with this sha256. Call {@link neighboursChanged} after a batch. */
  neighbourHas(id: string, chunk: number, hash: Uint8Array): void {
    this.#pool.has(id, chunk, hash)
  }

  /** A neighbour has asked someone else for a chunk. */
  neighbourExpects(id: string, chunk: number): void {
    this.#pool.expects(id, chunk)
  }

  /** A neighbour has a chunk no more, or expects it from nobody. */
  neighbourLost(id: string, chunk: number): void {
    this.#pool.lost(id, chunk)
  }

  /** A neighbour has said all that it holds. */
  neighbourIntroduced(id: string): void {
    this.#pool.introducedBy(id)
  }

  neighboursChanged(now: number): void {
    this.#heardAt = now
    if (this.#readers.anyStrict || this.#disputed.size > 0) this.#pump(now)
  }

  /**
   * Judges a chunk that came from a neighbour: 'keep' it, it is 'late' (already held), or it is 'wrong' (the sender
   * is blamed and not asked again). A kept chunk must be stored, then {@link chunkStored} called.
   */
  chunkFromNeighbour(id: string, chunk: number, hash: Uint8Array, now: number): 'keep' | 'late' | 'wrong' {
    if (!this.#pool.arrived(id, chunk, hash, now)) {
      this.#pump(now)
      return 'wrong'
    }
    this.#lastByteAt = now
    if (this.#held.has(chunk) || this.#disputed.has(chunk)) return 'late'
    this.#pending.begin(chunk)
    return 'keep'
  }

  /** A request to a neighbour came to nothing. 'missing': it does not have it; 'busy': not now; 'failed': otherwise. */
  requestFailed(id: string, chunk: number, reason: 'missing' | 'busy' | 'failed', now: number): void {
    this.#pool.failed(id, chunk, reason, now)
    this.#pump(now)
  }

  /** The blob's digest proved what a neighbour sent wrong: it is not asked again. */
  distrust(id: string, now: number): void {
    this.#pool.distrust(id)
    this.#pump(now)
  }

  // ---- the origin

  /** Bytes are flowing from somewhere; keeps the watchdogs quiet. */
  bytesFlowed(now: number): void {
    this.#lastByteAt = now
  }

  /** Judges a chunk that was read from the origin for this peer: 'late' ones need not be stored. */
  chunkFromOrigin(chunk: number, hash: Uint8Array, now: number): 'keep' | 'late' {
    this.#lastByteAt = now
    this.#origin.succeeded()
    this.#disputed.delete(chunk)
    this.#pool.provedByOrigin(chunk, hash)
    return this.#held.has(chunk) ? 'late' : 'keep'
  }

  /** An origin read ended: all its chunks came (`undefined`), or it failed. */
  fetchEnded(fetch: number, failure: OriginFailure | undefined, now: number): void {
    if (!this.#origin.ended(fetch, failure, now)) return
    const isHopeless = failure !== undefined && this.#origin.hopeless && !this.#pool.offersMissing
    if (isHopeless && this.#wanted.level === 'everything') this.#giveUp()
    this.#pump(now)
  }

  /** Chunks that only the origin may give from now on. */
  onlyFromOrigin(chunks: Iterable<number>, now: number): void {
    for (const chunk of chunks) this.#disputed.add(chunk)
    this.#pump(now)
  }

  // ---- chunks

  /** A chunk that was judged 'keep' is in the store; `by` says who sent it. */
  chunkStored(chunk: number, by: ChunkOrigin, now: number): void {
    if (by.kind === 'neighbour') {
      this.#pending.end(chunk)
      if (this.#pool.verified !== undefined) this.#trustByList(chunk)
      this.#rescuing = false
    } else {
      this.#trusted.set(chunk)
      this.#trustedByList.delete(chunk)
    }
    this.#lastByteAt = now
    this.#rescueAt = this.#nextRescue(now)
    this.#pool.cancel(chunk)
    if (by.kind === 'neighbour') this.#pool.pokeOn(by.id, chunk, now)
    this.#pump(now)
  }

  /** A chunk could not be stored after all, was dropped as wrong, or rotted on disk. */
  chunkLost(chunk: number, by: ChunkOrigin | undefined, now: number): void {
    if (by?.kind === 'neighbour') {
      this.#pending.end(chunk)
      this.#pool.unexpect(chunk)
    }
    this.#trusted.clear(chunk)
    this.#pump(now)
  }

  /** Stops everything that runs: nobody wants the blob any more, or its download is over. */
  stop(): void {
    this.#active = false
    this.#pool.stop()
    this.#origin.stop()
  }

  /**
   * Moves time on: call about every 100 ms. `limited`: this peer's own limits hold bytes back, so that the lateness of what is
   * on its way says nothing about those who send it.
   */
  tick(now: number, limited = false): void {
    const passed = now - this.#tickedAt
    this.#tickedAt = now
    if (!this.#active) return
    if (this.#wanted.level !== 'everything' || this.#satisfied()) {
      // Readers of ranges go to the origin themselves, and what comes in the background comes when it comes.
      this.#lastByteAt = now
      this.#rescueAt = this.#nextRescue(now)
      this.#rescuing = false
      if (this.#wanted.level !== 'nothing') {
        this.#pool.wantAgain(now)
        this.#pool.poke(now)
      }
      if (!limited) this.#pool.hedge(now)
      this.#pump(now)
      return
    }
    // Where nothing is on its way it is not the limits that hold it back.
    const heldBack = limited && (this.#pool.busy || this.#origin.busy)
    if (heldBack) {
      this.#lastByteAt += passed
      this.#rescueAt += passed
    }
    if (now - this.#lastByteAt > this.#limits.giveUpAfterMs) {
      this.#giveUp()
      return
    }
    if (now >= this.#rescueAt + this.#extraPatience(now)) this.#rescuing = true
    this.#pool.wantAgain(now)
    if (!heldBack) this.#pool.hedge(now)
    if (now - this.#lastByteAt > this.#limits.pokeAfterMs) this.#pool.poke(now)
    this.#pump(now)
  }

  // ---- inside

  #trustByList(chunk: number): void {
    if (this.#trusted.set(chunk)) this.#trustedByList.add(chunk)
  }

  /** Calls off what nobody wants. */
  #callOff(): void {
    if (this.#wanted.level !== 'nothing') return
    this.#origin.stop()
    this.#pool.callOff(chunk => this.#readers.wants(chunk))
  }

  #satisfied(): boolean {
    return this.complete && (!this.#wanted.isWholeOnly || this.#readers.strictSatisfied)
  }

  /** How much longer than usual this peer waits before it reads the origin on its own account, ms. */
  #extraPatience(now: number): number {
    const { rescueAfterMs, coldRescueAfterMs, aliveMs } = this.#limits
    const isAlive = now - this.#heardAt < aliveMs
    const isCold = this.#pool.size > 0 && !this.#pool.offersMissing
    return isAlive || isCold ? coldRescueAfterMs - rescueAfterMs : 0
  }

  #nextRescue(now: number): number {
    return now + this.#limits.rescueAfterMs * (1 + this.#random() / 2)
  }

  #giveUp(): void {
    this.stop()
    this.#effects.push({ type: 'give-up' })
  }

  #pump(now: number): void {
    if (!this.#active) return
    this.#pool.urge(now)
    const wanted = this.#wanted.level
    if (wanted === 'background') return this.#pumpBackground(now)
    if (this.#schedulerUp) {
      const isNeeded = wanted === 'everything' && !this.complete
      this.#origin.demand(isNeeded ? Number.POSITIVE_INFINITY : 0, now)
    }
    if (wanted !== 'everything' || this.#satisfied()) return
    if (this.#origin.mayRead(this.#rescuing, now)) this.#readOrigin(now)
  }

  /** One origin read at a time, and none while the allowance is used up. */
  #pumpBackground(now: number): void {
    const next = this.#wanted.nextInBackground(now)
    if (this.#schedulerUp) this.#origin.demand(next === undefined ? 0 : 1, now, next)
    if (next === undefined || !this.#origin.mayRead(false, now)) return
    const isOwn = this.#ownRule(now)
    if (!isOwn && this.#disputed.size === 0 && !this.#pool.anyOrphans) return
    const isDue = (chunk: number): boolean =>
      isOwn ? this.#isMissing(chunk) && !this.#comesFromNeighbours(chunk) : this.#onlyOriginWillDo(chunk)
    if (this.#origin.busy) return
    const chunk = this.#wanted.order.next(
      missing => this.#pending.isFree(missing) && isDue(missing) && this.#wanted.take(missing, now),
    )
    if (chunk !== undefined) this.#origin.readOne(chunk)
  }

  #readOrigin(now: number): void {
    if (this.#ownRule(now)) {
      this.#origin.readFree(chunk => this.#isMissing(chunk) && !this.#comesFromNeighbours(chunk))
    } else if (this.#disputed.size > 0 || this.#pool.anyOrphans || this.#needsOrigin) {
      // The scheduler sees no need, since these are held somewhere; but only the origin's own bytes will do.
      this.#origin.readFree(chunk => this.#onlyOriginWillDo(chunk))
    }
  }

  get #needsOrigin(): boolean {
    return this.#wanted.isWholeOnly && this.#readers.anyStrict
  }

  /** No scheduler, a silent one, or no progress under it: this peer reads the origin on its own account. */
  #ownRule(now: number): boolean {
    if (!this.#schedulerUp) return true
    if (!this.#schedulerAnswered) return now - this.#startedAt >= this.#limits.schedulerPatienceMs
    return this.#rescuing
  }

  #isMissing(chunk: number): boolean {
    return !this.#held.has(chunk) || (this.#wanted.isWholeOnly && this.#readers.needsOrigin(chunk))
  }

  #onlyOriginWillDo(chunk: number): boolean {
    if (this.#wanted.isWholeOnly && this.#readers.needsOrigin(chunk)) return true
    return !this.#held.has(chunk) && (this.#disputed.has(chunk) || this.#pool.isOrphan(chunk))
  }

  #comesFromNeighbours(chunk: number): boolean {
    return !this.#rescuing && this.#pool.offers(chunk) && !this.#onlyOriginWillDo(chunk)
  }
}
