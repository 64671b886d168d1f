import { OriginStatusError, retryAfterMs } from '@darter/origin'
import type { ChunkBuffers, Clock } from '@darter/runtime'
import type { StoredBlob } from '@darter/store'
import { Arrival } from './arrival.ts'
import type { BlobSource, ContentKind } from './contract.ts'
import { NoSourceError, OriginIgnoresRangesError } from './errors.ts'
import { type OriginChunk, readChunks } from './origin-reader.ts'
import { SourceList } from './sources.ts'

const ALIVE_EVERY_MS = 400
const MAX_RETRY_AFTER_MS = 30_000

/** How a fetch ended, when not all of its chunks came. */
export interface FetchFailure {
  readonly error: Error
  /** Asking again with any of the callers' credentials will not help. */
  readonly refused: boolean
  /** The origin ignores ranges. */
  readonly wholeOnly: boolean
  readonly retryAfterMs: number | undefined
}

/** The reads of an origin that one download has under way. */
export class OriginFetches {
  /** The callers' ways to the origin. */
  readonly sources = new SourceList()
  readonly #stored: StoredBlob
  readonly #kind: ContentKind
  readonly #buffers: ChunkBuffers
  readonly #clock: Clock
  readonly #running = new Map<number, AbortController>()
  #rangesIgnored = false

  constructor(options: {
    readonly stored: StoredBlob
    readonly kind: ContentKind
    readonly buffers: ChunkBuffers
    readonly clock: Clock
  }) {
    this.#stored = options.stored
    this.#kind = options.kind
    this.#buffers = options.buffers
    this.#clock = options.clock
  }

  /** Stops a fetch; its promise resolves to 'stopped'. */
  stop(fetch: number): void {
    this.#running.get(fetch)?.abort()
  }

  /**
   * Reads chunks [from, to), and hands over each as it is whole; `keep` may take its time. `sign` is called about every
   * 400 ms while bytes flow, `bytes` for every piece.
   */
  async run(
    fetch: number,
    run: { readonly from: number; readonly to: number },
    on: {
      readonly keep: (chunk: OriginChunk) => Promise<void>
      /** A chunk will be whole in about `inMs`. */
      readonly coming: (chunk: number, inMs: number) => void
      /** It will not, after all. */
      readonly lost: (chunk: number) => void
      readonly bytes: (count: number) => void
      readonly sign: () => void
    },
  ): Promise<'done' | 'stopped' | FetchFailure> {
    const controller = new AbortController()
    const { signal } = controller
    this.#running.set(fetch, controller)
    const source = this.sources.current()
    const { digest, layout } = this.#stored
    let lastSign = this.#clock.now()
    const onBytes = (count: number): void => {
      on.bytes(count)
      const now = this.#clock.now()
      if (now - lastSign < ALIVE_EVERY_MS) return
      lastSign = now
      on.sign()
    }
    let coming: { readonly chunk: number; readonly arrival: Arrival } | undefined
    const onProgress = (chunk: number, received: number): void => {
      if (coming?.chunk !== chunk) coming = { chunk, arrival: new Arrival(this.#clock, layout.length(chunk)) }
      const inMs = coming.arrival.came(received)
      if (inMs !== undefined) on.coming(chunk, inMs)
    }
    // The next chunk arrives while the last one is written.
    let keeping: Promise<unknown> = Promise.resolve()
    try {
      if (source === undefined) throw new NoSourceError(digest, undefined)
      const chunks = readChunks({
        ...run,
        source,
        digest,
        kind: this.#kind,
        layout,
        skip: this.#rangesIgnored,
        signal,
        buffers: this.#buffers,
        onBytes,
        onProgress,
      })
      for await (const chunk of chunks) {
        coming = undefined
        throwIfError(await keeping)
        signal.throwIfAborted()
        keeping = on.keep(chunk).then(chunk.release, asError)
      }
      throwIfError(await keeping)
      return 'done'
    } catch (error) {
      if (signal.aborted) return 'stopped'
      return this.#failure(source, asError(error))
    } finally {
      if (coming !== undefined) on.lost(coming.chunk)
      await keeping
      this.#running.delete(fetch)
    }
  }

  #failure(source: BlobSource | undefined, error: Error): FetchFailure {
    const wholeOnly = error instanceof OriginIgnoresRangesError
    if (wholeOnly) this.#rangesIgnored = true
    const status = error instanceof OriginStatusError ? error : undefined
    const refusal = status !== undefined && isRefusal(status.status)
    return {
      error,
      wholeOnly,
      refused: refusal && (source === undefined || !this.sources.refused(source, error)),
      retryAfterMs: status === undefined ? undefined : this.#restTold(status),
    }
  }

  /** How long the origin asked to be left alone, within a bound; undefined when it did not. */
  #restTold(refusal: OriginStatusError): number | undefined {
    const ms = retryAfterMs(refusal.headers, this.#clock)
    return ms > 0 ? Math.min(MAX_RETRY_AFTER_MS, ms) : undefined
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

function throwIfError(outcome: unknown): void {
  if (outcome instanceof Error) throw outcome
}

/** Statuses that asking again with the same credentials will not change. */
export function isRefusal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 425 && status !== 429
}
