import type { EventQueue } from './event-queue.ts'

/** One chunk on its way through a {@link FairPipe}. */
export interface Flow {
  readonly done: () => void
  /** The pipe's work per flow at which this one is through. */
  readonly finish: number
}

/**
 * A link whose rate is shared equally by the chunks that are in it, as many TCP connections share one. All chunks are
 * of one size, so that they come out in the order in which they went in.
 */
export class FairPipe {
  readonly #events: EventQueue
  /** How long one chunk takes when it is alone, ms. */
  readonly chunkMs: number
  #flows: Flow[] = []
  /** Chunks (of one flow) that went through since the start. */
  #work = 0
  #workedUntil = 0
  #plan = 0

  constructor(events: EventQueue, chunkMs: number) {
    this.#events = events
    this.chunkMs = chunkMs
  }

  /** How many chunks are in it. */
  get size(): number {
    return this.#flows.length
  }

  start(done: () => void): Flow {
    this.#catchUp()
    const flow: Flow = { done, finish: this.#work + 1 }
    this.#flows.push(flow)
    this.#planNext()
    return flow
  }

  /** Takes a chunk out before it is through; false when it is through. */
  stop(flow: Flow): boolean {
    const index = this.#flows.indexOf(flow)
    if (index < 0) return false
    this.#catchUp()
    this.#flows.splice(index, 1)
    this.#planNext()
    return true
  }

  #catchUp(): void {
    const { now } = this.#events
    if (this.#flows.length > 0) {
      this.#work += (now - this.#workedUntil) / (this.chunkMs * this.#flows.length)
    }
    this.#workedUntil = now
  }

  #planNext(): void {
    const plan = ++this.#plan
    const first = this.#flows[0]
    if (first === undefined) return
    const left = Math.max(0, first.finish - this.#work)
    this.#events.after(left * this.chunkMs * this.#flows.length, () => {
      if (plan !== this.#plan) return
      this.#catchUp()
      this.#flows.shift()
      this.#planNext()
      first.done()
    })
  }
}

/** A link that sends chunks whole, one after another, in the order in which they were asked for. */
export class FifoPipe {
  readonly #events: EventQueue
  /** How long one chunk takes, ms. */
  readonly chunkMs: number
  readonly #queue: Flow[] = []
  #busy = false

  constructor(events: EventQueue, chunkMs: number) {
    this.#events = events
    this.chunkMs = chunkMs
  }

  /** How many chunks are in it. */
  get size(): number {
    return this.#queue.length
  }

  start(done: () => void): Flow {
    const flow: Flow = { done, finish: 0 }
    this.#queue.push(flow)
    this.#next()
    return flow
  }

  /** Takes a chunk out before it is through; the one that is being sent goes to its end for nobody. */
  stop(flow: Flow): void {
    const index = this.#queue.indexOf(flow)
    if (index > 0) this.#queue.splice(index, 1)
    else if (index === 0) this.#queue[0] = { done: () => {}, finish: 0 }
  }

  #next(): void {
    if (this.#busy || this.#queue.length === 0) return
    this.#busy = true
    this.#events.after(this.chunkMs, () => {
      this.#busy = false
      this.#queue.shift()?.done()
      this.#next()
    })
  }
}

/**
 * A link that takes chunks whole, one after another, with a queue before it. Bytes that come while it is idle pass at once:
 * a chunk that took as long before as it takes here is not delayed.
 */
export class SerialPipe {
  readonly #chunkMs: number
  #freeAt = 0

  constructor(chunkMs: number) {
    this.#chunkMs = chunkMs
  }

  /** When it will have taken what is in its queue, ms. */
  get freeAt(): number {
    return this.#freeAt
  }

  /** When a chunk whose last byte arrives at `at` is through, ms. */
  pass(at: number): number {
    this.#freeAt = Math.max(at, this.#freeAt + this.#chunkMs)
    return this.#freeAt
  }
}
