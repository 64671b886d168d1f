import type { Link } from '@darter/exchange'
import { type Digest, digestAlgorithm, digestHex } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import { type BlobProof, ChunkMissingError, type StoredBlob } from '@darter/store'
import { Bitfield, DEFAULT_SESSION_LIMITS, DownloadSession } from '@darter/swarm'
import type { PeerAddress } from '@darter/wire'
import type { BlobSource, ChosenSpan, ContentKind } from './contract.ts'
import { DigestCheck } from './digest-check.ts'
import type { DownloadContext } from './download-context.ts'
import type { DownloadKeeper, DownloadReader } from './download-contract.ts'
import { PeerStoppingError } from './errors.ts'
import { Intake } from './intake.ts'
import { deedOf, Membership } from './membership.ts'
import { NeighbourRequests } from './neighbour-requests.ts'
import type { LinkedDownload } from './neighbourhood.ts'
import { OriginFetches } from './origin-fetches.ts'
import { Performer } from './performer.ts'
import { Ranges } from './ranges.ts'
import { type ReaderAnswer, ReaderDesk, type Reading } from './reader-desk.ts'

const TICK_MS = 100
const HASH_BYTES = 32
/** Who reads so many bytes, and to the end of a blob or most of it, has all of it fetched. */
const MUCH_BYTES = 4 * 1024 * 1024
const MOST = 0.5
/** How long such a reader waits for a chunk to come and to be believed, before it reads that one from the origin itself, ms. */
const MUCH_PATIENCE_MS = 4_000

type State =
  | { readonly kind: 'running' | 'complete' | 'full' }
  | { readonly kind: 'failed'; readonly error: Error }

/**
 * One blob on its way to this machine, shared by all callers: puts its parts together ({@link DownloadSession} decides,
 * {@link Performer} does, {@link Intake} keeps, {@link DigestCheck} has the last word), hears what happens outside, and knows
 * when it ends.
 */
export class Download implements LinkedDownload {
  readonly digest: Digest
  readonly stored: StoredBlob
  readonly kind: ContentKind
  /** Settles (never rejects) when the download has ended and what it kept is durable. */
  readonly ended: Promise<void>
  readonly #context: DownloadContext
  readonly #log: Logger
  readonly #session: DownloadSession
  readonly #trusted: Bitfield
  readonly #origin: OriginFetches
  readonly #membership: Membership
  readonly #ranges: Ranges
  readonly #readers = new ReaderDesk(
    (...asked) => this.#answer(...asked),
    () => this.#now(),
  )
  readonly #requests: NeighbourRequests
  readonly #check: DigestCheck
  readonly #intake: Intake
  readonly #performer: Performer
  readonly #work = new Set<Promise<void>>()
  readonly #onEnd: () => void
  readonly #resolveEnded: () => void
  #state: State = { kind: 'running' }
  #timer: NodeJS.Timeout | undefined
  #released = false
  #settled = false

  constructor(options: {
    readonly stored: StoredBlob
    readonly kind: ContentKind
    /** The first caller's way to the blob, before it is added as a reader. */
    readonly source: BlobSource
    readonly context: DownloadContext
    /** The blob was complete before: the chunks that are held match the list that it was complete by. */
    readonly trustHeld: boolean
    /** A chunk list that was vouched for has led to a wrong digest: none is believed any more. */
    readonly listRefuted: boolean
    /** How long the download goes on after its last caller left, ms. */
    readonly lingerMs: number
    /** Called once, when it takes no more readers. */
    readonly onEnd: () => void
  }) {
    const { stored, context } = options
    const content = options.source.content ?? stored.digest
    this.digest = stored.digest
    this.stored = stored
    this.kind = options.kind
    this.#context = context
    this.#log = context.log.child({ blob: stored.digest })
    this.#trusted = new Bitfield(stored.layout.count)
    if (options.trustHeld) for (const chunk of stored.held.indices()) this.#trusted.set(chunk)
    this.#onEnd = options.onEnd
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ended = promise
    this.#resolveEnded = resolve
    this.#session = new DownloadSession({
      layout: stored.layout,
      held: stored.held,
      trusted: this.#trusted,
      random: context.random,
      now: context.clock.now(),
      schedulerUp: context.scheduler?.connected ?? false,
      allowance: context.ranges.prefetcher,
      isComing: chunk => this.#ranges.isComing(chunk),
      limits: {
        maxOriginFetches: context.rates.maxOriginFetches,
        maxInFlightBytes: Math.min(DEFAULT_SESSION_LIMITS.maxInFlightBytes, context.rates.maxInFlightBytes),
      },
    })
    this.#origin = new OriginFetches({
      stored,
      kind: this.kind,
      buffers: context.buffers,
      clock: context.clock,
    })
    this.#ranges = new Ranges({
      stored,
      content,
      kind: this.kind,
      trusted: this.#trusted,
      rooms: context.ranges,
      lingerMs: options.lingerMs,
      goesOn: chunk => this.#answer(chunk, 'part', this.#now()).kind === 'origin',
      onBytes: count => context.metrics.receivedFromOrigin(count),
      onChunk: chunk => this.#intake.fromOrigin(chunk),
      onRangesIgnored: () => {
        this.#session.rangesIgnored(this.#now())
        this.#perform()
      },
      onFirst: run => {
        this.#session.wantFirst(run, this.#now())
        this.#perform()
      },
      track: work => this.#track(work),
      log: this.#log,
    })
    this.#requests = new NeighbourRequests({ ...context, stored })
    this.#membership = new Membership({
      scheduler: context.scheduler,
      neighbourhood: context.neighbourhood,
      stored,
      source: () => this.#origin.sources.current() ?? options.source,
      kind: this.kind,
      log: this.#log,
      zone: context.zone,
      onLinked: (id, far) => this.#session.neighbourUp(id, far),
    })
    this.#check = new DigestCheck({
      stored,
      content,
      log: this.#log,
      list: () => this.#session.verifiedHashes,
      on: {
        right: proof => this.#succeed(proof),
        wrong: () => this.#intake.audit(),
        unreadable: () => this.#storeFull(),
        work: work => this.#track(work),
      },
    })
    const shared = { stored, context, log: this.#log, session: this.#session, membership: this.#membership }
    this.#intake = new Intake({
      ...shared,
      content,
      ranges: this.#ranges,
      readers: this.#readers,
      check: this.#check,
      listRefuted: options.listRefuted,
      on: {
        changed: () => this.#perform(),
        full: () => this.#storeFull(),
        failed: error => this.#fail(error),
        work: work => this.#track(work),
      },
    })
    this.#performer = new Performer({
      ...shared,
      requests: this.#requests,
      origin: this.#origin,
      intake: this.#intake,
      on: { failed: error => this.#fail(error), work: work => this.#track(work) },
    })
    if (stored.layout.count === 1 && digestAlgorithm(content) === 'sha256') {
      // The only chunk's sha256 is the blob's digest: nobody needs to vouch for it.
      this.#session.verifiedList([Buffer.from(digestHex(content), 'hex')], index => stored.chunkHash(index))
    }
  }

  /** Begins to work; call once. */
  start(): void {
    this.#membership.join(this.#state.kind === 'running')
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
    this.#check.look()
    this.#perform()
  }

  /** True until it takes no more readers. */
  get open(): boolean {
    return !this.isOver && (this.#state.kind === 'running' || this.#state.kind === 'complete')
  }

  /** The blob is complete and its last reader has gone: whoever found this download before that finds the blob in the store. */
  get isOver(): boolean {
    return this.#released && this.#state.kind === 'complete'
  }

  /**
   * Adds a caller that wants a part of the blob. One that does not read all of it gets only chunks that are believed by
   * themselves, until the blob's digest is settled.
   */
  addReader(span: ChosenSpan, source: BlobSource): DownloadReader {
    const { layout } = this.stored
    const [from, to] = [layout.at(span.from), layout.at(span.to - 1) + 1]
    const reading = this.#readingOf(span)
    const removeSource = this.#origin.sources.add(source)
    const id = this.#readers.add(from, reading)
    const before = new Set<number>()
    for (let chunk = from; chunk < to; chunk++) if (this.stored.held.has(chunk)) before.add(chunk)
    const likelyTo = this.#ranges.added(id, span, reading, source, this.#now())
    this.#session.setAppetite(this.#ranges.appetite(this.#now()), this.#now())
    const isPart = reading === 'part'
    this.#session.readerAdded(id, from, to, isPart, this.#now(), layout.at(likelyTo - 1) + 1)
    this.#perform()
    const { prefetcher } = this.#context.ranges
    return {
      wait: (chunk, signal) => {
        this.#session.readerMoved(id, chunk, this.#now())
        this.#perform()
        const ready = this.#readers.wait(id, chunk, signal)
        return isPart ? prefetcher.during(ready) : ready
      },
      fromOrigin: (part, signal) => this.#ranges.read(id, part, signal),
      failure: () => this.#readers.failure(id),
      settled: () => this.#settled,
      provenance: chunk => {
        if (before.has(chunk)) return 'disk'
        return this.#intake.isFromOrigin(chunk) ? 'origin' : 'peer'
      },
      end: isDone => {
        if (!this.#readers.remove(id)) return
        removeSource()
        this.#ranges.gone(id, isDone, this.#now())
        this.#session.setAppetite(this.#ranges.appetite(this.#now()), this.#now())
        this.#session.readerGone(id, !isDone)
        this.#perform()
        this.#readerGone()
      },
    }
  }

  /** Adds a caller that wants all of the blob, after what readers wait for and as far as the allowance for the background goes. */
  addKeeper(source: BlobSource): DownloadKeeper {
    const removeSource = this.#origin.sources.add(source)
    const id = this.#readers.add(0, 'whole')
    this.#ranges.keeperAdded(this.#now())
    this.#session.setAppetite(this.#ranges.appetite(this.#now()), this.#now())
    this.#perform()
    return {
      whole: signal => this.#readers.wait(id, this.stored.layout.count - 1, signal),
      end: () => {
        if (!this.#readers.remove(id)) return
        removeSource()
        this.#ranges.keeperGone(this.#now())
        this.#session.setAppetite(this.#ranges.appetite(this.#now()), this.#now())
        this.#perform()
        this.#readerGone()
      },
    }
  }

  /** Ends everything now: the peer stops. */
  stop(): void {
    this.#fail(new PeerStoppingError())
    this.#release()
  }

  // ---- what the scheduler and the neighbours say

  schedulerChanged(up: boolean): void {
    if (this.#state.kind !== 'running') return
    if (up) this.#membership.join(this.#state.kind === 'running')
    this.#session.schedulerChanged(up, this.#now())
    this.#perform()
  }

  neighbours(peers: readonly PeerAddress[]): void {
    if (this.#state.kind !== 'running') return
    const now = this.#now()
    for (const id of this.#membership.neighbours(peers)) this.#session.neighbourDown(id, undefined, now)
    this.#session.schedulerAnswered(now, peers.length)
    this.#readers.wake()
    this.#track(this.#membership.link(now, true))
    this.#perform()
  }

  leased(lease: number, from: number, to: number): void {
    this.#session.leased(lease, from, to, this.#now())
    this.#perform()
  }

  leaseVoid(lease: number): void {
    this.#session.leaseVoid(lease, this.#now())
    this.#perform()
  }

  verified(hashes: Uint8Array): void {
    if (this.#state.kind !== 'running' || this.stored.layout.count === 1) return
    this.#intake.listTold(hashes)
    this.#check.listChanged()
    this.#readers.wake()
    this.#perform()
  }

  /** A neighbour said what it holds. */
  linkHolds(link: Link, held: Bitfield, hashes: Uint8Array): void {
    if (this.#state.kind !== 'running') return
    this.#membership.linkedBy(link)
    let at = 0
    for (const chunk of held.indices()) {
      this.#session.neighbourHas(link.peerId, chunk, hashes.subarray(at, at + HASH_BYTES))
      at += HASH_BYTES
    }
    this.#session.neighbourIntroduced(link.peerId)
    this.#session.neighboursChanged(this.#now())
    this.#readers.wake()
    this.#perform()
  }

  linkHave(link: Link, chunk: number, hash: Uint8Array): void {
    if (this.#state.kind !== 'running') return
    this.#session.neighbourHas(link.peerId, chunk, hash)
    this.#session.neighboursChanged(this.#now())
    this.#perform()
  }

  linkLost(link: Link, chunk: number): void {
    this.#session.neighbourLost(link.peerId, chunk)
  }

  linkExpects(link: Link, chunk: number): void {
    this.#session.neighbourExpects(link.peerId, chunk)
  }

  linkSlot(link: Link, chunk: number): void {
    this.#session.slotOffered(link.peerId, chunk, this.#now())
    this.#perform()
  }

  linkClosed(peerId: string, reason: Error | undefined): void {
    const deed = reason && deedOf(reason)
    if (!this.#membership.linkClosed(peerId, deed === 'stalled')) return
    this.#session.neighbourDown(peerId, deed, this.#now())
    this.#perform()
  }

  /** The store dropped a chunk: it rotted, or was proved wrong. */
  chunkDropped(chunk: number): void {
    this.#intake.dropped(chunk)
    this.#trusted.clear(chunk)
    if (this.#state.kind === 'complete') this.#fail(new ChunkMissingError(this.digest, chunk))
    if (this.#state.kind !== 'running') return
    this.#membership.lost(chunk)
    this.#check.lost(chunk)
    this.#session.chunkLost(chunk, undefined, this.#now())
    this.#perform()
  }

  // ---- readers

  #readingOf({ from, to, isOpen, of = to - from }: ChosenSpan): Reading {
    const { size } = this.stored.layout
    if (to - from === size) return 'whole'
    if (of >= MUCH_BYTES && (isOpen === true || of >= MOST * size)) return 'much'
    return isOpen === true && this.#ranges.appetite(this.#now()) === 'everything' ? 'much' : 'part'
  }

  #answer(chunk: number, reading: Reading, since: number): ReaderAnswer {
    const state = this.#state
    if (this.stored.held.has(chunk)) {
      // The last chunk is what a caller that reads everything gets only when the digest is right.
      // Once this download has ended, nobody tells it what others make of the blob.
      const trusted = state.kind === 'running' && this.#trusted.has(chunk)
      const believed = reading === 'whole' ? chunk < this.stored.layout.count - 1 : trusted
      if (state.kind === 'complete' || believed) return { kind: 'ready' }
    }
    if (state.kind === 'failed') return state
    if (state.kind === 'full') return { kind: 'pass-through' }
    // A blob of one chunk is read whole: that chunk's hash is its digest.
    if (reading === 'whole' || this.stored.layout.count === 1) return { kind: 'wait' }
    const now = this.#now()
    // Everything is on its way, for the whole swarm at once.
    if (reading === 'much' && now - since < MUCH_PATIENCE_MS) return { kind: 'wait' }
    return { kind: this.#session.onlyOriginServes(chunk, now - since, now) ? 'origin' : 'wait' }
  }

  #readerGone(): void {
    if (this.#readers.size === 0 && this.#state.kind !== 'running') this.#release()
  }

  // ---- ends

  #succeed(proof: BlobProof): void {
    this.#state = { kind: 'complete' }
    this.#settled = true
    this.#check.end()
    this.#session.stop()
    this.#perform()
    for (const chunk of this.stored.held.indices()) this.#trusted.set(chunk)
    this.#membership.join(this.#state.kind === 'running')
    if (this.#session.verifiedHashes === undefined) this.#membership.vouch()
    this.#readers.wake()
    this.#ranges.whole()
    this.#track(
      this.stored.markComplete(proof).then(this.#resolveEnded, error => {
        this.#log.error({ err: error }, 'a complete blob could not be made durable')
        this.#resolveEnded()
      }),
    )
    this.#readerGone()
  }

  #storeFull(): void {
    if (this.#state.kind !== 'running') return
    this.#log.warn('the store is full: callers are served straight from the origin')
    this.#context.metrics.storeFull()
    this.#finish({ kind: 'full' })
  }

  #fail(error: Error): void {
    if (this.#state.kind === 'failed' || this.#state.kind === 'full') return
    this.#ranges.stop(error)
    this.#finish({ kind: 'failed', error })
  }

  #finish(state: State): void {
    this.#state = state
    this.#check.end()
    this.#session.stop()
    this.#perform()
    this.#membership.join(this.#state.kind === 'running')
    this.#membership.close()
    this.#readers.wake()
    this.#onEnd()
    this.#readerGone()
    // Whoever comes next need not wait until the last reader has noticed.
    this.#workDone().then(this.#resolveEnded, this.#resolveEnded)
  }

  #release(): void {
    if (this.#released) return
    this.#released = true
    clearInterval(this.#timer)
    this.#membership.close()
    this.#onEnd()
    this.#workDone()
      .finally(() => this.stored.release())
      .then(this.#resolveEnded, this.#resolveEnded)
  }

  async #workDone(): Promise<void> {
    while (this.#work.size > 0) await Promise.allSettled([...this.#work])
  }

  // ---- the world outside

  #tick(): void {
    const now = this.#now()
    this.#membership.report(now)
    if (this.#state.kind !== 'running') return
    if (this.#ranges.isAbandoned(now)) {
      this.#fail(new PeerStoppingError())
      return
    }
    this.#session.setAppetite(this.#ranges.appetite(now), now)
    this.#track(this.#membership.link(now, false))
    if (this.#requests.haveMoved()) this.#session.bytesFlowed(now)
    const { fromPeers, fromOrigins } = this.#context.rates
    this.#session.tick(now, fromPeers?.holdsBack === true || fromOrigins?.holdsBack === true)
    this.#readers.wake()
    this.#perform()
  }

  #perform(): void {
    this.#performer.perform()
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch(error => this.#log.error({ err: error }, 'a step of a download failed unexpectedly'))
      .finally(() => this.#work.delete(tracked))
    this.#work.add(tracked)
  }

  #now(): number {
    return this.#context.clock.now()
  }
}
