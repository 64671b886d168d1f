import { ChunkRefusedError, type FetchedChunk, type Link } from '@darter/exchange'
import { DarterError, type Digest, digestAlgorithm, digestHex } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import { type BlobProof, ChunkCorruptError, ChunkMissingError, type StoredBlob } from '@darter/store'
import {
  Bitfield,
  type ChunkOrigin,
  DEFAULT_SESSION_LIMITS,
  DownloadSession,
  type SessionEffect,
} from '@darter/swarm'
import type { PeerAddress } from '@darter/wire'
import { writeChunk } from './chunk-writer.ts'
import type { BlobSource, ByteSpan } from './contract.ts'
import type { DownloadContext, DownloadReader } from './download-contract.ts'
import { NoSourceError, OriginCorruptError, OriginSizeError, PeerStoppingError } from './errors.ts'
import { deedOf, Membership } from './membership.ts'
import { NeighbourRequests } from './neighbour-requests.ts'
import type { LinkedDownload } from './neighbourhood.ts'
import { type FetchFailure, OriginFetches } from './origin-fetches.ts'
import { type ContentKind, type OriginChunk } from './origin-reader.ts'
import { PrefixHasher } from './prefix-hasher.ts'
import { listDecides, proofOf, splitList } from './proof.ts'
import { Provenance } from './provenance.ts'
import { Ranges } from './ranges.ts'
import { type ReaderAnswer, ReaderDesk } from './reader-desk.ts'

const TICK_MS = 100
const HASH_BYTES = 32

type State =
  | { readonly kind: 'running' | 'complete' | 'full' }
  | { readonly kind: 'failed'; readonly error: Error }

/**
 * One blob on its way to this machine, shared by all callers: performs what {@link DownloadSession} decides, keeps
 * verified chunks in the store, and settles the blob's own digest.
 */
export class Download implements LinkedDownload {
  readonly digest: Digest
  readonly stored: StoredBlob
  readonly kind: ContentKind
  /** Settles (never rejects) when the download has ended and what it kept is durable. */
  readonly ended: Promise<void>
  readonly #context: DownloadContext
  readonly #log: Logger
  readonly #content: Digest
  readonly #session: DownloadSession
  readonly #hasher: PrefixHasher
  readonly #trusted: Bitfield
  readonly #origin: OriginFetches
  readonly #membership: Membership
  readonly #ranges: Ranges
  readonly #readers = new ReaderDesk(
    (...asked) => this.#answer(...asked),
    () => this.#now(),
  )
  readonly #requests: NeighbourRequests
  readonly #provenance = new Provenance()
  readonly #work = new Set<Promise<void>>()
  readonly #onEnd: () => void
  readonly #resolveEnded: () => void
  #state: State = { kind: 'running' }
  #timer: NodeJS.Timeout | undefined
  #lastError: Error | undefined
  #released = false
  #settled = false
  #listRefuted: boolean

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
    this.#content = content
    this.#hasher = new PrefixHasher(stored, content)
    this.#trusted = new Bitfield(stored.layout.count)
    if (options.trustHeld) for (const chunk of stored.held.indices()) this.#trusted.set(chunk)
    this.#listRefuted = options.listRefuted
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
      goesOn: chunk => this.#answer(chunk, true, this.#now()).kind === 'origin',
      onBytes: count => context.metrics.receivedFromOrigin(count),
      onChunk: chunk => this.#keepFromOrigin(chunk),
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
    if (stored.layout.count === 1 && digestAlgorithm(this.#content) === 'sha256') {
      // The only chunk's sha256 is the blob's digest: nobody needs to vouch for it.
      this.#session.verifiedList([Buffer.from(digestHex(this.#content), 'hex')], index =>
        stored.chunkHash(index),
      )
    }
  }

  /** Begins to work; call once. */
  start(): void {
    this.#membership.join(this.#state.kind === 'running')
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
    this.#settle()
    this.#perform()
  }

  /** True until it takes no more readers. */
  get open(): boolean {
    return this.#state.kind === 'running' || this.#state.kind === 'complete'
  }

  /**
   * Adds a caller that wants a part of the blob. One that does not read all of it gets only chunks that are believed by
   * themselves, until the blob's digest is settled.
   */
  addReader(span: ByteSpan, source: BlobSource): DownloadReader {
    const { layout } = this.stored
    const [from, to] = [layout.at(span.from), layout.at(span.to - 1) + 1]
    const strict = span.to - span.from < layout.size
    const removeSource = this.#origin.sources.add(source)
    const id = this.#readers.add(from, strict)
    const before = new Set<number>()
    for (let chunk = from; chunk < to; chunk++) if (this.stored.held.has(chunk)) before.add(chunk)
    const likelyTo = this.#ranges.added(id, span, source, this.#now())
    this.#session.setAppetite(this.#ranges.appetite(this.#now()), this.#now())
    this.#session.readerAdded(id, from, to, strict, this.#now(), layout.at(likelyTo - 1) + 1)
    this.#perform()
    const { prefetcher } = this.#context.ranges
    return {
      wait: (chunk, signal) => {
        this.#session.readerMoved(id, chunk, this.#now())
        this.#perform()
        const ready = this.#readers.wait(id, chunk, signal)
        return strict ? prefetcher.during(ready) : ready
      },
      fromOrigin: (part, signal) => this.#ranges.read(id, part, signal),
      failure: () => this.#readers.failure(id),
      settled: () => this.#settled,
      provenance: chunk => {
        if (before.has(chunk)) return 'disk'
        return this.#provenance.isFromOrigin(chunk) ? 'origin' : 'peer'
      },
      end: isDone => {
        if (!this.#readers.remove(id)) return
        removeSource()
        this.#ranges.gone(id, this.#now())
        this.#session.setAppetite(this.#ranges.appetite(this.#now()), this.#now())
        this.#session.readerGone(id, !isDone)
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
    const list = hashes.length === 0 || this.#listRefuted ? undefined : splitList(hashes)
    const wrong = this.#session.verifiedList(list, index => this.stored.chunkHash(index))
    this.#readers.provedWrong(wrong, this.digest)
    for (const chunk of wrong) this.#track(this.stored.dropChunk(chunk))
    if (this.#listDecides) this.#hasher.stop()
    else this.#hashOn()
    this.#settle()
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
    this.#provenance.lost(chunk)
    this.#trusted.clear(chunk)
    if (this.#state.kind === 'complete') this.#fail(new ChunkMissingError(this.digest, chunk))
    if (this.#state.kind !== 'running') return
    this.#membership.lost(chunk)
    // The one that the hash stands at may have gone into it in part.
    if (chunk <= this.#hasher.chunks) this.#hasher.restart()
    this.#session.chunkLost(chunk, undefined, this.#now())
    this.#perform()
  }

  // ---- performing the session's decisions

  #perform(): void {
    for (const effect of this.#session.takeEffects()) this.#act(effect)
  }

  #act(effect: SessionEffect): void {
    switch (effect.type) {
      case 'request':
        this.#track(this.#request(effect.neighbour, effect.chunk))
        break
      case 'cancel':
        this.#requests.cancel(effect.neighbour, effect.chunk)
        break
      case 'pass':
      case 'want':
        this.#context.neighbourhood.answerSlot(effect.neighbour, effect.type, this.digest)
        break
      case 'unexpect':
        this.#context.neighbourhood.pushLost(this.digest, effect.chunk)
        break
      case 'fetch-origin':
        this.#track(this.#readOrigin(effect))
        break
      case 'stop-origin':
        this.#origin.stop(effect.fetch)
        break
      case 'lease-demand':
        this.#membership.tell({
          type: 'lease-demand',
          blob: this.digest,
          slots: effect.slots,
          from: effect.from,
        })
        break
      case 'lease-end': {
        this.#membership.report(this.#now())
        this.#membership.tell({ blob: this.digest, ...effect })
        break
      }
      case 'blame':
        this.#context.metrics.blamed(effect.deed, effect.neighbour)
        this.#log.warn(
          { peer: effect.neighbour, deed: effect.deed },
          'a neighbour failed; the chunk comes from elsewhere',
        )
        this.#membership.tell({ type: 'blame', peer: effect.neighbour, blob: this.digest, deed: effect.deed })
        break
      case 'give-up':
        this.#fail(this.#lastError ?? new NoSourceError(this.digest, undefined))
        break
    }
  }

  async #request(neighbour: string, chunk: number): Promise<void> {
    const outcome = await this.#requests.run(neighbour, chunk, {
      began: () => this.#session.chunkBegan(neighbour, chunk),
      came: fetched => this.#keepFromNeighbour(neighbour, chunk, fetched),
    })
    if (outcome instanceof Error) {
      const reason = outcome instanceof ChunkRefusedError ? outcome.reason : 'failed'
      this.#log.debug({ peer: neighbour, chunk, err: outcome }, 'a request came to nothing')
      this.#session.requestFailed(neighbour, chunk, reason, this.#now())
    }
    this.#perform()
  }

  async #keepFromNeighbour(neighbour: string, chunk: number, fetched: FetchedChunk): Promise<void> {
    const { bytes, hash } = fetched
    this.#context.metrics.receivedFromPeer(bytes.length)
    const verdict = this.#session.chunkFromNeighbour(neighbour, chunk, hash, this.#now())
    if (verdict === 'keep') await this.#keep(chunk, bytes, hash, { kind: 'neighbour', id: neighbour })
    else if (!this.stored.held.has(chunk)) {
      this.#context.neighbourhood.pushLost(this.digest, chunk)
    }
  }

  async #readOrigin(effect: SessionEffect & { type: 'fetch-origin' }): Promise<void> {
    const { fetch, lease } = effect
    const outcome = await this.#origin.run(fetch, effect, {
      keep: chunk => this.#keepFromOrigin(chunk),
      bytes: count => this.#context.metrics.receivedFromOrigin(count),
      sign: () => {
        this.#session.bytesFlowed(this.#now())
        if (lease !== undefined) this.#membership.tell({ type: 'lease-alive', blob: this.digest, lease })
      },
    })
    if (outcome === 'done') this.#session.fetchEnded(fetch, undefined, this.#now())
    else if (outcome !== 'stopped') this.#fetchFailed(fetch, outcome)
    this.#perform()
  }

  #fetchFailed(fetch: number, failure: FetchFailure): void {
    const { error, refused, wholeOnly, retryAfterMs } = failure
    if (!wholeOnly) {
      this.#lastError = error
      this.#context.metrics.originFailed()
      const code = error instanceof DarterError ? error.code : undefined
      this.#log.info({ err: error.message, code }, 'reading the origin failed')
    }
    if (error instanceof OriginSizeError || error instanceof OriginCorruptError) {
      this.#fail(error)
      return
    }
    const hint = retryAfterMs === undefined ? {} : { retryAfterMs }
    this.#session.fetchEnded(fetch, { refused, wholeOnly, ...hint }, this.#now())
  }

  async #keepFromOrigin(chunk: OriginChunk): Promise<void> {
    const { index, bytes, hash } = chunk
    const liar = this.#provenance.convict(index, hash)
    if (liar !== undefined) this.#session.distrust(liar, this.#now())
    const expected = this.#session.verifiedHashes?.[index]
    if (expected !== undefined && !Buffer.from(hash).equals(expected)) {
      if (this.stored.layout.count === 1) throw new OriginCorruptError(this.#content)
      this.#log.warn(
        { chunk: index },
        'the origin contradicts the verified chunk list, which is believed no more',
      )
      this.#distrustList()
    }
    if (this.#session.chunkFromOrigin(index, hash, this.#now()) === 'keep') {
      await this.#keep(index, bytes, hash, { kind: 'origin' })
      return
    }
    const before = this.stored.chunkHash(index)
    if (before !== undefined && Buffer.from(hash).equals(before)) {
      this.#session.chunkStored(index, { kind: 'origin' }, this.#now())
      this.#readers.wake()
    } else {
      this.#readers.provedWrong([index], this.digest)
      await this.stored.dropChunk(index)
      await this.#keep(index, bytes, hash, { kind: 'origin' })
    }
    this.#perform()
  }

  async #keep(chunk: number, bytes: Uint8Array, hash: Uint8Array, by: ChunkOrigin): Promise<void> {
    let outcome: 'stored' | 'full' | 'other'
    try {
      const isFromOrigin = by.kind === 'origin'
      outcome = await writeChunk(
        this.stored,
        { index: chunk, bytes, hash, isFromOrigin },
        {
          listed: () => this.#session.verifiedHashes?.[chunk],
          wrong: () => this.#readers.provedWrong([chunk], this.digest),
        },
      )
    } catch (error) {
      this.#log.error({ err: error, chunk }, 'a chunk could not be kept')
      outcome = 'full'
    }
    if (outcome !== 'stored') {
      this.#session.chunkLost(chunk, by, this.#now())
      if (outcome === 'full') this.#storeFull()
      this.#readers.wake()
      return
    }
    this.#provenance.came(chunk, by)
    this.#ranges.kept(chunk, this.#now())
    this.#session.chunkStored(chunk, by, this.#now())
    this.#membership.holds(chunk, hash, by.kind, this.#now())
    if (
      !this.#listDecides &&
      (!this.#hasher.offer(chunk, bytes) || this.stored.held.has(this.#hasher.chunks))
    ) {
      this.#hashOn()
    }
    this.#settle()
    this.#readers.wake()
    this.#perform()
  }

  // ---- the blob's own digest

  #hashOn(): void {
    if (this.#state.kind !== 'running' || this.#hasher.done || !this.stored.held.has(this.#hasher.chunks))
      return
    this.#track(
      this.#hasher.advance().then(
        () => this.#settle(),
        error => {
          this.#log.warn({ err: error }, 'a stored chunk could not be read back')
          // One that rotted was dropped, and is fetched again; else nothing would ever settle the digest.
          const isRot = error instanceof ChunkCorruptError || error instanceof ChunkMissingError
          if (isRot) this.#hashOn()
          else this.#storeFull()
        },
      ),
    )
  }

  #settle(): void {
    if (this.#state.kind !== 'running' || !this.#session.complete) return
    const proof = proofOf(this.stored, this.#content, this.#hasher, this.#session.verifiedHashes)
    if (proof === undefined) this.#hashOn()
    else if (proof === 'wrong') this.#audit()
    else this.#succeed(proof)
  }

  get #listDecides(): boolean {
    return listDecides(this.stored, this.#content, this.#session.verifiedHashes)
  }

  #succeed(proof: BlobProof): void {
    this.#state = { kind: 'complete' }
    this.#settled = true
    this.#hasher.stop()
    this.#session.stop()
    this.#perform()
    for (const chunk of this.stored.held.indices()) this.#trusted.set(chunk)
    this.#membership.join(this.#state.kind === 'running')
    if (this.#session.verifiedHashes === undefined) this.#membership.vouch()
    this.#readers.wake()
    this.#ranges.stop(new Error('the blob is here'))
    this.#track(
      this.stored.markComplete(proof).then(this.#resolveEnded, error => {
        this.#log.error({ err: error }, 'a complete blob could not be made durable')
        this.#resolveEnded()
      }),
    )
    this.#readerGone()
  }

  /** The list that was vouched for is wrong; this download believes no other one. */
  #distrustList(): void {
    this.#listRefuted = true
    this.#session.verifiedList(undefined, () => undefined)
  }

  /** The digest does not match: whatever was not read from the origin here is fetched from it again. */
  #audit(): void {
    if (this.#session.verifiedHashes !== undefined) {
      this.#log.warn(
        'a blob that matches its verified chunk list has the wrong digest; the list is believed no more',
      )
      this.#distrustList()
    }
    const suspects = [...this.stored.held.indices()].filter(chunk => !this.#provenance.isFromOrigin(chunk))
    this.#log.warn(
      { suspects: suspects.length },
      'the blob has the wrong digest; its suspect chunks are fetched again',
    )
    this.#context.metrics.digestMismatch()
    this.#hasher.restart()
    const all = suspects.length === 0
    const dropped = all ? [...this.stored.held.indices()] : suspects
    this.#readers.provedWrong(dropped, this.digest)
    for (const chunk of dropped) {
      const hash = this.stored.chunkHash(chunk)
      if (!all && hash !== undefined) this.#provenance.suspect(chunk, hash)
      this.#track(this.stored.dropChunk(chunk))
    }
    if (all) this.#fail(new OriginCorruptError(this.#content))
    else this.#session.onlyFromOrigin(suspects, this.#now())
    this.#readers.wake()
    this.#perform()
  }

  // ---- readers

  #answer(chunk: number, strict: boolean, since: number): ReaderAnswer {
    const state = this.#state
    if (this.stored.held.has(chunk)) {
      // The last chunk is what a caller that reads everything gets only when the digest is right.
      // Once this download has ended, nobody tells it what others make of the blob.
      const trusted = state.kind === 'running' && this.#trusted.has(chunk)
      const believed = strict ? trusted : chunk < this.stored.layout.count - 1
      if (state.kind === 'complete' || believed) return { kind: 'ready' }
    }
    if (state.kind === 'failed') return state
    if (state.kind === 'full') return { kind: 'pass-through' }
    // A blob of one chunk is read whole: that chunk's hash is its digest.
    if (!strict || this.stored.layout.count === 1) return { kind: 'wait' }
    const now = this.#now()
    return { kind: this.#session.onlyOriginServes(chunk, now - since, now) ? 'origin' : 'wait' }
  }

  #readerGone(): void {
    if (this.#readers.size === 0 && this.#state.kind !== 'running') this.#release()
  }

  // ---- ends

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
