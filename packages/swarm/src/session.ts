import type { Bitfield, ReadonlyBitfield } from './bitfield.ts'
import { firstFreeRun, runChunks } from './extents.ts'
import type { ChunkLayout } from './layout.ts'
import { Neighbour } from './neighbour.ts'
import { pickChunk } from './picker.ts'
import type { Random } from './random.ts'

/** Where a chunk came from. */
export type ChunkOrigin = { readonly kind: 'origin' } | { readonly kind: 'neighbour'; readonly id: string }

/** What the driver is to do; in the order given. */
export type SessionEffect =
  | { readonly type: 'request'; readonly neighbour: string; readonly chunk: number }
  | { readonly type: 'cancel'; readonly neighbour: string; readonly chunk: number }
  /** Read chunks [from, to) from the origin; `fetch` names the read in later events. */
  | {
      readonly type: 'fetch-origin'
      readonly fetch: number
      /** Undefined for a read on this peer's own account. */
      readonly lease: number | undefined
      readonly from: number
      readonly to: number
    }
  | { readonly type: 'stop-origin'; readonly fetch: number }
  | { readonly type: 'lease-demand'; readonly slots: number; readonly from: number }
  | {
      readonly type: 'lease-end'
      readonly lease: number
      readonly outcome: 'done' | 'failed' | 'released'
      readonly wholeOnly?: boolean
      readonly retryAfterMs?: number
    }
  | {
      readonly type: 'blame'
      readonly neighbour: string
      readonly deed: 'wrong-bytes' | 'stalled' | 'vanished'
    }
  /** No source gave anything for too long, or the origin refuses and nobody else has it: readers must be told. */
  | { readonly type: 'give-up' }

/** Times and bounds of a session; all times in ms. */
export interface SessionLimits {
  /** The scheduler's answer to a join is awaited this long before the origin is read without it. */
  readonly schedulerPatienceMs: number
  /** Without a new chunk for this long the origin is read without a lease (plus up to half as much again at random). */
  readonly rescueAfterMs: number
  /** Without a new byte for this long the session gives up. */
  readonly giveUpAfterMs: number
  /** Leases worked on at the same time, and origin reads without a lease. */
  readonly maxOriginFetches: number
  /** Chunks in flight from neighbours, in bytes; bounds memory. */
  readonly maxInFlightBytes: number
  /** The in-order window before each reader, in chunks. */
  readonly readerWindow: number
  /** A request older than this and much older than expected is asked of another neighbour too. */
  readonly hedgeAfterMs: number
  /** Origin failures in a row, with nobody else to ask, after which the session gives up. */
  readonly maxOriginFailures: number
}

/** The limits that production starts from. */
export const DEFAULT_SESSION_LIMITS: SessionLimits = {
  schedulerPatienceMs: 500,
  rescueAfterMs: 4_000,
  giveUpAfterMs: 40_000,
  maxOriginFetches: 4,
  maxInFlightBytes: 64 * 1024 * 1024,
  readerWindow: 4,
  hedgeAfterMs: 1_000,
  maxOriginFailures: 3,
}

interface OriginFetch {
  readonly id: number
  /** Undefined for a read without a lease. */
  readonly lease: number | undefined
  readonly from: number
  readonly to: number
}

interface Reader {
  position: number
  readonly end: number
  /** Only chunks whose bytes are believed by themselves will do: the origin's own, or matching the verified list. */
  readonly strict: boolean
}

const RETRY_BASE_MS = 250
const RETRY_MAX_MS = 8_000

/**
 * The decisions of one blob's download on one peer: which chunk to request from whom, when to read the origin, when
 * to stop waiting. It performs nothing: each event updates the state, and {@link takeEffects} tells what to do.
 * Time and randomness come in, so that the simulator runs this very code.
 */
export class DownloadSession {
  readonly layout: ChunkLayout
  readonly #held: ReadonlyBitfield
  readonly #trusted: Bitfield
  readonly #random: Random
  readonly #limits: SessionLimits
  readonly #neighbours = new Map<string, Neighbour>()
  readonly #availability: Uint16Array
  readonly #readers = new Map<number, Reader>()
  readonly #fetches = new Map<number, OriginFetch>()
  /** How many sources are working on each chunk. */
  readonly #pending: Uint8Array
  readonly #disputed = new Set<number>()
  #effects: SessionEffect[] = []
  #verified: readonly Uint8Array[] | undefined
  #nextFetch = 1
  #schedulerUp = false
  #schedulerAnswered = false
  #demanded = -1
  #startedAt: number
  #lastByteAt: number
  #rescueAt: number
  #rescuing = false
  #originFailures = 0
  /** Reads from this number on were started after the last failure that was counted. */
  #countFrom = 1
  #originRetryAt = 0
  #originRefused = false
  #wholeOnly = false
  #inFlightBytes = 0
  #active = true

  /**
   * @param held the chunks in the store, live. @param trusted the chunks whose bytes are believed by themselves
   * (own origin reads, or matching the verified list); the session adds to it.
   */
  constructor(options: {
    readonly layout: ChunkLayout
    readonly held: ReadonlyBitfield
    readonly trusted: Bitfield
    readonly random: Random
    readonly now: number
    readonly schedulerUp: boolean
    readonly limits?: Partial<SessionLimits>
  }) {
    this.layout = options.layout
    this.#held = options.held
    this.#trusted = options.trusted
    this.#random = options.random
    this.#limits = { ...DEFAULT_SESSION_LIMITS, ...options.limits }
    this.#availability = new Uint16Array(options.layout.count)
    this.#pending = new Uint8Array(options.layout.count)
    this.#schedulerUp = options.schedulerUp
    this.#startedAt = options.now
    this.#lastByteAt = options.now
    this.#rescueAt = this.#nextRescue(options.now)
  }

  /** Every chunk is held. */
  get complete(): boolean {
    return this.#held.count === this.layout.count
  }

  /** The verified chunk list, once known. */
  get verifiedHashes(): readonly Uint8Array[] | undefined {
    return this.#verified
  }

  /** What is to be done since the last call. */
  takeEffects(): SessionEffect[] {
    const effects = this.#effects
    this.#effects = []
    return effects
  }

  // ---- readers

  /** A reader wants chunks [from, to); `strict` ones take only chunks that are believed by themselves. */
  readerAdded(id: number, from: number, to: number, strict: boolean, now: number): void {
    this.#readers.set(id, { position: from, end: to, strict })
    // What failed for earlier readers is tried again for this one.
    this.#originFailures = 0
    this.#pump(now)
  }

  readerMoved(id: number, position: number): void {
    const reader = this.#readers.get(id)
    if (reader !== undefined) reader.position = position
  }

  readerGone(id: number): void {
    this.#readers.delete(id)
  }

  // ---- the scheduler

  schedulerChanged(up: boolean, now: number): void {
    this.#schedulerUp = up
    this.#schedulerAnswered = false
    this.#demanded = -1
    this.#startedAt = now
    if (!up) {
      for (const fetch of [...this.#fetches.values()]) {
        // What is being read goes on; it just is no lease any more.
        if (fetch.lease !== undefined) this.#fetches.set(fetch.id, { ...fetch, lease: undefined })
      }
    }
    this.#pump(now)
  }

  /** The scheduler said who the neighbours are: it is there. */
  schedulerAnswered(now: number): void {
    this.#schedulerAnswered = true
    this.#pump(now)
  }

  leased(lease: number, from: number, to: number, now: number): void {
    this.#schedulerAnswered = true
    this.#demanded = -1
    let start = from
    while (start < to && (this.#has(start) || this.#pending[start]! > 0)) start++
    let end = start
    while (end < to && !this.#has(end) && this.#pending[end] === 0) end++
    const most = this.#wholeOnly ? 1 : this.#limits.maxOriginFetches * 2
    const wanted = this.#active && end > start && this.#fetches.size < most
    if (!wanted) {
      this.#effects.push({ type: 'lease-end', lease, outcome: 'released' })
    } else {
      this.#startFetch(lease, start, end)
    }
    this.#pump(now)
  }

  leaseVoid(lease: number, now: number): void {
    for (const fetch of this.#fetches.values()) {
      if (fetch.lease !== lease) continue
      this.#endFetch(fetch)
      this.#effects.push({ type: 'stop-origin', fetch: fetch.id })
    }
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
    this.#verified = hashes
    const wrong: number[] = []
    if (hashes === undefined) return wrong
    this.#disputed.clear()
    for (const chunk of this.#held.indices()) {
      const hash = hashOf(chunk)
      if (hash !== undefined && sameBytes(hash, hashes[chunk]!)) this.#trusted.set(chunk)
      else if (!this.#trusted.has(chunk)) wrong.push(chunk)
    }
    return wrong
  }

  // ---- neighbours

  neighbourUp(id: string): void {
    if (!this.#neighbours.has(id)) this.#neighbours.set(id, new Neighbour(id, this.layout))
  }

  /** `deed` names what it did, when its end was not in order. */
  neighbourDown(id: string, deed: 'stalled' | 'vanished' | undefined, now: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour === undefined) return
    this.#neighbours.delete(id)
    for (const chunk of neighbour.held.indices()) this.#availability[chunk]!--
    const waiting = neighbour.inFlight.size > 0
    for (const chunk of neighbour.inFlight.keys()) this.#unpend(chunk, true)
    if (deed !== undefined && waiting) this.#effects.push({ type: 'blame', neighbour: id, deed })
    this.#pump(now)
  }

  /** A neighbour said that it holds a chunk with this sha256. */
  neighbourHas(id: string, chunk: number, hash: Uint8Array): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour === undefined || chunk < 0 || chunk >= this.layout.count) return
    if (neighbour.held.set(chunk)) this.#availability[chunk]!++
    neighbour.hashes.set(chunk, hash)
    if (this.#verified !== undefined || this.#has(chunk)) return
    for (const other of this.#neighbours.values()) {
      const told = other.hashes.get(chunk)
      // Someone lies; only the origin can tell who.
      if (other !== neighbour && told !== undefined && !sameBytes(told, hash)) this.#disputed.add(chunk)
    }
  }

  neighbourLost(id: string, chunk: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour?.held.clear(chunk)) {
      this.#availability[chunk]!--
      neighbour.hashes.delete(chunk)
    }
  }

  /** Call after a batch of {@link neighbourHas}. */
  neighboursChanged(now: number): void {
    this.#pump(now)
  }

  /**
   * Judges a chunk that came from a neighbour: 'keep' it, it is 'late' (already held), or it is 'wrong' (the sender
   * is blamed and not asked again). A kept chunk must be stored, then {@link chunkStored} called.
   */
  chunkFromNeighbour(id: string, chunk: number, hash: Uint8Array, now: number): 'keep' | 'late' | 'wrong' {
    const neighbour = this.#neighbours.get(id)
    if (neighbour?.inFlight.has(chunk)) {
      neighbour.arrived(chunk, this.layout.length(chunk), now)
      this.#unpend(chunk, true)
    }
    this.#lastByteAt = now
    const expected = this.#verified?.[chunk] ?? neighbour?.hashes.get(chunk)
    if (expected === undefined || !sameBytes(expected, hash)) {
      this.#distrust(id)
      this.#pump(now)
      return 'wrong'
    }
    if (this.#has(chunk) || this.#disputed.has(chunk)) return 'late'
    if (this.#pending[chunk]! < 255) this.#pending[chunk]! += 1
    return 'keep'
  }

  /** A request to a neighbour came to nothing. 'missing': it does not have it; 'busy': not now; 'failed': otherwise. */
  requestFailed(id: string, chunk: number, reason: 'missing' | 'busy' | 'failed', now: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour === undefined || !neighbour.inFlight.delete(chunk)) return
    this.#unpend(chunk, true)
    neighbour.failures++
    if (reason === 'missing') this.neighbourLost(id, chunk)
    neighbour.restUntil =
      now + Math.min(RETRY_MAX_MS, RETRY_BASE_MS * 2 ** (neighbour.failures - 1)) * (0.5 + this.#random())
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
    this.#originFailures = 0
    this.#disputed.delete(chunk)
    for (const neighbour of this.#neighbours.values()) {
      const told = neighbour.hashes.get(chunk)
      if (told !== undefined && !sameBytes(told, hash)) this.#distrust(neighbour.id)
    }
    if (this.#has(chunk)) {
      return 'late'
    }
    return 'keep'
  }

  /** An origin read ended: all its chunks came (`undefined`), or it failed. */
  fetchEnded(
    fetchId: number,
    failure:
      | undefined
      | { readonly refused: boolean; readonly wholeOnly?: boolean; readonly retryAfterMs?: number },
    now: number,
  ): void {
    const fetch = this.#fetches.get(fetchId)
    if (fetch === undefined) return
    this.#endFetch(fetch)
    if (failure?.wholeOnly === true) this.#wholeOnly = true
    if (fetch.lease !== undefined) {
      this.#effects.push({
        type: 'lease-end',
        lease: fetch.lease,
        outcome: failure === undefined ? 'done' : 'failed',
        ...(failure?.wholeOnly === true ? { wholeOnly: true } : {}),
        ...(failure?.retryAfterMs === undefined ? {} : { retryAfterMs: failure.retryAfterMs }),
      })
    }
    if (failure !== undefined && failure.wholeOnly !== true) {
      // Reads that ran side by side fail together: that is one failure.
      if (fetchId >= this.#countFrom) {
        this.#originFailures++
        this.#countFrom = this.#nextFetch
      }
      if (failure.refused) this.#originRefused = true
      const backOff =
        Math.min(RETRY_MAX_MS, RETRY_BASE_MS * 2 ** Math.max(0, this.#originFailures - 1)) *
        (0.5 + this.#random())
      this.#originRetryAt = now + Math.max(backOff, failure.retryAfterMs ?? 0)
      this.#demanded = -1
      if (this.#hopeless()) this.#giveUp()
    }
    this.#pump(now)
  }

  // ---- chunks

  /** A chunk that was judged 'keep' is in the store; `by` says who sent it. */
  chunkStored(chunk: number, by: ChunkOrigin, now: number): void {
    if (by.kind === 'neighbour') {
      if (this.#pending[chunk]! > 0) this.#pending[chunk]! -= 1
      if (this.#verified !== undefined) this.#trusted.set(chunk)
      this.#rescuing = false
    } else {
      this.#trusted.set(chunk)
    }
    this.#lastByteAt = now
    this.#rescueAt = this.#nextRescue(now)
    for (const neighbour of this.#neighbours.values()) {
      if (!neighbour.inFlight.delete(chunk)) continue
      this.#unpend(chunk, true)
      this.#effects.push({ type: 'cancel', neighbour: neighbour.id, chunk })
    }
    this.#pump(now)
  }

  /** A chunk could not be stored after all, was dropped as wrong, or rotted on disk. */
  chunkLost(chunk: number, by: ChunkOrigin | undefined, now: number): void {
    if (by?.kind === 'neighbour' && this.#pending[chunk]! > 0) this.#pending[chunk]! -= 1
    this.#trusted.clear(chunk)
    this.#pump(now)
  }

  /** The blob's digest proved what a neighbour sent wrong: it is not asked again. */
  distrust(id: string, now: number): void {
    this.#distrust(id)
    this.#pump(now)
  }

  /** Chunks that only the origin may give from now on. */
  onlyFromOrigin(chunks: Iterable<number>, now: number): void {
    for (const chunk of chunks) this.#disputed.add(chunk)
    this.#pump(now)
  }

  /** Stops everything that runs: nobody wants the blob any more, or its download is over. */
  stop(): void {
    this.#active = false
    for (const neighbour of this.#neighbours.values()) {
      for (const chunk of neighbour.inFlight.keys()) {
        this.#unpend(chunk, true)
        this.#effects.push({ type: 'cancel', neighbour: neighbour.id, chunk })
      }
      neighbour.inFlight.clear()
    }
    for (const fetch of [...this.#fetches.values()]) {
      this.#endFetch(fetch)
      this.#effects.push({ type: 'stop-origin', fetch: fetch.id })
      if (fetch.lease !== undefined)
        this.#effects.push({ type: 'lease-end', lease: fetch.lease, outcome: 'released' })
    }
  }

  /** Moves time on: call about every 100 ms. */
  tick(now: number): void {
    if (!this.#active || this.#satisfied()) return
    if (now - this.#lastByteAt > this.#limits.giveUpAfterMs) {
      this.#giveUp()
      return
    }
    if (now >= this.#rescueAt && !this.#rescuing) this.#rescuing = true
    this.#hedge(now)
    this.#pump(now)
  }

  // ---- inside

  #has(chunk: number): boolean {
    return this.#held.has(chunk)
  }

  /** A strict reader waits for a chunk that is held but not believed: it has to be read from the origin. */
  #needsOrigin(chunk: number): boolean {
    if (this.#trusted.has(chunk)) return false
    for (const reader of this.#readers.values()) {
      const end = Math.min(reader.end, reader.position + this.#limits.readerWindow)
      if (reader.strict && chunk >= reader.position && chunk < end) return true
    }
    return false
  }

  #isMissing(chunk: number): boolean {
    return !this.#has(chunk) || this.#needsOrigin(chunk)
  }

  #satisfied(): boolean {
    if (!this.complete) return false
    for (const reader of this.#readers.values()) {
      if (!reader.strict) continue
      for (let chunk = reader.position; chunk < reader.end; chunk++)
        if (!this.#trusted.has(chunk)) return false
    }
    return true
  }

  #nextRescue(now: number): number {
    return now + this.#limits.rescueAfterMs * (1 + this.#random() / 2)
  }

  #firstNeeded(): number {
    let first = this.layout.count
    for (const reader of this.#readers.values())
      first = Math.min(first, this.#held.nextClear(reader.position))
    return first < this.layout.count
      ? first
      : Math.min(this.#held.nextClear(0), Math.max(0, this.layout.count - 1))
  }

  #giveUp(): void {
    this.stop()
    this.#effects.push({ type: 'give-up' })
  }

  /** The origin does not give it and no neighbour offers anything that is missing. */
  #hopeless(): boolean {
    if (!this.#originRefused && this.#originFailures < this.#limits.maxOriginFailures) return false
    if (this.#fetches.size > 0) return false
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.distrusted) continue
      for (const chunk of neighbour.held.indices()) {
        if (!this.#has(chunk) && !this.#disputed.has(chunk)) return false
      }
    }
    return true
  }

  #distrust(id: string): void {
    const neighbour = this.#neighbours.get(id)
    this.#effects.push({ type: 'blame', neighbour: id, deed: 'wrong-bytes' })
    if (neighbour === undefined || neighbour.distrusted) return
    neighbour.distrusted = true
    for (const chunk of neighbour.held.indices()) this.#availability[chunk]!--
    for (const chunk of [...neighbour.held.indices()]) neighbour.held.clear(chunk)
    neighbour.hashes.clear()
    for (const chunk of neighbour.inFlight.keys()) {
      this.#unpend(chunk, true)
      this.#effects.push({ type: 'cancel', neighbour: id, chunk })
    }
    neighbour.inFlight.clear()
  }

  #unpend(chunk: number, fromNeighbour: boolean): void {
    if (this.#pending[chunk]! > 0) this.#pending[chunk]! -= 1
    if (fromNeighbour) this.#inFlightBytes -= this.layout.length(chunk)
  }

  #startFetch(lease: number | undefined, from: number, to: number): void {
    const fetch: OriginFetch = { id: this.#nextFetch++, lease, from, to }
    this.#fetches.set(fetch.id, fetch)
    for (let chunk = from; chunk < to; chunk++) this.#pending[chunk]! += 1
    this.#effects.push({ type: 'fetch-origin', fetch: fetch.id, lease, from, to })
  }

  #endFetch(fetch: OriginFetch): void {
    this.#fetches.delete(fetch.id)
    for (let chunk = fetch.from; chunk < fetch.to; chunk++) this.#unpend(chunk, false)
  }

  #pump(now: number): void {
    if (!this.#active || this.#satisfied()) return
    for (const neighbour of this.#neighbours.values()) this.#fill(neighbour, now)
    this.#readOrigin(now)
  }

  #fill(neighbour: Neighbour, now: number): void {
    if (neighbour.distrusted || neighbour.restUntil > now) return
    const depth = neighbour.pipelineDepth(this.layout.chunkBytes)
    while (neighbour.inFlight.size < depth && this.#inFlightBytes < this.#limits.maxInFlightBytes) {
      const chunk = pickChunk(
        neighbour.held,
        {
          count: this.layout.count,
          isWanted: c => !this.#has(c) && this.#pending[c] === 0 && !this.#disputed.has(c),
          availability: c => this.#availability[c]!,
          readers: this.#readerPositions(),
        },
        this.#limits.readerWindow,
        this.#random,
      )
      if (chunk === undefined) return
      this.#request(neighbour, chunk, now)
    }
  }

  #readerPositions(): number[] {
    return [...this.#readers.values()].map(reader => this.#held.nextClear(reader.position))
  }

  #request(neighbour: Neighbour, chunk: number, now: number): void {
    neighbour.inFlight.set(chunk, now)
    this.#pending[chunk]! += 1
    this.#inFlightBytes += this.layout.length(chunk)
    this.#effects.push({ type: 'request', neighbour: neighbour.id, chunk })
  }

  /** Asks a second neighbour for chunks that are much later than their neighbour's pace explains. */
  #hedge(now: number): void {
    for (const slow of this.#neighbours.values()) {
      for (const [chunk, since] of slow.inFlight) {
        const age = now - since
        if (age < this.#limits.hedgeAfterMs || this.#pending[chunk]! > 1) continue
        const expected = slow.expectedMs(this.layout.chunkBytes)
        if (expected !== undefined && age < 3 * expected) continue
        for (const other of this.#neighbours.values()) {
          const idle = other.inFlight.size < MAX_HEDGES && !other.distrusted && other.restUntil <= now
          if (other === slow || !idle || !other.held.has(chunk)) continue
          this.#request(other, chunk, now)
          break
        }
      }
    }
  }

  #readOrigin(now: number): void {
    this.#updateDemand(now)
    if (this.#fetches.size >= this.#limits.maxOriginFetches || now < this.#originRetryAt) return
    if (this.#originRefused && !this.#rescuing) return
    if (this.#ownRule(now)) {
      this.#fetchFree(chunk => this.#isMissing(chunk))
    } else if (this.#disputed.size > 0 || this.#hasStrictReader()) {
      // The scheduler sees no need, since these are held somewhere; but only the origin's own bytes will do.
      this.#fetchFree(chunk => this.#needsOrigin(chunk) || (this.#disputed.has(chunk) && !this.#has(chunk)))
    }
  }

  /** No scheduler, a silent one, or no progress under it: this peer reads the origin on its own account. */
  #ownRule(now: number): boolean {
    if (!this.#schedulerUp) return true
    if (!this.#schedulerAnswered) return now - this.#startedAt >= this.#limits.schedulerPatienceMs
    return this.#rescuing
  }

  #hasStrictReader(): boolean {
    for (const reader of this.#readers.values()) if (reader.strict) return true
    return false
  }

  #fetchFree(wanted: (chunk: number) => boolean): void {
    const offered = (chunk: number): boolean =>
      this.#availability[chunk]! > 0 &&
      !this.#disputed.has(chunk) &&
      !this.#needsOrigin(chunk) &&
      !this.#rescuing
    while (this.#fetches.size < (this.#wholeOnly ? 1 : this.#limits.maxOriginFetches)) {
      const run = firstFreeRun(
        this.layout.count,
        this.#wholeOnly ? this.layout.count : runChunks(this.layout),
        this.#firstWanted(wanted),
        chunk => wanted(chunk) && this.#pending[chunk] === 0 && !offered(chunk),
      )
      if (run === undefined) return
      this.#startFetch(undefined, run.from, run.to)
    }
  }

  #firstWanted(wanted: (chunk: number) => boolean): number {
    let first = this.layout.count
    for (const reader of this.#readers.values()) {
      for (let chunk = reader.position; chunk < Math.min(reader.end, first); chunk++) {
        if (wanted(chunk)) {
          first = chunk
          break
        }
      }
    }
    return first < this.layout.count ? first : 0
  }

  #updateDemand(now: number): void {
    if (!this.#schedulerUp) return
    const resting = now < this.#originRetryAt || this.#originRefused
    const most = this.#wholeOnly ? 1 : this.#limits.maxOriginFetches
    const slots = this.complete || resting ? 0 : Math.max(0, most - this.#fetches.size)
    if (slots === this.#demanded) return
    this.#demanded = slots
    this.#effects.push({ type: 'lease-demand', slots, from: this.#firstNeeded() })
  }
}

const MAX_HEDGES = 2

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
