import { ChunkRefusedError, type Link, LinkStalledError, type SchedulerLink } from '@darter/exchange'
import { DarterError, type Digest, digestAlgorithm, digestHex } from '@darter/oci'
import { OriginStatusError } from '@darter/origin'
import type { ChunkBuffers, Clock, Logger } from '@darter/runtime'
import { ChunkMissingError, type StoredBlob } from '@darter/store'
import { Bitfield, type ChunkOrigin, DownloadSession, type Random, type SessionEffect } from '@darter/swarm'
import type { PeerAddress } from '@darter/wire'
import type { ByteBudget } from './byte-budget.ts'
import type { BlobSource } from './contract.ts'
import {
  NoSourceError,
  OriginCorruptError,
  OriginIgnoresRangesError,
  OriginSizeError,
  PeerStoppingError,
  WrongBytesSentError,
} from './errors.ts'
import type { DownloadMetrics } from './metrics.ts'
import type { Neighbourhood } from './neighbourhood.ts'
import { type ContentKind, hashIsDigest, type OriginChunk, readChunks } from './origin-reader.ts'
import { PrefixHasher } from './prefix-hasher.ts'
import { SourceList } from './sources.ts'

const TICK_MS = 100
const ALIVE_EVERY_MS = 400
const RELINK_EVERY_MS = 2_000
const REPORT_AT_CHUNKS = 8
const HASH_BYTES = 32

/** What downloads share. */
export interface DownloadContext {
  readonly scheduler: SchedulerLink | undefined
  readonly neighbourhood: Neighbourhood
  readonly budget: ByteBudget
  readonly buffers: ChunkBuffers
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly metrics: DownloadMetrics
}

/** Where a reader's chunk was found. */
export type ChunkProvenance = 'disk' | 'peer' | 'origin'

/** One caller's part in a download. */
export interface DownloadReader {
  /**
   * Resolves when the chunk may be passed on: 'ready', or 'pass-through' when this machine can keep no more and the
   * caller has to be served straight from the origin. Rejects when the download failed, or the signal aborts.
   */
  wait(chunk: number, signal: AbortSignal): Promise<'ready' | 'pass-through'>
  /** Set when chunks that this reader has passed on were proved wrong: its response can only be cut. */
  failure(): Error | undefined
  /** The blob's digest was right: whatever is still held of it may be believed. */
  settled(): boolean
  /** Where a ready chunk came from. */
  provenance(chunk: number): ChunkProvenance
  /** The caller is gone or has everything. */
  end(): void
}

interface Waiting {
  readonly id: number
  readonly strict: boolean
  /** The first chunk that was not passed on yet. */
  position: number
  readonly from: number
  awaited: number
  wake: (() => void) | undefined
  failure: Error | undefined
}

type State =
  | { readonly kind: 'running' | 'complete' | 'full' }
  | { readonly kind: 'failed'; readonly error: Error }

/**
 * One blob on its way to this machine, shared by all callers: performs what {@link DownloadSession} decides, keeps
 * verified chunks in the store, and settles the blob's own digest.
 */
export class Download {
  readonly digest: Digest
  readonly stored: StoredBlob
  readonly kind: ContentKind
  /** Settles (never rejects) when the download has ended and what it kept is durable. */
  readonly ended: Promise<void>
  readonly #context: DownloadContext
  readonly #log: Logger
  readonly #session: DownloadSession
  readonly #hasher: PrefixHasher
  readonly #trusted: Bitfield
  readonly #sources = new SourceList()
  readonly #readers = new Map<number, Waiting>()
  readonly #requests = new Map<string, AbortController>()
  readonly #fetches = new Map<number, AbortController>()
  readonly #provenance = new Map<number, ChunkOrigin>()
  readonly #suspects = new Map<number, { readonly hash: Uint8Array; readonly by: ChunkOrigin | undefined }>()
  readonly #work = new Set<Promise<void>>()
  readonly #stopping = new AbortController()
  readonly #onEnd: () => void
  readonly #resolveEnded: () => void
  #state: State = { kind: 'running' }
  #wanted = new Map<string, PeerAddress>()
  #linked = new Set<string>()
  #unreported: number[] = []
  #timer: NodeJS.Timeout | undefined
  #lingerUntil: number | undefined
  #relinkAt = 0
  #nextReader = 1
  #lastError: Error | undefined
  #released = false
  #settled = false
  #rangesIgnored = false
  readonly #lingerMs: number

  constructor(options: {
    readonly stored: StoredBlob
    readonly kind: ContentKind
    readonly context: DownloadContext
    /** The blob was complete before: the chunks that are held match the list that its digest settled. */
    readonly trustHeld: boolean
    /** How long the download goes on after its last caller left, ms. */
    readonly lingerMs: number
    /** Called once, when it takes no more readers. */
    readonly onEnd: () => void
  }) {
    const { stored, context } = options
    this.digest = stored.digest
    this.stored = stored
    this.kind = options.kind
    this.#context = context
    this.#log = context.log.child({ blob: stored.digest })
    this.#hasher = new PrefixHasher(stored)
    this.#trusted = new Bitfield(stored.layout.count)
    if (options.trustHeld) for (const chunk of stored.held.indices()) this.#trusted.set(chunk)
    this.#lingerMs = options.lingerMs
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
    })
    if (stored.layout.count === 1 && digestAlgorithm(this.digest) === 'sha256') {
      // The only chunk's sha256 is the blob's digest: nobody needs to vouch for it.
      this.#session.verifiedList([Buffer.from(digestHex(this.digest), 'hex')], index =>
        stored.chunkHash(index),
      )
    }
  }

  /** Begins to work; call once. */
  start(): void {
    this.#join()
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
    this.#settle()
    this.#perform()
  }

  /** True until it takes no more readers. */
  get open(): boolean {
    return this.#state.kind === 'running' || this.#state.kind === 'complete'
  }

  /**
   * Adds a caller that wants chunks [from, to). `strict`: it does not read the whole blob, so only chunks that are
   * believed by themselves will do until the blob's digest is settled.
   */
  addReader(from: number, to: number, strict: boolean, source: BlobSource): DownloadReader {
    const removeSource = this.#sources.add(source)
    const id = this.#nextReader++
    const entry: Waiting = {
      id,
      strict,
      from,
      position: from,
      awaited: -1,
      wake: undefined,
      failure: undefined,
    }
    const before = new Set<number>()
    for (let chunk = from; chunk < to; chunk++) if (this.stored.held.has(chunk)) before.add(chunk)
    this.#readers.set(id, entry)
    this.#lingerUntil = undefined
    this.#session.readerAdded(id, from, to, strict, this.#now())
    this.#perform()
    return {
      wait: (chunk, signal) => this.#wait(entry, chunk, signal),
      failure: () => entry.failure,
      settled: () => this.#settled,
      provenance: chunk => {
        if (before.has(chunk)) return 'disk'
        return this.#provenance.get(chunk)?.kind === 'origin' ? 'origin' : 'peer'
      },
      end: () => {
        if (!this.#readers.delete(id)) return
        removeSource()
        this.#session.readerGone(id)
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
    if (up) this.#join()
    this.#session.schedulerChanged(up, this.#now())
    this.#perform()
  }

  neighbours(peers: readonly PeerAddress[]): void {
    if (this.#state.kind !== 'running') return
    this.#wanted = new Map(peers.map(peer => [peer.id, peer]))
    for (const id of this.#linked) if (!this.#wanted.has(id)) this.#unlink(id)
    this.#session.schedulerAnswered(this.#now())
    this.#link()
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
    const list = hashes.length === 0 ? undefined : splitHashes(hashes)
    const wrong = this.#session.verifiedList(list, index => this.stored.chunkHash(index))
    this.#provedWrong(wrong)
    for (const chunk of wrong) this.#track(this.stored.dropChunk(chunk))
    this.#wakeReaders()
    this.#perform()
  }

  /** A neighbour said what it holds. */
  linkHolds(link: Link, held: Bitfield, hashes: Uint8Array): void {
    if (this.#state.kind !== 'running') return
    this.#session.neighbourUp(link.peerId)
    this.#linked.add(link.peerId)
    let at = 0
    for (const chunk of held.indices()) {
      this.#session.neighbourHas(link.peerId, chunk, hashes.subarray(at, at + HASH_BYTES))
      at += HASH_BYTES
    }
    this.#session.neighboursChanged(this.#now())
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

  linkClosed(peerId: string, reason: Error | undefined): void {
    if (!this.#linked.delete(peerId)) return
    const deed =
      reason === undefined ? undefined : reason instanceof LinkStalledError ? 'stalled' : 'vanished'
    this.#session.neighbourDown(peerId, deed, this.#now())
    this.#perform()
  }

  /** The store dropped a chunk: it rotted, or was proved wrong. */
  chunkDropped(chunk: number): void {
    this.#provenance.delete(chunk)
    this.#trusted.clear(chunk)
    if (this.#state.kind === 'complete') this.#fail(new ChunkMissingError(this.digest, chunk))
    if (this.#state.kind !== 'running') return
    if (chunk < this.#hasher.chunks) this.#hasher.restart()
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
        this.#requests.get(`${effect.neighbour} ${effect.chunk}`)?.abort()
        break
      case 'fetch-origin':
        this.#track(this.#readOrigin(effect.fetch, effect.lease, effect.from, effect.to))
        break
      case 'stop-origin':
        this.#fetches.get(effect.fetch)?.abort()
        break
      case 'lease-demand':
        this.#tell({ type: 'lease-demand', blob: this.digest, slots: effect.slots, from: effect.from })
        break
      case 'lease-end': {
        this.#report()
        this.#tell({ blob: this.digest, ...effect })
        break
      }
      case 'blame':
        this.#context.metrics.blamed(effect.deed)
        this.#log.warn(
          { peer: effect.neighbour, deed: effect.deed },
          'a neighbour failed; the chunk comes from elsewhere',
        )
        this.#tell({ type: 'blame', peer: effect.neighbour, blob: this.digest, deed: effect.deed })
        break
      case 'give-up':
        this.#fail(this.#lastError ?? new NoSourceError(this.digest, undefined))
        break
    }
  }

  async #request(neighbour: string, chunk: number): Promise<void> {
    const key = `${neighbour} ${chunk}`
    const controller = new AbortController()
    this.#requests.set(key, controller)
    let giveBack: (() => void) | undefined
    try {
      const length = this.stored.layout.length(chunk)
      giveBack = await this.#context.budget.take(length, controller.signal)
      const link = this.#context.neighbourhood.linkTo(neighbour)
      if (link === undefined) throw new NoSourceError(this.digest, undefined)
      const fetched = await link.fetch(this.digest, chunk, length, { signal: controller.signal })
      const { bytes, hash } = fetched
      this.#context.metrics.receivedFromPeer(bytes.length)
      const verdict = this.#session.chunkFromNeighbour(neighbour, chunk, hash, this.#now())
      if (verdict === 'keep') await this.#keep(chunk, bytes, hash, { kind: 'neighbour', id: neighbour })
      fetched.release()
    } catch (error) {
      if (!controller.signal.aborted) {
        const reason = error instanceof ChunkRefusedError ? error.reason : 'failed'
        this.#log.debug({ peer: neighbour, chunk, err: error }, 'a request came to nothing')
        this.#session.requestFailed(neighbour, chunk, reason, this.#now())
      }
    } finally {
      giveBack?.()
      if (this.#requests.get(key) === controller) this.#requests.delete(key)
      this.#perform()
    }
  }

  async #readOrigin(fetch: number, lease: number | undefined, from: number, to: number): Promise<void> {
    const controller = new AbortController()
    this.#fetches.set(fetch, controller)
    const source = this.#sources.current()
    let lastSign = this.#now()
    const onBytes = (bytes: number): void => {
      this.#context.metrics.receivedFromOrigin(bytes)
      const now = this.#now()
      if (now - lastSign < ALIVE_EVERY_MS) return
      lastSign = now
      this.#session.bytesFlowed(now)
      if (lease !== undefined) this.#tell({ type: 'lease-alive', blob: this.digest, lease })
    }
    try {
      if (source === undefined) throw new NoSourceError(this.digest, undefined)
      const { digest, kind } = this
      const { buffers } = this.#context
      const layout = this.stored.layout
      for await (const chunk of readChunks({
        source,
        digest,
        kind,
        layout,
        from,
        to,
        skip: this.#rangesIgnored,
        signal: controller.signal,
        buffers,
        onBytes,
      })) {
        await this.#keepFromOrigin(chunk)
        controller.signal.throwIfAborted()
      }
      this.#session.fetchEnded(fetch, undefined, this.#now())
    } catch (error) {
      if (!controller.signal.aborted) this.#fetchFailed(fetch, source, error)
    } finally {
      this.#fetches.delete(fetch)
      this.#perform()
    }
  }

  #fetchFailed(fetch: number, source: BlobSource | undefined, error: unknown): void {
    const failure = error instanceof Error ? error : new Error(String(error))
    if (failure instanceof OriginIgnoresRangesError) {
      this.#rangesIgnored = true
      this.#session.fetchEnded(fetch, { refused: false, wholeOnly: true }, this.#now())
      return
    }
    this.#lastError = failure
    this.#context.metrics.originFailed()
    this.#log.info({ err: failure.message, code: codeOf(failure) }, 'reading the origin failed')
    if (failure instanceof OriginSizeError || failure instanceof OriginCorruptError) {
      this.#fail(failure)
      return
    }
    const refusal = failure instanceof OriginStatusError && isRefusal(failure.status)
    const refused = refusal && (source === undefined || !this.#sources.refused(source))
    const retryAfterMs = failure instanceof OriginStatusError ? retryAfter(failure) : undefined
    this.#session.fetchEnded(
      fetch,
      { refused, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
      this.#now(),
    )
  }

  async #keepFromOrigin(chunk: OriginChunk): Promise<void> {
    const { index, bytes, hash } = chunk
    const suspect = this.#suspects.get(index)
    if (suspect !== undefined) {
      this.#suspects.delete(index)
      if (suspect.by?.kind === 'neighbour' && !Buffer.from(hash).equals(suspect.hash)) {
        this.#session.distrust(suspect.by.id, this.#now())
      }
    }
    const expected = this.#session.verifiedHashes?.[index]
    if (expected !== undefined && !Buffer.from(hash).equals(expected)) {
      if (this.stored.layout.count === 1) throw new OriginCorruptError(this.digest)
      this.#log.warn(
        { chunk: index },
        'the origin contradicts the verified chunk list, which is believed no more',
      )
      this.#session.verifiedList(undefined, () => undefined)
    }
    if (this.#session.chunkFromOrigin(index, hash, this.#now()) === 'keep') {
      await this.#keep(index, bytes, hash, { kind: 'origin' })
      return
    }
    const before = this.stored.chunkHash(index)
    if (before !== undefined && Buffer.from(hash).equals(before)) {
      this.#session.chunkStored(index, { kind: 'origin' }, this.#now())
      this.#wakeReaders()
    } else {
      this.#provedWrong([index])
      await this.stored.dropChunk(index)
      await this.#keep(index, bytes, hash, { kind: 'origin' })
    }
    this.#perform()
  }

  async #keep(chunk: number, bytes: Uint8Array, hash: Uint8Array, by: ChunkOrigin): Promise<void> {
    let outcome: 'stored' | 'full'
    try {
      outcome = await this.stored.writeChunk(chunk, bytes, hash)
    } catch (error) {
      this.#log.error({ err: error, chunk }, 'a chunk could not be kept')
      outcome = 'full'
    }
    if (outcome === 'full') {
      this.#session.chunkLost(chunk, by, this.#now())
      this.#storeFull()
      return
    }
    this.#provenance.set(chunk, by)
    this.#session.chunkStored(chunk, by, this.#now())
    this.#context.neighbourhood.pushHave(this.digest, chunk, hash)
    this.#unreported.push(chunk)
    if (this.#unreported.length >= REPORT_AT_CHUNKS) this.#report()
    if (!this.#hasher.offer(chunk, bytes) || this.stored.held.has(this.#hasher.chunks)) this.#hashOn()
    this.#settle()
    this.#wakeReaders()
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
          // A chunk that rotted was dropped by the store, and chunkDropped restarted the hash.
          this.#log.warn({ err: error }, 'a stored chunk could not be read back')
        },
      ),
    )
  }

  #settle(): void {
    if (this.#state.kind !== 'running' || !this.#session.complete) return
    const { layout } = this.stored
    const only = layout.count === 1 ? this.stored.chunkHash(0) : undefined
    if (only !== undefined && hashIsDigest(only, this.digest)) {
      this.#succeed()
    } else if (!this.#hasher.done) {
      this.#hashOn()
    } else if (this.#hasher.matches()) {
      this.#succeed()
    } else {
      this.#audit()
    }
  }

  #succeed(): void {
    this.#state = { kind: 'complete' }
    this.#settled = true
    this.#session.stop()
    this.#perform()
    for (const chunk of this.stored.held.indices()) this.#trusted.set(chunk)
    this.#report()
    this.#join()
    if (this.#session.verifiedHashes === undefined) this.#vouch()
    this.#wakeReaders()
    this.#track(
      this.stored.markComplete().then(this.#resolveEnded, error => {
        this.#log.error({ err: error }, 'a complete blob could not be made durable')
        this.#resolveEnded()
      }),
    )
    this.#readerGone()
  }

  /** The digest does not match: whatever was not read from the origin here is fetched from it again. */
  #audit(): void {
    if (this.#session.verifiedHashes !== undefined) {
      this.#log.warn(
        'a blob that matches its verified chunk list has the wrong digest; the list is believed no more',
      )
      this.#session.verifiedList(undefined, () => undefined)
    }
    const suspects = [...this.stored.held.indices()].filter(
      chunk => this.#provenance.get(chunk)?.kind !== 'origin',
    )
    this.#log.warn(
      { suspects: suspects.length },
      'the blob has the wrong digest; its suspect chunks are fetched again',
    )
    this.#context.metrics.digestMismatch()
    this.#hasher.restart()
    const all = suspects.length === 0
    const dropped = all ? [...this.stored.held.indices()] : suspects
    this.#provedWrong(dropped)
    for (const chunk of dropped) {
      const hash = this.stored.chunkHash(chunk)
      if (!all && hash !== undefined) this.#suspects.set(chunk, { hash, by: this.#provenance.get(chunk) })
      this.#track(this.stored.dropChunk(chunk))
    }
    if (all) this.#fail(new OriginCorruptError(this.digest))
    else this.#session.onlyFromOrigin(suspects, this.#now())
    this.#wakeReaders()
    this.#perform()
  }

  /** Callers that were sent one of these chunks have wrong bytes: their responses must not end well. */
  #provedWrong(chunks: readonly number[]): void {
    for (const reader of this.#readers.values()) {
      if (chunks.some(chunk => chunk >= reader.from && chunk < reader.position)) {
        reader.failure = new WrongBytesSentError(this.digest)
      }
    }
  }

  #vouch(): void {
    const { count, size } = this.stored.layout
    if (count <= 1) return
    const hashes = Buffer.alloc(count * HASH_BYTES)
    for (let chunk = 0; chunk < count; chunk++)
      hashes.set(this.stored.chunkHash(chunk) ?? [], chunk * HASH_BYTES)
    this.#tell({ type: 'vouch', blob: this.digest, size, hashes })
  }

  // ---- readers

  #isReady(reader: Waiting): boolean {
    const chunk = reader.awaited
    if (!this.stored.held.has(chunk)) return false
    if (this.#state.kind === 'complete') return true
    if (reader.strict) return this.#trusted.has(chunk)
    // The last chunk is what a caller that reads everything gets only when the digest is right.
    return chunk < this.stored.layout.count - 1
  }

  async #wait(reader: Waiting, chunk: number, signal: AbortSignal): Promise<'ready' | 'pass-through'> {
    reader.awaited = chunk
    this.#session.readerMoved(reader.id, chunk)
    for (;;) {
      signal.throwIfAborted()
      if (reader.failure !== undefined) throw reader.failure
      if (this.#isReady(reader)) break
      if (this.#state.kind === 'failed') throw this.#state.error
      if (this.#state.kind === 'full') return 'pass-through'
      await new Promise<void>(resolve => {
        const onAbort = (): void => resolve()
        signal.addEventListener('abort', onAbort, { once: true })
        reader.wake = () => {
          signal.removeEventListener('abort', onAbort)
          resolve()
        }
      })
      reader.wake = undefined
    }
    reader.position = chunk + 1
    return 'ready'
  }

  #wakeReaders(): void {
    const over = this.#state.kind !== 'running'
    for (const reader of this.#readers.values()) {
      if (over || reader.failure !== undefined || this.#isReady(reader)) reader.wake?.()
    }
  }

  #readerGone(): void {
    if (this.#readers.size > 0) return
    if (this.#state.kind === 'running') this.#lingerUntil ??= this.#now() + this.#lingerMs
    else this.#release()
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
    this.#finish({ kind: 'failed', error })
  }

  #finish(state: State): void {
    this.#state = state
    this.#session.stop()
    this.#perform()
    this.#report()
    this.#join()
    this.#wakeReaders()
    this.#onEnd()
    this.#readerGone()
  }

  #release(): void {
    if (this.#released) return
    this.#released = true
    clearInterval(this.#timer)
    this.#stopping.abort()
    for (const id of [...this.#linked]) this.#unlink(id)
    this.#onEnd()
    this.#drain().then(this.#resolveEnded, this.#resolveEnded)
  }

  async #drain(): Promise<void> {
    while (this.#work.size > 0) await Promise.allSettled([...this.#work])
    this.stored.release()
  }

  // ---- the world outside

  #tick(): void {
    const now = this.#now()
    this.#report()
    if (this.#state.kind !== 'running') return
    if (this.#lingerUntil !== undefined && now >= this.#lingerUntil && this.#readers.size === 0) {
      this.#fail(new PeerStoppingError())
      return
    }
    if (now >= this.#relinkAt) this.#link()
    this.#session.tick(now)
    this.#perform()
  }

  /** Tells the scheduler what is held, and whether more is wanted. */
  #join(): void {
    const { digest, stored } = this
    const wants = this.#state.kind === 'running'
    this.#unreported = []
    if (!wants && stored.held.count === 0) this.#tell({ type: 'leave', blob: digest })
    else
      this.#tell({ type: 'join', blob: digest, size: stored.layout.size, held: stored.held.toBytes(), wants })
  }

  #report(): void {
    if (this.#unreported.length === 0) return
    this.#tell({ type: 'held', blob: this.digest, chunks: this.#unreported })
    this.#unreported = []
  }

  #tell(message: Parameters<SchedulerLink['send']>[0]): void {
    this.#context.scheduler?.send(message)
  }

  #link(): void {
    this.#relinkAt = this.#now() + RELINK_EVERY_MS
    if (this.#context.scheduler?.connected === false) {
      for (const link of this.#context.neighbourhood.openLinks()) this.#linkedTo(link)
    }
    for (const peer of this.#wanted.values()) {
      if (this.#linked.has(peer.id)) continue
      this.#track(this.#linkTo(peer))
    }
  }

  async #linkTo(peer: PeerAddress): Promise<void> {
    try {
      const link = await this.#context.neighbourhood.connect(peer, this.#stopping.signal)
      if (this.#state.kind === 'running' && !this.#stopping.signal.aborted) this.#linkedTo(link)
    } catch (error) {
      this.#log.debug({ peer: peer.id, err: error }, 'no link to a neighbour')
    }
  }

  #linkedTo(link: Link): void {
    if (this.#linked.has(link.peerId)) return
    this.#linked.add(link.peerId)
    this.#session.neighbourUp(link.peerId)
    this.#context.neighbourhood.interest(link, this.stored)
  }

  #unlink(id: string): void {
    this.#linked.delete(id)
    this.#context.neighbourhood.leave(id, this.digest)
    this.#session.neighbourDown(id, undefined, this.#now())
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

function splitHashes(hashes: Uint8Array): Uint8Array[] {
  const list: Uint8Array[] = []
  for (let at = 0; at < hashes.length; at += HASH_BYTES) list.push(hashes.subarray(at, at + HASH_BYTES))
  return list
}

/** Statuses that asking again with the same credentials will not change. */
function isRefusal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 425 && status !== 429
}

function retryAfter(error: OriginStatusError): number | undefined {
  const value = error.headers['retry-after']
  const seconds = Number(Array.isArray(value) ? value[0] : value)
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(30_000, seconds * 1000) : undefined
}

function codeOf(error: Error): string | undefined {
  return error instanceof DarterError ? error.code : undefined
}
