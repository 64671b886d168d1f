import type { FetchedChunk, Link } from '@darter/exchange'
import type { Clock } from '@darter/runtime'
import type { StoredBlob } from '@darter/store'
import { Arrival } from './arrival.ts'
import type { ByteBudget } from './byte-budget.ts'
import { NoSourceError } from './errors.ts'
import type { Neighbourhood } from './neighbourhood.ts'

/** The chunks that one download has asked of its neighbours and not got yet. */
export class NeighbourRequests {
  readonly #stored: StoredBlob
  readonly #neighbourhood: Neighbourhood
  readonly #budget: ByteBudget
  readonly #clock: Clock
  readonly #running = new Map<string, { readonly neighbour: string; readonly controller: AbortController }>()
  /** Bytes that links had brought at the last look, while something was asked for over them. */
  readonly #linkBytes = new WeakMap<Link, number>()

  constructor(options: {
    readonly stored: StoredBlob
    readonly neighbourhood: Neighbourhood
    readonly budget: ByteBudget
    readonly clock: Clock
  }) {
    this.#stored = options.stored
    this.#neighbourhood = options.neighbourhood
    this.#budget = options.budget
    this.#clock = options.clock
  }

  /**
   * Asks a neighbour for a chunk, while the others hear that it is expected. `began` is called at its first bytes, `came` with all
   * of it: its memory counts until that has settled. Resolves to the error when it did not come.
   */
  async run(
    neighbour: string,
    chunk: number,
    on: { readonly began: () => void; readonly came: (fetched: FetchedChunk) => Promise<void> },
  ): Promise<'done' | 'cancelled' | Error> {
    const key = keyOf(neighbour, chunk)
    const controller = new AbortController()
    const { signal } = controller
    this.#running.set(key, { neighbour, controller })
    let giveBack: (() => void) | undefined
    try {
      const fetched = await this.#neighbourhood.expecting(this.#stored.digest, chunk, neighbour, async () => {
        const length = this.#stored.layout.length(chunk)
        giveBack = await this.#budget.take(length, signal)
        const link = this.#neighbourhood.linkTo(neighbour)
        if (link === undefined) throw new NoSourceError(this.#stored.digest, undefined)
        this.#linkBytes.set(link, link.receivedBytes)
        const onProgress = this.#arrival(chunk, length, on.began)
        return await link.fetch(this.#stored.digest, chunk, length, { signal, onProgress })
      })
      await on.came(fetched)
      fetched.release()
      return 'done'
    } catch (error) {
      if (signal.aborted) return 'cancelled'
      return error instanceof Error ? error : new Error(String(error))
    } finally {
      giveBack?.()
      if (this.#running.get(key)?.controller === controller) this.#running.delete(key)
    }
  }

  cancel(neighbour: string, chunk: number): void {
    this.#running.get(keyOf(neighbour, chunk))?.controller.abort()
  }

  /** Whether a link over which something was asked for has brought bytes since the last look: a chunk may take long. */
  haveMoved(): boolean {
    let moved = false
    for (const { neighbour } of this.#running.values()) {
      const link = this.#neighbourhood.linkTo(neighbour)
      const before = link && this.#linkBytes.get(link)
      if (link === undefined || before === undefined || link.receivedBytes <= before) continue
      this.#linkBytes.set(link, link.receivedBytes)
      moved = true
    }
    return moved
  }

  /** Tells, while a chunk arrives, how soon it will be whole. */
  #arrival(chunk: number, length: number, began: () => void): (received: number) => void {
    const arrival = new Arrival(this.#clock, length)
    let hasBegun = false
    return received => {
      if (!hasBegun) began()
      hasBegun = true
      const inMs = arrival.came(received)
      if (inMs !== undefined) this.#neighbourhood.chunkComing(this.#stored.digest, chunk, inMs)
    }
  }
}

function keyOf(neighbour: string, chunk: number): string {
  return `${neighbour} ${chunk}`
}
