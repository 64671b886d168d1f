import { type Extent, firstExtents, type LayerHint } from '@darter/formats'
import type { Digest } from '@darter/oci'
import { abortable, type Logger } from '@darter/runtime'
import type { StoredBlob } from '@darter/store'
import type { Run } from '@darter/swarm'
import type { ByteBudget } from './byte-budget.ts'

/** How long it may take to get another blob of the same image, its turn included, ms. */
const OTHER_BLOB_MS = 10_000

/**
 * Which chunks of a blob come first for its format's sake: follows the plan for it, and looks into chunks as they arrive where
 * that tells how to go on.
 */
export class FirstParts {
  readonly #options: ConstructorParameters<typeof FirstParts>[0]
  #arrived = Promise.withResolvers<void>()
  #begun = false

  constructor(options: {
    readonly stored: StoredBlob
    /** The digest that the bytes should have. */
    readonly content: Digest
    readonly hint: LayerHint
    readonly log: Logger
    /** Bounds the other blobs that are in memory at the same moment. */
    readonly budget: ByteBudget
    /** Reads a blob of the same image, whole. */
    readonly readBlob: (digest: Digest, size: number, signal: AbortSignal) => Promise<Uint8Array>
    /** These chunks come after those that were named before. */
    readonly onNext: (run: Run) => void
  }) {
    this.#options = options
  }

  /** Something was named, or there is nothing to name. */
  get begun(): boolean {
    return this.#begun
  }

  /** A chunk is in the store now. */
  kept(): void {
    this.#arrived.resolve()
    this.#arrived = Promise.withResolvers()
  }

  /**
   * Names all that comes first, and ends. Never rejects: what can't be read ends the plan.
   */
  async follow(signal: AbortSignal): Promise<void> {
    const { stored, content, hint, log, budget, readBlob, onNext } = this.#options
    let giveBack: (() => void) | undefined
    const plan = firstExtents(
      hint,
      { digest: content, size: stored.layout.size },
      {
        extent: extent => this.#read(extent, signal),
        blob: async ({ digest, size }) => {
          const soon = AbortSignal.any([signal, AbortSignal.timeout(OTHER_BLOB_MS)])
          giveBack = await budget.take(size, soon)
          return await readBlob(digest, size, soon)
        },
      },
    )
    try {
      for await (const extent of plan) {
        signal.throwIfAborted()
        onNext(this.#runOf(extent))
        this.#begun = true
      }
    } catch (error) {
      if (!signal.aborted) log.debug({ err: error, format: hint.format }, 'what comes first is not known')
    } finally {
      giveBack?.()
      this.#begun = true
    }
  }

  /** A part of the blob, once its chunks are there. */
  async #read(extent: Extent, signal: AbortSignal): Promise<Uint8Array> {
    const { held, layout } = this.#options.stored
    const run = this.#runOf(extent)
    while (held.nextClear(run.from) < run.to) await abortable(this.#arrived.promise, signal)
    const bytes = Buffer.allocUnsafe(extent.to - extent.from)
    let position = extent.from
    for (let chunk = run.from; chunk < run.to; chunk++) {
      const target = bytes.subarray(position - extent.from)
      position += await this.#options.stored.readChunk(chunk, position - layout.offset(chunk), target)
    }
    return bytes
  }

  #runOf({ from, to }: Extent): Run {
    const { layout } = this.#options.stored
    return { from: layout.at(from), to: layout.at(to - 1) + 1 }
  }
}
