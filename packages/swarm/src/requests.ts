import type { Neighbour } from './neighbour.ts'
import type { SessionContext } from './session-context.ts'

/** What one download has asked its neighbours for; how many bytes of it are on their way. */
export class Requests {
  readonly #context: SessionContext
  #bytes = 0
  #chunks = 0

  constructor(context: SessionContext) {
    this.#context = context
  }

  /** Something is asked for. */
  get any(): boolean {
    return this.#bytes > 0
  }

  /** Chunks that are asked for, as many times as they are. */
  get chunks(): number {
    return this.#chunks
  }

  /** As much is on its way as may be. */
  get full(): boolean {
    return this.#bytes >= this.#context.limits.maxInFlightBytes
  }

  ask(neighbour: Neighbour, chunk: number, now: number): void {
    neighbour.inFlight.set(chunk, { at: now, began: false })
    this.#context.pending.begin(chunk)
    this.#chunks++
    this.#bytes += this.#context.layout.length(chunk)
    this.#context.wanted.asked(chunk, now)
    this.#context.emit({ type: 'request', neighbour: neighbour.id, chunk })
  }

  /** A chunk came; false when it was not asked for (any more). */
  arrived(neighbour: Neighbour, chunk: number, now: number): boolean {
    if (!neighbour.inFlight.has(chunk)) return false
    neighbour.arrived(chunk, now)
    this.#ended(chunk)
    return true
  }

  /** A request came to nothing; false when there was none (any more). */
  failed(neighbour: Neighbour, chunk: number): boolean {
    if (!neighbour.inFlight.delete(chunk)) return false
    this.#ended(chunk)
    return true
  }

  /** Cancels a request; nothing when there is none. */
  cancel(neighbour: Neighbour, chunk: number): void {
    if (this.failed(neighbour, chunk)) {
      this.#context.emit({ type: 'cancel', neighbour: neighbour.id, chunk })
    }
  }

  /** Cancels all requests to a neighbour, or those for chunks that are not wanted any more. */
  callOff(neighbour: Neighbour, isWanted: (chunk: number) => boolean = () => false): void {
    for (const chunk of [...neighbour.inFlight.keys()]) {
      if (isWanted(chunk)) continue
      this.cancel(neighbour, chunk)
      this.unexpect(chunk)
    }
  }

  /** Others may offer the chunk again, if nobody else is asked for it. */
  unexpect(chunk: number): void {
    const { pending, held, emit } = this.#context
    if (pending.isFree(chunk) && !held.has(chunk)) emit({ type: 'unexpect', chunk })
  }

  #ended(chunk: number): void {
    this.#context.pending.end(chunk)
    this.#chunks--
    this.#bytes -= this.#context.layout.length(chunk)
  }
}
