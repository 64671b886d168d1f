import { Belief } from './belief.ts'
import type { Bitfield, ReadonlyBitfield } from './bitfield.ts'
import type { Run } from './extents.ts'
import type { ChunkLayout } from './layout.ts'
import { NeighbourPool } from './neighbour-pool.ts'
import { OriginNeed } from './origin-need.ts'
import { type OriginFailure, OriginPlan } from './origin-plan.ts'
import { Patience } from './patience.ts'
import { PendingChunks } from './pending.ts'
import type { Random } from './random.ts'
import { ReaderSet } from './readers.ts'
import type { SessionContext } from './session-context.ts'
import {
  type Allowance,
  type Appetite,
  type ChunkOrigin,
  DEFAULT_SESSION_LIMITS,
  type LinkDeed,
  type SessionEffect,
  type SessionLimits,
} from './session-contract.ts'
import { Wanted } from './wanted.ts'

/**
 * The decisions of one blob's download on one peer: which chunk to request from whom ({@link NeighbourPool}), when to read the
 * origin ({@link OriginNeed}), when to stop waiting ({@link Patience}). It performs nothing: each event updates the state, and {@link takeEffects} tells what to do.
 * Time and randomness come in, so that the simulator runs this very code.
 */
export class DownloadSession {
  readonly layout: ChunkLayout
  readonly #held: ReadonlyBitfield
  readonly #limits: SessionLimits
  readonly #pending: PendingChunks
  readonly #readers: ReaderSet
  readonly #wanted: Wanted
  readonly #belief: Belief
  readonly #patience: Patience
  readonly #pool: NeighbourPool
  readonly #origin: OriginPlan
  readonly #need: OriginNeed
  #effects: SessionEffect[] = []
  #active = true

  /**
   * @param held the chunks in the store, live. @param trusted the chunks whose bytes are believed by themselves
   * (own origin reads, or matching the verified list); the session adds to it. @param allowance for the background; without
   * one there is no limit. @param isComing whether a reader of a range is being sent a chunk by the origin, which the session does not see.
   */
  constructor(options: {
    readonly layout: ChunkLayout
    readonly held: ReadonlyBitfield
    readonly trusted: Bitfield
    readonly random: Random
    readonly now: number
    readonly schedulerUp: boolean
    readonly allowance?: Allowance
    readonly isComing?: (chunk: number) => boolean
    readonly limits?: Partial<SessionLimits>
  }) {
    const { layout, held, trusted, random, now } = options
    this.layout = layout
    this.#held = held
    this.#limits = { ...DEFAULT_SESSION_LIMITS, ...options.limits }
    this.#pending = new PendingChunks(layout)
    this.#readers = new ReaderSet(held, trusted, this.#limits.readerWindow)
    this.#wanted = new Wanted(layout, held, this.#readers, options)
    this.#belief = new Belief(held, trusted)
    this.#patience = new Patience(this.#limits, random, options.schedulerUp, now)
    const context: SessionContext = {
      layout,
      held,
      random,
      pending: this.#pending,
      readers: this.#readers,
      belief: this.#belief,
      limits: this.#limits,
      wanted: this.#wanted,
      emit: effect => void this.#effects.push(effect),
    }
    this.#pool = new NeighbourPool(context)
    this.#origin = new OriginPlan(context)
    this.#need = new OriginNeed(context, this.#patience, this.#pool, this.#origin)
  }

  /** Every chunk is held. */
  get complete(): boolean {
    return this.#wanted.complete
  }

  /** The verified chunk list, once known. */
  get verifiedHashes(): readonly Uint8Array[] | undefined {
    return this.#belief.list
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
    return this.#need.onlyOriginServes(chunk, waitedMs, now)
  }

  // ---- the scheduler

  schedulerChanged(up: boolean, now: number): void {
    this.#patience.schedulerChanged(up, now)
    this.#origin.demandAnew()
    if (!up) this.#origin.leasesGone()
    this.#pump(now)
  }

  /** The scheduler said who the neighbours are, `named` of them: it is there. */
  schedulerAnswered(now: number, named = 0): void {
    this.#patience.neighboursNamed(named, now)
    this.#pump(now)
  }

  leased(lease: number, from: number, to: number, now: number): void {
    this.#patience.schedulerSpoke()
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
    this.#wanted.isListed = hashes !== undefined
    return this.#belief.takeList(hashes, hashOf)
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
    this.#patience.neighboursSpoke(now)
    if (this.#readers.anyStrict || this.#belief.anyDisputed) this.#pump(now)
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
    this.#patience.byteCame(now)
    if (this.#held.has(chunk) || this.#belief.isDisputed(chunk)) return 'late'
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
    this.#patience.byteCame(now)
  }

  /** Judges a chunk that was read from the origin for this peer: 'late' ones need not be stored. */
  chunkFromOrigin(chunk: number, hash: Uint8Array, now: number): 'keep' | 'late' {
    this.#patience.byteCame(now)
    this.#origin.succeeded()
    this.#belief.settle(chunk)
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
    for (const chunk of chunks) this.#belief.dispute(chunk)
    this.#pump(now)
  }

  // ---- chunks

  /** A chunk that was judged 'keep' is in the store; `by` says who sent it. */
  chunkStored(chunk: number, by: ChunkOrigin, now: number): void {
    if (by.kind === 'neighbour') this.#pending.end(chunk)
    this.#belief.stored(chunk, by.kind)
    this.#patience.chunkCame(by.kind, now)
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
    this.#belief.lost(chunk)
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
    if (!this.#active) return
    if (this.#wanted.level !== 'everything' || this.#wanted.satisfied) {
      // Readers of ranges go to the origin themselves, and what comes in the background comes when it comes.
      this.#patience.rest(now)
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
    const isCold = (): boolean => this.#pool.size > 0 && !this.#pool.offersMissing
    if (!this.#patience.wait(now, heldBack, isCold)) {
      this.#giveUp()
      return
    }
    this.#pool.wantAgain(now)
    if (!heldBack) this.#pool.hedge(now)
    if (this.#patience.quietMs(now) > this.#limits.pokeAfterMs) this.#pool.poke(now)
    this.#pump(now)
  }

  // ---- inside

  /** Calls off what nobody wants. */
  #callOff(): void {
    if (this.#wanted.level !== 'nothing') return
    this.#origin.stop()
    this.#pool.callOff(chunk => this.#readers.wants(chunk))
  }

  #giveUp(): void {
    this.stop()
    this.#effects.push({ type: 'give-up' })
  }

  #pump(now: number): void {
    if (!this.#active) return
    this.#pool.urge(now)
    this.#need.pump(now)
  }
}
