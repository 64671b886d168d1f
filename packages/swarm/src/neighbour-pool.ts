import type { ReadonlyBitfield } from './bitfield.ts'
import type { ChunkLayout } from './layout.ts'
import { Neighbour } from './neighbour.ts'
import type { PendingChunks } from './pending.ts'
import { pickChunk } from './picker.ts'
import type { Random } from './random.ts'
import type { ReaderSet } from './readers.ts'
import { restMs } from './retry.ts'
import type { LinkDeed, SessionEffect, SessionLimits } from './session-contract.ts'

/** A neighbour with more requests than this in flight is not asked for another one's late chunks. */
const MAX_HEDGES = 2
/** A request that takes this many times what its neighbour's pace explains is late. */
const LATE_FACTOR = 3

/** What a pool shares with its session. */
export interface PoolContext {
  readonly layout: ChunkLayout
  readonly held: ReadonlyBitfield
  readonly pending: PendingChunks
  readonly readers: ReaderSet
  /** Chunks that only the origin may give: neighbours contradict each other about them. */
  readonly disputed: Set<number>
  readonly random: Random
  readonly limits: SessionLimits
  readonly emit: (effect: SessionEffect) => void
}

/** The neighbours of one download: what each holds, what each was asked for, who is believed. */
export class NeighbourPool {
  readonly #context: PoolContext
  readonly #neighbours = new Map<string, Neighbour>()
  readonly #availability: Uint16Array
  #verified: readonly Uint8Array[] | undefined
  #inFlightBytes = 0
  /** Chunks that a stalled neighbour had offered: the scheduler believes they can be had, and leases them to nobody. */
  readonly #orphans = new Set<number>()

  constructor(context: PoolContext) {
    this.#context = context
    this.#availability = new Uint16Array(context.layout.count)
  }

  /** The verified chunk list, against which everything is judged once it is known. */
  set verified(hashes: readonly Uint8Array[] | undefined) {
    this.#verified = hashes
  }

  get verified(): readonly Uint8Array[] | undefined {
    return this.#verified
  }

  up(id: string): void {
    if (!this.#neighbours.has(id)) this.#neighbours.set(id, new Neighbour(id, this.#context.layout))
  }

  /** `deed` names what it did, when its end was not in order. */
  down(id: string, deed: LinkDeed | undefined): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour === undefined) return
    this.#neighbours.delete(id)
    for (const chunk of neighbour.held.indices()) this.#availability[chunk]!--
    const waiting = neighbour.inFlight.size > 0
    this.#cancelAll(neighbour)
    if (deed === 'stalled') for (const chunk of neighbour.held.indices()) this.#orphans.add(chunk)
    if (deed !== undefined && waiting) this.#context.emit({ type: 'blame', neighbour: id, deed })
  }

  /** Some chunks may be missing that only a stalled neighbour had offered. */
  get anyOrphans(): boolean {
    return this.#orphans.size > 0
  }

  /** Only a stalled neighbour had offered the chunk, and nobody does now. */
  isOrphan(chunk: number): boolean {
    return this.#orphans.has(chunk) && !this.offers(chunk)
  }

  /** A neighbour said that it holds a chunk with this sha256. */
  has(id: string, chunk: number, hash: Uint8Array): void {
    const neighbour = this.#neighbours.get(id)
    const { layout, held, disputed } = this.#context
    if (neighbour === undefined || neighbour.distrusted || chunk < 0 || chunk >= layout.count) return
    if (neighbour.held.set(chunk)) this.#availability[chunk]!++
    neighbour.hashes.set(chunk, hash)
    if (this.#verified !== undefined || held.has(chunk)) return
    for (const other of this.#neighbours.values()) {
      const told = other.hashes.get(chunk)
      // Someone lies; only the origin can tell who.
      if (other !== neighbour && told !== undefined && !sameBytes(told, hash)) disputed.add(chunk)
    }
  }

  lost(id: string, chunk: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour?.held.clear(chunk) !== true) return
    this.#availability[chunk]!--
    neighbour.hashes.delete(chunk)
  }

  /** Whether some neighbour holds a chunk. */
  offers(chunk: number): boolean {
    return this.#availability[chunk]! > 0
  }

  /** Whether a neighbour could give anything that is missing. */
  get offersMissing(): boolean {
    const { held, disputed } = this.#context
    for (const neighbour of this.#neighbours.values()) {
      for (const chunk of neighbour.held.indices()) if (!held.has(chunk) && !disputed.has(chunk)) return true
    }
    return false
  }

  /**
   * Notes that a requested chunk came; false when it cannot be judged any more, or its sender told another hash for it:
   * it is distrusted then.
   */
  arrived(id: string, chunk: number, hash: Uint8Array, now: number): boolean {
    const neighbour = this.#neighbours.get(id)
    if (neighbour?.inFlight.has(chunk) === true) {
      neighbour.arrived(chunk, this.#context.layout.length(chunk), now)
      this.#ended(chunk)
    }
    const expected = this.#verified?.[chunk] ?? neighbour?.hashes.get(chunk)
    if (expected !== undefined && sameBytes(expected, hash)) return true
    // It was left, or lost the chunk, while its answer was under way: then nothing can be held against it.
    if (expected !== undefined) this.distrust(id)
    return false
  }

  /** A request came to nothing: the neighbour is left alone for a while. */
  failed(id: string, chunk: number, reason: 'missing' | 'busy' | 'failed', now: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour === undefined || !neighbour.inFlight.delete(chunk)) return
    this.#ended(chunk)
    neighbour.failures++
    if (reason === 'missing') this.lost(id, chunk)
    neighbour.restUntil = now + restMs(neighbour.failures, this.#context.random)
  }

  /** The origin's own bytes of a chunk have this hash: whoever told another one lied. */
  provedByOrigin(chunk: number, hash: Uint8Array): void {
    for (const neighbour of [...this.#neighbours.values()]) {
      const told = neighbour.hashes.get(chunk)
      if (told !== undefined && !sameBytes(told, hash)) this.distrust(neighbour.id)
    }
  }

  /** It sent or told something wrong: it is blamed, and not asked again for this blob. */
  distrust(id: string): void {
    const neighbour = this.#neighbours.get(id)
    this.#context.emit({ type: 'blame', neighbour: id, deed: 'wrong-bytes' })
    if (neighbour === undefined || neighbour.distrusted) return
    neighbour.distrusted = true
    for (const chunk of [...neighbour.held.indices()]) {
      this.#availability[chunk]!--
      neighbour.held.clear(chunk)
    }
    neighbour.hashes.clear()
    this.#cancelAll(neighbour)
  }

  /** A chunk is held now: nobody needs to send it any more. */
  cancel(chunk: number): void {
    for (const neighbour of this.#neighbours.values()) {
      if (!neighbour.inFlight.delete(chunk)) continue
      this.#ended(chunk)
      this.#context.emit({ type: 'cancel', neighbour: neighbour.id, chunk })
    }
  }

  stop(): void {
    for (const neighbour of this.#neighbours.values()) this.#cancelAll(neighbour)
  }

  /** Requests chunks from every neighbour that has room for more. */
  fill(now: number): void {
    for (const neighbour of this.#neighbours.values()) this.#fillOne(neighbour, now)
  }

  /** Asks a second neighbour for chunks that are much later than their neighbour's pace explains. */
  hedge(now: number): void {
    const { pending } = this.#context
    for (const slow of this.#neighbours.values()) {
      for (const [chunk, since] of slow.inFlight) {
        if (pending.isShared(chunk) || !this.#isLate(slow, now - since)) continue
        const other = this.#idleHolder(chunk, slow, now)
        if (other !== undefined) this.#request(other, chunk, now)
      }
    }
  }

  #isLate(neighbour: Neighbour, ageMs: number): boolean {
    const { layout, limits } = this.#context
    const expected = neighbour.expectedMs(layout.chunkBytes)
    return ageMs >= limits.hedgeAfterMs && (expected === undefined || ageMs >= LATE_FACTOR * expected)
  }

  #idleHolder(chunk: number, except: Neighbour, now: number): Neighbour | undefined {
    for (const other of this.#neighbours.values()) {
      const idle = other.inFlight.size < MAX_HEDGES && other.restUntil <= now
      if (other !== except && idle && other.held.has(chunk)) return other
    }
    return undefined
  }

  #fillOne(neighbour: Neighbour, now: number): void {
    if (neighbour.distrusted || neighbour.restUntil > now) return
    const { layout, held, pending, disputed, readers, limits, random } = this.#context
    const depth = neighbour.pipelineDepth(layout.chunkBytes)
    while (neighbour.inFlight.size < depth && this.#inFlightBytes < limits.maxInFlightBytes) {
      const chunk = pickChunk(
        neighbour.held,
        {
          count: layout.count,
          isWanted: c => !held.has(c) && pending.isFree(c) && !disputed.has(c),
          availability: c => this.#availability[c]!,
          readers: readers.positions(),
        },
        limits.readerWindow,
        random,
      )
      if (chunk === undefined) return
      this.#request(neighbour, chunk, now)
    }
  }

  #request(neighbour: Neighbour, chunk: number, now: number): void {
    neighbour.inFlight.set(chunk, now)
    this.#context.pending.begin(chunk)
    this.#inFlightBytes += this.#context.layout.length(chunk)
    this.#context.emit({ type: 'request', neighbour: neighbour.id, chunk })
  }

  #ended(chunk: number): void {
    this.#context.pending.end(chunk)
    this.#inFlightBytes -= this.#context.layout.length(chunk)
  }

  #cancelAll(neighbour: Neighbour): void {
    for (const chunk of neighbour.inFlight.keys()) {
      this.#ended(chunk)
      this.#context.emit({ type: 'cancel', neighbour: neighbour.id, chunk })
    }
    neighbour.inFlight.clear()
  }
}

/** Whether two hashes are equal. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
