import { BitfieldShelf } from './bitfield.ts'
import { Holdings } from './holdings.ts'
import { Neighbour, type Request } from './neighbour.ts'
import { pickChunk } from './picker.ts'
import { Requests } from './requests.ts'
import { restMs } from './retry.ts'
import type { SessionContext } from './session-context.ts'
import type { LinkDeed } from './session-contract.ts'
import { sameBytes } from './told-hashes.ts'

/** A neighbour with as many requests in flight as this is not asked for anything without a slot. */
const MAX_UNASKED = 2
/** A request that takes this many times what its neighbour usually takes is late. */
const LATE_FACTOR = 3

/** The neighbours of one download: whom to ask for what, and who is asked no more. */
export class NeighbourPool {
  readonly #context: SessionContext
  readonly #neighbours = new Map<string, Neighbour>()
  readonly #holdings: Holdings
  readonly #requests: Requests
  readonly #shelf: BitfieldShelf
  /** Neighbours were told to wait because too much was in flight. */
  #full = false
  /** Some neighbour may have been told to wait. */
  #anyPassed = false
  /** No request is older than since then, ms. */
  #oldestAt = Number.NEGATIVE_INFINITY

  constructor(context: SessionContext) {
    this.#context = context
    this.#holdings = new Holdings(context.layout.count, this.#neighbours)
    this.#requests = new Requests(context)
    this.#shelf = new BitfieldShelf(context.layout.count)
  }

  /** Something is asked for. */
  get busy(): boolean {
    return this.#requests.any
  }

  /** Neighbours. */
  get size(): number {
    return this.#neighbours.size
  }

  /** Neighbours that have said what they hold. */
  get introduced(): number {
    let count = 0
    for (const neighbour of this.#neighbours.values()) if (neighbour.introduced) count++
    return count
  }

  introducedBy(id: string): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour !== undefined) neighbour.introduced = true
  }

  up(id: string, far: boolean): void {
    if (!this.#neighbours.has(id)) this.#neighbours.set(id, new Neighbour(id, far, this.#shelf))
  }

  /** `deed` names what it did, when its end was not in order. */
  down(id: string, deed: LinkDeed | undefined): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour === undefined) return
    this.#neighbours.delete(id)
    this.#holdings.gone(neighbour, deed === 'stalled')
    const waiting = neighbour.inFlight.size > 0
    this.#requests.callOff(neighbour)
    if (deed !== undefined && waiting) this.#context.emit({ type: 'blame', neighbour: id, deed })
  }

  /** Some chunks may be missing that only a stalled neighbour had offered. */
  get anyOrphans(): boolean {
    return this.#holdings.anyOrphans
  }

  /** Only a stalled neighbour had offered the chunk, and nobody does now. */
  isOrphan(chunk: number): boolean {
    return this.#holdings.isOrphan(chunk)
  }

  /** A neighbour said that it holds a chunk with this sha256. */
  has(id: string, chunk: number, hash: Uint8Array): void {
    const neighbour = this.#neighbours.get(id)
    const { layout, held, belief } = this.#context
    if (neighbour === undefined || neighbour.distrusted || chunk < 0 || chunk >= layout.count) return
    const isContradicted = this.#holdings.has(neighbour, chunk, hash) === 'contradicted'
    // Someone lies; only the origin can tell who.
    if (isContradicted && belief.list === undefined && !held.has(chunk)) belief.dispute(chunk)
  }

  /** A neighbour expects a chunk from someone else. */
  expects(id: string, chunk: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour !== undefined && !neighbour.distrusted) this.#holdings.expects(neighbour, chunk)
  }

  lost(id: string, chunk: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour !== undefined) this.#holdings.lost(neighbour, chunk)
  }

  /** Whether some neighbour holds a chunk. */
  offers(chunk: number): boolean {
    return this.#holdings.holders(chunk) > 0
  }

  /** Whether a neighbour could give anything that is missing. */
  get offersMissing(): boolean {
    const { held, belief } = this.#context
    for (const neighbour of this.#neighbours.values()) {
      for (const chunk of neighbour.held.indices())
        if (!held.has(chunk) && !belief.isDisputed(chunk)) return true
    }
    return false
  }

  /** A neighbour may be asked for a chunk now, and suggests one: it is asked, for that or a better one, or told to pass. */
  slot(id: string, suggestion: number, now: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour === undefined) return this.#context.emit({ type: 'pass', neighbour: id })
    this.#full = this.#requests.full
    const mayAsk = !this.#full && !neighbour.distrusted && neighbour.restUntil <= now
    const chunk = mayAsk ? (this.#pick(neighbour, suggestion, now) ?? this.#steal(neighbour, now)) : undefined
    neighbour.idleSince = undefined
    neighbour.poked = undefined
    neighbour.passed = chunk === undefined
    this.#anyPassed ||= neighbour.passed
    if (chunk === undefined) this.#context.emit({ type: 'pass', neighbour: id })
    else this.#requests.ask(neighbour, chunk, now)
  }

  /** The first bytes of a requested chunk came. */
  began(id: string, chunk: number): void {
    const request = this.#neighbours.get(id)?.inFlight.get(chunk)
    if (request !== undefined) request.began = true
  }

  /** Asks, without waiting for a slot, for what a reader of a range waits for, if it would believe it. */
  urge(now: number): void {
    const { readers, belief } = this.#context
    if (belief.list === undefined) return
    for (const { from, to } of readers.strictWindows()) {
      for (let chunk = from; chunk < to; chunk++) {
        if (!this.offers(chunk) || !this.#isMissing(chunk)) continue
        const holder = this.#idlest(chunk, undefined, now)
        if (holder !== undefined) this.#requests.ask(holder, chunk, now)
      }
    }
  }

  /** Asks someone without a slot when nothing is in flight though there is something to be had: slots may be long in coming. */
  poke(now: number): void {
    if (this.busy) return
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.distrusted || neighbour.restUntil > now || neighbour.held.count === 0) continue
      neighbour.idleSince ??= now
      if (now - neighbour.idleSince < this.#context.limits.pokeAfterMs) continue
      if (this.#poke(neighbour, now)) return
    }
  }

  /** What a neighbour was asked for without a slot has come: as long as it gives none it is asked for the next one at once. */
  pokeOn(id: string, chunk: number, now: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour?.poked !== chunk) return
    neighbour.poked = undefined
    if (!this.busy) this.#poke(neighbour, now)
  }

  /** Neighbours whose slots were of no use are asked for slots again if they would be of use now. */
  wantAgain(now: number): void {
    if (!this.#anyPassed) return
    this.#anyPassed = false
    for (const neighbour of this.#neighbours.values()) {
      this.#anyPassed ||= neighbour.passed
      if (!neighbour.passed || neighbour.distrusted || neighbour.restUntil > now) continue
      if (this.#pick(neighbour, undefined, now) === undefined) continue
      neighbour.passed = false
      this.#context.emit({ type: 'want', neighbour: neighbour.id })
    }
  }

  /**
   * Notes that a requested chunk came; false when it cannot be judged any more, or its sender told another hash for it:
   * it is distrusted then.
   */
  arrived(id: string, chunk: number, hash: Uint8Array, now: number): boolean {
    const neighbour = this.#neighbours.get(id)
    const wasAsked = neighbour !== undefined && this.#requests.arrived(neighbour, chunk, now)
    if (wasAsked && this.#full && !this.#requests.full) {
      this.#full = false
      this.wantAgain(now)
    }
    const told = neighbour && this.#holdings.told(neighbour, chunk)
    const expected = this.#context.belief.list?.[chunk] ?? told
    if (expected !== undefined && sameBytes(expected, hash)) {
      if (neighbour !== undefined) neighbour.failures = 0
      return true
    }
    if (expected !== undefined) this.distrust(id)
    // It was left, or lost the chunk, while its answer was under way: that is no lie, but of no use either.
    else if (neighbour !== undefined) this.#rest(neighbour, now)
    return false
  }

  /** A request came to nothing: the neighbour is left alone for a while. */
  failed(id: string, chunk: number, reason: 'missing' | 'busy' | 'failed', now: number): void {
    const neighbour = this.#neighbours.get(id)
    if (neighbour === undefined || !this.#requests.failed(neighbour, chunk)) return
    if (reason === 'missing') this.#holdings.lost(neighbour, chunk)
    this.#rest(neighbour, now)
    this.#requests.unexpect(chunk)
  }

  /** The origin's own bytes of a chunk have this hash: whoever told another one lied. */
  provedByOrigin(chunk: number, hash: Uint8Array): void {
    for (const neighbour of [...this.#neighbours.values()]) {
      const told = this.#holdings.told(neighbour, chunk)
      if (told !== undefined && !sameBytes(told, hash)) this.distrust(neighbour.id)
    }
  }

  /** It sent or told something wrong: it is blamed, and not asked again for this blob. */
  distrust(id: string): void {
    const neighbour = this.#neighbours.get(id)
    this.#context.emit({ type: 'blame', neighbour: id, deed: 'wrong-bytes' })
    if (neighbour === undefined || neighbour.distrusted) return
    neighbour.distrusted = true
    this.#holdings.gone(neighbour, false)
    this.#requests.callOff(neighbour)
  }

  /** A chunk is held now: nobody needs to send it any more. */
  cancel(chunk: number): void {
    if (this.#context.pending.isFree(chunk)) return
    for (const neighbour of this.#neighbours.values()) this.#requests.cancel(neighbour, chunk)
  }

  /** Cancels the requests for chunks that are not wanted any more. */
  callOff(isWanted: (chunk: number) => boolean): void {
    for (const neighbour of this.#neighbours.values()) this.#requests.callOff(neighbour, isWanted)
  }

  /** A chunk that came could not be kept: others may offer it again, if nobody else is asked for it. */
  unexpect(chunk: number): void {
    this.#requests.unexpect(chunk)
  }

  stop(): void {
    for (const neighbour of this.#neighbours.values()) this.#requests.callOff(neighbour)
  }

  /**
   * Asks a second neighbour for chunks that are much later than their neighbour's usual time explains. At the end, when all that
   * is missing has been asked for, those that wait for their turn longer than usual are taken to a neighbour that has time.
   */
  hedge(now: number): void {
    const { pending, layout, held, limits } = this.#context
    const atTheEnd = this.#requests.chunks >= layout.count - held.count
    // At other times nothing is late before this.
    if (!atTheEnd && now - this.#oldestAt < limits.hedgeAfterMs) return
    this.#oldestAt = now
    for (const slow of this.#neighbours.values()) {
      for (const [chunk, request] of slow.inFlight) {
        this.#oldestAt = Math.min(this.#oldestAt, request.at)
        if (pending.isShared(chunk)) continue
        const moves = atTheEnd && this.#isWaiting(slow, request, now)
        if (!moves && !this.#isLate(slow, now - request.at)) continue
        const other = this.#idlest(chunk, slow, now)
        if (other === undefined) continue
        if (moves) this.#requests.cancel(slow, chunk)
        this.#requests.ask(other, chunk, now)
      }
    }
  }

  /**
   * With nothing new to ask of a neighbour that has time: a chunk that another one was asked for, that has not begun to come
   * though it usually would have come by now. It is taken back from there.
   */
  #steal(neighbour: Neighbour, now: number): number | undefined {
    let victim: Neighbour | undefined
    let chunk = -1
    let oldest = now
    for (const other of this.#neighbours.values()) {
      if (other === neighbour) continue
      for (const [candidate, request] of other.inFlight) {
        if (request.at >= oldest || !this.#isWaiting(other, request, now)) continue
        if (!neighbour.held.has(candidate) || this.#context.belief.isDisputed(candidate)) continue
        if (this.#holdings.isNearer(neighbour, candidate)) continue
        victim = other
        chunk = candidate
        oldest = request.at
      }
    }
    if (victim === undefined) return undefined
    this.#requests.cancel(victim, chunk)
    return chunk
  }

  /** Nothing of a chunk has come though it usually would be here. */
  #isWaiting(neighbour: Neighbour, request: Request, now: number): boolean {
    const usual = neighbour.responseMs ?? this.#context.limits.hedgeAfterMs
    return now - request.at >= usual && !request.began
  }

  #isLate(neighbour: Neighbour, ageMs: number): boolean {
    const usual = neighbour.responseMs
    return ageMs >= this.#context.limits.hedgeAfterMs && (usual === undefined || ageMs >= LATE_FACTOR * usual)
  }

  /** The holder with the fewest requests in flight, if any has room. */
  #idlest(chunk: number, except: Neighbour | undefined, now: number): Neighbour | undefined {
    let best: Neighbour | undefined
    for (const other of this.#neighbours.values()) {
      if (other === except || other.restUntil > now || !other.held.has(chunk)) continue
      if (other.inFlight.size < (best?.inFlight.size ?? MAX_UNASKED)) best = other
    }
    return best
  }

  #isMissing(chunk: number): boolean {
    const { held, pending, belief } = this.#context
    return !held.has(chunk) && pending.isFree(chunk) && !belief.isDisputed(chunk)
  }

  #pick(
    neighbour: Neighbour,
    suggestion: number | undefined,
    now: number,
    where: 'near' | 'anywhere' = 'near',
  ): number | undefined {
    const { held, layout, readers, random, wanted } = this.#context
    const isWanted = (chunk: number): boolean =>
      this.#isMissing(chunk) &&
      wanted.ofNeighbours(chunk, now) &&
      (where === 'anywhere' || !this.#holdings.isNearer(neighbour, chunk))
    const isThere = (chunk: number): boolean => neighbour.held.has(chunk) && isWanted(chunk)
    const urgent = readers.urgent(isThere)
    const early = urgent ?? wanted.order.named(isThere)
    // What is scarce among the neighbours is better chosen for everyone's sake than for a reader's.
    const isCommon = early !== undefined && this.#holdings.holders(early) * 2 >= this.#neighbours.size
    const isNeeded = urgent !== undefined && (readers.anyStrict || readers.beginsWith(urgent))
    if (isCommon || isNeeded) return early
    if (suggestion !== undefined && suggestion < layout.count && isWanted(suggestion)) return suggestion
    return pickChunk(neighbour.held, held, isWanted, chunk => this.#holdings.holders(chunk), random)
  }

  #poke(neighbour: Neighbour, now: number): boolean {
    const chunk = this.#pick(neighbour, undefined, now, 'anywhere')
    if (chunk === undefined) return false
    neighbour.poked = chunk
    this.#requests.ask(neighbour, chunk, now)
    return true
  }

  #rest(neighbour: Neighbour, now: number): void {
    // Requests that ran side by side fail together: that is one failure.
    if (now < neighbour.restUntil) return
    neighbour.failures++
    neighbour.restUntil = now + restMs(neighbour.failures, this.#context.random)
  }
}
