import type { ReadonlyBitfield } from './bitfield.ts'
import { BlobUploads, type Need, type Receiver } from './blob-uploads.ts'
import type { Random } from './random.ts'
import { DEFAULT_UPLOAD_LIMITS, type UploadEffect, type UploadLimits } from './upload-contract.ts'
import { UploadPace } from './upload-pace.ts'
import { type UploadRequest, UploadQueue } from './upload-queue.ts'

/** Slots that are never exceeded, however far away the neighbours are. */
const MAX_DEPTH = 32
/** Where chunks take longer than this one after another, none is promised ahead, ms. */
const SLOW_MS = 2_000
/**
 * Slots beside what is being sent, for each chunk that passes in a round trip: some are passed back or answered late, and the
 * uplink idles when none is left.
 */
const SLOTS_PER_PASSING = 1.5
const ROUND_TRIP_WEIGHT = 0.2
/** A neighbour's answer to a slot is thought to take so long while no one has answered any, ms. */
const FIRST_ROUND_TRIP_MS = 50

/**
 * The decisions of one peer that gives chunks: which neighbour may ask next, and what is sent when. It performs nothing:
 * each event updates the state, and {@link takeEffects} tells what to do. One plan serves all blobs, since they share
 * the uplink.
 *
 * The uploader offers its next free moment as a *slot* to the neighbour that waits for the fewest chunks of those that
 * lack something, for the blob of which it has offered none for longest, and of these to one that lacks the most; the neighbour answers with a request or passes. So requests do not pile up at those who were first to
 * have a chunk, and nobody idles while others have queues. At most one slot more than what hides a round trip is open.
 * A chunk that will be whole within a round trip is offered already.
 */
export class UploadPlan {
  readonly #limits: UploadLimits
  readonly #random: Random
  readonly #pace: UploadPace
  readonly #blobs = new Map<string, BlobUploads>()
  readonly #receivers = new Map<string, Receiver>()
  /** Those that lack something and have not passed. */
  readonly #hungry = new Set<Need>()
  readonly #requests = new UploadQueue()
  /** Slots without an answer, requests that are ready and chunks that are sent. */
  #engaged = 0
  #roundTripMs = 0
  /** Slots that were given: they only ever grow. */
  #given = 0
  /** No open slot was given before this time, ms. */
  #oldestSlotAt = Number.NEGATIVE_INFINITY
  #effects: UploadEffect[] = []

  constructor(random: Random, limits: Partial<UploadLimits> = {}) {
    this.#limits = { ...DEFAULT_UPLOAD_LIMITS, ...limits }
    this.#random = random
    this.#pace = new UploadPace(this.#limits.minUploads, this.#limits.maxUploads, this.#limits.queueRatio)
  }

  /** What is to be done since the last call. */
  takeEffects(): UploadEffect[] {
    const effects = this.#effects
    if (effects.length > 0) this.#effects = []
    return effects
  }

  /** A blob that neighbours are interested in, and what is held of it. Opened again, it stays as it is unless its size is another. */
  open(blob: string, held: ReadonlyBitfield): void {
    const known = this.#blobs.get(blob)
    if (known?.count === held.length) return
    if (known !== undefined) this.close(blob)
    const uploads = new BlobUploads({
      blob,
      held,
      receiver: id => this.#receiver(id),
      onNeed: need => void this.#hungry.add(need),
    })
    this.#blobs.set(blob, uploads)
  }

  /** Nobody is interested in a blob any more, or it is gone. */
  close(blob: string): void {
    const uploads = this.#blobs.get(blob)
    if (uploads === undefined) return
    this.#blobs.delete(blob)
    for (const need of [...uploads.needs()]) this.#left(uploads, need.receiver.id)
  }

  // ---- neighbours

  /** A neighbour is interested in an open blob, and holds this. Said again, it replaces what was known; requests stay. */
  neighbourUp(blob: string, id: string, held: ReadonlyBitfield, now: number): void {
    const uploads = this.#blobs.get(blob)
    if (uploads === undefined) return
    this.#forgetNeed(uploads, id)
    uploads.up(id, held)
    for (const request of this.#requests) {
      if (request.to === id && request.uploads === uploads) uploads.covers(id, request.chunk)
    }
    this.#give(now)
  }

  /** A neighbour left a blob. */
  neighbourLeft(blob: string, id: string, now: number): void {
    const uploads = this.#blobs.get(blob)
    if (uploads === undefined) return
    this.#left(uploads, id)
    this.#forgetReceiver(id)
    this.#next(now)
  }

  /** A neighbour holds a chunk; it waits for `load` chunks in all. */
  neighbourHas(blob: string, id: string, chunk: number, load: number): void {
    this.#blobs.get(blob)?.has(id, chunk)
    this.#loaded(id, load)
  }

  /** A neighbour expects a chunk from someone; it waits for `load` chunks in all. */
  neighbourExpects(blob: string, id: string, chunk: number, load: number): void {
    this.#blobs.get(blob)?.covers(id, chunk)
    this.#loaded(id, load)
  }

  /** A neighbour lost a chunk, or expects it no longer. */
  neighbourLacks(blob: string, id: string, chunk: number, now: number): void {
    this.#blobs.get(blob)?.lacks(id, chunk)
    this.#give(now)
  }

  /** A neighbour that passed wants to be asked again. */
  neighbourWants(blob: string, id: string, now: number): void {
    this.#blobs.get(blob)?.wants(id)
    this.#give(now)
  }

  // ---- what is on offer

  /** A chunk is held now. */
  chunkHeld(blob: string, chunk: number, now: number): void {
    const uploads = this.#blobs.get(blob)
    if (uploads === undefined) return
    uploads.held(chunk)
    for (const request of this.#requests) {
      if (request.state !== 'parked' || request.uploads !== uploads || request.chunk !== chunk) continue
      request.state = 'ready'
      this.#engaged++
    }
    this.#next(now)
  }

  /** A chunk will be held in about `inMs`, unless it proves wrong. */
  chunkComing(blob: string, chunk: number, inMs: number, now: number): void {
    if (inMs > (this.#roundTripMs || FIRST_ROUND_TRIP_MS)) return
    if (this.#blobs.get(blob)?.coming(chunk) === true) this.#give(now)
  }

  /** A chunk is not held any more, or did not come after all. */
  chunkLost(blob: string, chunk: number, now: number): void {
    const uploads = this.#blobs.get(blob)
    if (uploads === undefined) return
    uploads.lost(chunk)
    for (const request of this.#requests) {
      if (request.uploads !== uploads || request.chunk !== chunk || request.state === 'sending') continue
      this.#refuse(request.to, blob, chunk, 'missing')
      this.#dequeue(request)
    }
    this.#next(now)
  }

  // ---- requests

  /** A neighbour requests a chunk, with a slot or without one. */
  requested(blob: string, id: string, chunk: number, now: number): void {
    const uploads = this.#blobs.get(blob)
    const need = uploads?.need(id)
    if (uploads === undefined || need === undefined) return this.#refuse(id, blob, chunk, 'missing')
    // Whoever asks has a use for slots, whatever it said of another one: its words may come in another order than it chose them.
    need.passed = false
    const isOffered = uploads.isOffered(chunk)
    const givenAt = this.#slotAnswered(need, isOffered ? chunk : undefined)
    if (givenAt !== undefined) this.#measure(now - givenAt)
    if (need.lacking > need.open.length) this.#hungry.add(need)
    need.receiver.silent = 0
    if (!isOffered) {
      this.#refuse(id, blob, chunk, 'missing')
    } else if (
      this.#requests.find(blob, id, chunk) !== undefined ||
      this.#requests.countOf(id) >= this.#limits.maxWaiting
    ) {
      this.#refuse(id, blob, chunk, 'busy')
    } else {
      uploads.covers(id, chunk)
      const state = uploads.isHeld(chunk) ? 'ready' : 'parked'
      this.#requests.add({ to: id, uploads, chunk, at: now, state, startedAt: now })
      if (state === 'ready') this.#engaged++
    }
    this.#next(now)
  }

  /** A neighbour does not want a chunk any more that it requested. */
  cancelled(blob: string, id: string, chunk: number, now: number): void {
    const request = this.#requests.find(blob, id, chunk)
    if (request === undefined || request.state === 'sending') return
    this.#dequeue(request)
    this.#next(now)
  }

  /** A neighbour has no use for its slot. */
  passed(blob: string, id: string, now: number): void {
    const need = this.#blobs.get(blob)?.need(id)
    if (need === undefined || this.#slotAnswered(need, undefined) === undefined) return
    need.receiver.silent = 0
    need.passed = true
    this.#give(now)
  }

  /** A chunk has arrived, or sending it came to nothing. */
  sent(blob: string, id: string, chunk: number, whole: boolean, now: number): void {
    const request = this.#requests.find(blob, id, chunk)
    if (request?.state !== 'sending') return
    this.#requests.delete(request)
    // Whoever has got a chunk counts as holding one, whatever it says: it is not waited for again.
    const need = whole ? request.uploads.need(id) : undefined
    if (need !== undefined) need.empty = false
    this.#engaged--
    this.#pace.ended(whole, request.startedAt, now)
    this.#next(now)
  }

  /** Moves time on: call about every 100 ms. */
  tick(now: number): void {
    if (now - this.#oldestSlotAt >= this.#limits.slotMs) this.#takeSlotsBack(now)
    for (const request of this.#requests) {
      if (request.state === 'sending' || now - request.at < this.#limits.waitMs) continue
      this.#refuse(request.to, request.uploads.blob, request.chunk, 'busy')
      this.#dequeue(request)
    }
    this.#next(now)
  }

  // ---- inside

  #takeSlotsBack(now: number): void {
    this.#oldestSlotAt = now
    for (const uploads of this.#blobs.values()) {
      for (const need of uploads.needs()) {
        while (need.open.length > 0 && now - need.open[0]!.at >= this.#limits.slotMs) {
          // Whoever is silent comes after others, but is not forgotten: its answer may have come too late.
          need.receiver.silent++
          need.passed = false
          this.#slotAnswered(need, undefined)
        }
        this.#oldestSlotAt = Math.min(this.#oldestSlotAt, need.open[0]?.at ?? now)
      }
    }
  }

  #next(now: number): void {
    this.#send(now)
    this.#give(now)
  }

  #send(now: number): void {
    while (this.#requests.size > this.#pace.sending) {
      const request = this.#requests.next()
      if (request === undefined) return
      if (this.#requests.isFirstUnderWay(request) && this.#pace.sending >= this.#firstDepth()) return
      if (!this.#pace.mayStart(now)) return
      this.#requests.started(request, now)
      this.#pace.started(now)
      this.#effects.push({ type: 'send', to: request.to, blob: request.uploads.blob, chunk: request.chunk })
    }
  }

  #give(now: number): void {
    const depth = this.#depth()
    while (this.#engaged < depth) {
      const need = this.#hungriest()
      if (need === undefined) return
      const { uploads, receiver } = need
      if (need.empty && this.#engaged > this.#firstDepth()) return
      const chunk = uploads.suggest(need)
      if (chunk < 0) {
        this.#hungry.delete(need)
        continue
      }
      uploads.opened(need, chunk, now)
      uploads.offeredAt = ++this.#given
      this.#engaged++
      this.#effects.push({ type: 'slot', to: receiver.id, blob: uploads.blob, chunk })
    }
  }

  /** Slots and sendings at the same moment: those that are sent, and enough for what passes in a round trip. */
  #depth(): number {
    const interval = this.#pace.intervalMs
    if (interval === 0) return this.#limits.minUploads + 1
    if (interval > SLOW_MS) return this.#pace.allowed
    return Math.min(
      MAX_DEPTH,
      this.#pace.allowed + Math.max(1, Math.ceil((SLOTS_PER_PASSING * this.#roundTripMs) / interval)),
    )
  }

  /**
   * Chunks on their way at the same moment while one of them goes to a neighbour that holds nothing: no more than hide a round trip. What
   * shares the uplink with it makes it late, and those to whom it could be passed on.
   */
  #firstDepth(): number {
    const interval = this.#pace.intervalMs
    return 1 + (interval === 0 ? 1 : Math.max(1, Math.ceil(this.#roundTripMs / interval)))
  }

  /** Blobs take turns: one of few chunks, which many wait for as they begin, would come last behind all that lack more of others. */
  #hungriest(): Need | undefined {
    let best: Need | undefined
    let least = Number.POSITIVE_INFINITY
    let ties = 0
    for (const need of this.#hungry) {
      if (need.passed || need.lacking <= need.open.length) {
        this.#hungry.delete(need)
        continue
      }
      const { slots, silent } = need.receiver
      if (silent > 0 && slots > 0) continue
      const load = need.receiver.load + slots + silent
      const more =
        best === undefined
          ? 1
          : best.uploads.offeredAt - need.uploads.offeredAt || need.lacking - best.lacking
      if (load < least || (load === least && more > 0)) {
        best = need
        least = load
        ties = 1
      } else if (load === least && more === 0 && this.#random() * ++ties < 1) {
        best = need
      }
    }
    return best
  }

  #loaded(id: string, load: number): void {
    const receiver = this.#receivers.get(id)
    if (receiver !== undefined) receiver.load = load
  }

  #slotAnswered(need: Need, chunk: number | undefined): number | undefined {
    const givenAt = need.uploads.answered(need, chunk)
    if (givenAt === undefined) return undefined
    this.#engaged--
    if (need.lacking > need.open.length && !need.passed) this.#hungry.add(need)
    return givenAt
  }

  #refuse(to: string, blob: string, chunk: number, reason: 'missing' | 'busy'): void {
    this.#effects.push({ type: 'refuse', to, blob, chunk, reason })
  }

  #dequeue(request: UploadRequest): void {
    this.#requests.delete(request)
    if (request.state === 'ready') this.#engaged--
  }

  #left(uploads: BlobUploads, id: string): void {
    this.#forgetNeed(uploads, id)
    uploads.down(id)
    for (const request of this.#requests) {
      if (request.to !== id || request.uploads !== uploads || request.state === 'sending') continue
      this.#refuse(id, uploads.blob, request.chunk, 'missing')
      this.#dequeue(request)
    }
  }

  #forgetNeed(uploads: BlobUploads, id: string): void {
    const need = uploads.need(id)
    if (need === undefined) return
    this.#engaged -= need.open.length
    this.#hungry.delete(need)
  }

  #measure(roundTrip: number): void {
    const known = this.#roundTripMs
    this.#roundTripMs = known === 0 ? roundTrip : known + ROUND_TRIP_WEIGHT * (roundTrip - known)
  }

  #receiver(id: string): Receiver {
    let receiver = this.#receivers.get(id)
    if (receiver === undefined) this.#receivers.set(id, (receiver = { id, load: 0, slots: 0, silent: 0 }))
    return receiver
  }

  #forgetReceiver(id: string): void {
    for (const uploads of this.#blobs.values()) if (uploads.need(id) !== undefined) return
    this.#receivers.delete(id)
  }
}
