import { firstFreeRun, runChunks } from './extents.ts'
import { restMs } from './retry.ts'
import type { SessionContext } from './session-context.ts'

interface OriginFetch {
  readonly id: number
  /** Undefined for a read without a lease. */
  lease: number | undefined
  readonly from: number
  readonly to: number
}

/** How an origin read failed. */
export interface OriginFailure {
  /** Asking again with the same credentials will not help. */
  readonly refused: boolean
  /** The origin ignores ranges: the blob can only be read as a whole. */
  readonly wholeOnly?: boolean
  /** The origin asked to wait, ms. */
  readonly retryAfterMs?: number
}

/** One download's reads of its origin: which run now, what failed, how many leases are asked for. */
export class OriginPlan {
  readonly #context: SessionContext
  readonly #fetches = new Map<number, OriginFetch>()
  #nextFetch = 1
  #failures = 0
  /** Reads from this number on were started after the last failure that was counted. */
  #countFrom = 1
  #retryAt = 0
  #refused = false
  #wholeOnly = false
  /** Reads from this number on were started knowing that ranges are ignored. */
  #wholeFrom: number | undefined
  #demanded = -1

  constructor(context: SessionContext) {
    this.#context = context
  }

  /** Something is being read. */
  get busy(): boolean {
    return this.#fetches.size > 0
  }

  /** The origin has failed so often, or refused, that there is no hope in it for now. */
  get hopeless(): boolean {
    const failed = this.#refused || this.#failures >= this.#context.limits.maxOriginFailures
    return failed && this.#fetches.size === 0
  }

  /** What failed before is tried again, as for a new reader. */
  forgive(): void {
    this.#failures = 0
    this.#refused = false
  }

  /** The origin gave a chunk. */
  succeeded(): void {
    this.#failures = 0
  }

  /** Lease demand has to be told (again). */
  demandAnew(): void {
    this.#demanded = -1
  }

  /** The scheduler is gone: what is being read goes on, and is no lease any more. */
  leasesGone(): void {
    for (const fetch of this.#fetches.values()) fetch.lease = undefined
  }

  /** Works on a lease, or on what may be read at its beginning; gives it back when there is nothing. */
  leased(lease: number, from: number, to: number, mayRead: (chunk: number) => boolean): void {
    const { held, pending, limits, emit } = this.#context
    this.#demanded = -1
    const isMissing = (chunk: number): boolean => !held.has(chunk) && pending.isFree(chunk)
    let start = from
    while (start < to && !isMissing(start)) start++
    let end = start
    while (end < to && isMissing(end) && mayRead(end)) end++
    const most = this.#wholeOnly ? 1 : limits.maxOriginFetches * 2
    if (end > start && this.#fetches.size < most) this.#start(lease, start, end)
    else emit({ type: 'lease-end', lease, outcome: 'released' })
  }

  /** Whether a read that is under way is about to bring the chunk. */
  isNext(chunk: number): boolean {
    for (const { from, to } of this.#fetches.values()) {
      if (chunk >= from && chunk < to) return this.#context.held.nextClear(from) >= chunk - 1
    }
    return false
  }

  /** The blob can only be read as a whole. */
  rangesIgnored(): void {
    if (this.#wholeOnly) return
    this.#wholeOnly = true
    this.#wholeFrom ??= this.#nextFetch
  }

  /** A lease lapsed: its read stops. */
  leaseVoid(lease: number): void {
    for (const fetch of [...this.#fetches.values()]) {
      if (fetch.lease !== lease) continue
      this.#end(fetch)
      this.#context.emit({ type: 'stop-origin', fetch: fetch.id })
    }
  }

  /** A read ended: all its chunks came (`undefined`), or it failed. Returns whether it was known. */
  ended(fetchId: number, failure: OriginFailure | undefined, now: number): boolean {
    const fetch = this.#fetches.get(fetchId)
    if (fetch === undefined) return false
    this.#end(fetch)
    const wholeOnly = failure?.wholeOnly === true
    // Reads that were begun before this was known need no rest; one that still fails so is a failure like others.
    const learned = wholeOnly && fetchId < (this.#wholeFrom ?? this.#nextFetch)
    if (wholeOnly) this.rangesIgnored()
    if (fetch.lease !== undefined) {
      this.#context.emit({
        type: 'lease-end',
        lease: fetch.lease,
        outcome: failure === undefined ? 'done' : 'failed',
        ...(wholeOnly ? { wholeOnly } : {}),
        ...(failure?.retryAfterMs === undefined ? {} : { retryAfterMs: failure.retryAfterMs }),
      })
    }
    if (failure !== undefined && !learned) this.#failed(fetchId, failure, now)
    return true
  }

  stop(): void {
    for (const fetch of [...this.#fetches.values()]) {
      this.#end(fetch)
      this.#context.emit({ type: 'stop-origin', fetch: fetch.id })
      if (fetch.lease !== undefined) {
        this.#context.emit({ type: 'lease-end', lease: fetch.lease, outcome: 'released' })
      }
    }
  }

  /**
   * Tells the scheduler how many leases this peer would work on, when that changed; at most `most`. `first`: what it needs
   * first in the background, where no reader waits.
   */
  demand(most: number, now: number, first?: number): void {
    const resting = now < this.#retryAt || this.#refused
    const slots = resting ? 0 : Math.max(0, Math.min(most, this.#most) - this.#fetches.size)
    if (slots === this.#demanded) return
    this.#demanded = slots
    const from = first ?? this.#context.readers.firstMissing()
    const background = first === undefined ? {} : { background: true as const }
    this.#context.emit({ type: 'lease-demand', slots, from, ...background })
  }

  /** Whether a read may be started now. `urgent`: even though the origin has refused. */
  mayRead(urgent: boolean, now: number): boolean {
    return (
      this.#fetches.size < this.#context.limits.maxOriginFetches &&
      now >= this.#retryAt &&
      (!this.#refused || urgent)
    )
  }

  /** Reads runs of chunks that are wanted and that nobody works on, without a lease. */
  readFree(wanted: (chunk: number) => boolean): void {
    const { layout, pending, readers } = this.#context
    const longest = this.#wholeOnly ? layout.count : runChunks(layout)
    while (this.#fetches.size < this.#most) {
      const from = readers.firstWanted(wanted)
      const run = firstFreeRun(layout.count, longest, from, chunk => wanted(chunk) && pending.isFree(chunk))
      if (run === undefined) return
      this.#start(undefined, run.from, run.to)
    }
  }

  /** Reads a chunk that nobody works on, without a lease. */
  readOne(chunk: number): void {
    this.#start(undefined, chunk, chunk + 1)
  }

  get #most(): number {
    return this.#wholeOnly ? 1 : this.#context.limits.maxOriginFetches
  }

  #failed(fetchId: number, failure: OriginFailure, now: number): void {
    // Reads that ran side by side fail together: that is one failure.
    if (fetchId >= this.#countFrom) {
      this.#failures++
      this.#countFrom = this.#nextFetch
    }
    if (failure.refused) this.#refused = true
    this.#retryAt = now + Math.max(restMs(this.#failures, this.#context.random), failure.retryAfterMs ?? 0)
    this.#demanded = -1
  }

  #start(lease: number | undefined, from: number, to: number): void {
    const fetch: OriginFetch = { id: this.#nextFetch++, lease, from, to }
    this.#fetches.set(fetch.id, fetch)
    for (let chunk = from; chunk < to; chunk++) this.#context.pending.begin(chunk)
    this.#context.emit({ type: 'fetch-origin', fetch: fetch.id, lease, from, to })
  }

  #end(fetch: OriginFetch): void {
    this.#fetches.delete(fetch.id)
    for (let chunk = fetch.from; chunk < fetch.to; chunk++) this.#context.pending.end(chunk)
  }
}
