import type { Digest } from '@darter/oci'
import type { ChunkPlace } from './download-contract.ts'
import { WrongBytesSentError } from './errors.ts'

/** What a caller reads of a blob. */
export type Reading =
  /** All of it, so that the digest can still stop it before the last chunk. */
  | 'whole'
  /** Much of it, so that all of it is fetched, and only what is believed by itself. */
  | 'much'
  /** Some of it, and only what is believed by itself. */
  | 'part'

/** What a reader may do about the chunk that it waits for. */
export type ReaderAnswer =
  | { readonly kind: ChunkPlace | 'wait' }
  | { readonly kind: 'failed'; readonly error: Error }

interface Waiting {
  readonly from: number
  readonly reading: Reading
  /** The first chunk that was not passed on yet. */
  position: number
  awaited: number | undefined
  /** Since when it waits for that chunk, ms. */
  since: number
  wake: (() => void) | undefined
  failure: Error | undefined
}

/** The callers of one download: who waits for which chunk, who has to be cut. */
export class ReaderDesk {
  readonly #readers = new Map<number, Waiting>()
  readonly #answer: (chunk: number, reading: Reading, since: number) => ReaderAnswer
  readonly #now: () => number
  #nextId = 1

  /** @param answer decides, by the download's state, about a chunk that is waited for since then. */
  constructor(answer: (chunk: number, reading: Reading, since: number) => ReaderAnswer, now: () => number) {
    this.#answer = answer
    this.#now = now
  }

  get size(): number {
    return this.#readers.size
  }

  /** Adds a caller that reads from chunk `from` on; returns its number. */
  add(from: number, reading: Reading): number {
    const id = this.#nextId++
    this.#readers.set(id, {
      from,
      reading,
      position: from,
      awaited: undefined,
      since: 0,
      wake: undefined,
      failure: undefined,
    })
    return id
  }

  /** False when it was gone already. */
  remove(id: number): boolean {
    return this.#readers.delete(id)
  }

  failure(id: number): Error | undefined {
    return this.#readers.get(id)?.failure
  }

  /** Waits until it is clear how the chunk gets to the caller. Rejects when there is no hope or the signal aborts. */
  async wait(id: number, chunk: number, signal: AbortSignal): Promise<ChunkPlace> {
    const reader = this.#readers.get(id)
    if (reader === undefined) throw new RangeError('this reader has ended')
    reader.awaited = chunk
    reader.since = this.#now()
    for (;;) {
      signal.throwIfAborted()
      if (reader.failure !== undefined) throw reader.failure
      const answer = this.#answer(chunk, reader.reading, reader.since)
      if (answer.kind === 'failed') throw answer.error
      if (answer.kind === 'ready') break
      if (answer.kind !== 'wait') return answer.kind
      await this.#woken(reader, signal)
    }
    reader.position = chunk + 1
    return 'ready'
  }

  /** Something changed: those who wait look again. */
  wake(): void {
    for (const reader of this.#readers.values()) {
      if (reader.wake === undefined || reader.awaited === undefined) continue
      const { awaited, reading, since } = reader
      if (reader.failure !== undefined || this.#answer(awaited, reading, since).kind !== 'wait') reader.wake()
    }
  }

  /** Callers that were sent one of these chunks have wrong bytes: their responses must not end well. */
  provedWrong(chunks: readonly number[], digest: Digest): void {
    for (const reader of this.#readers.values()) {
      if (chunks.some(chunk => chunk >= reader.from && chunk < reader.position)) {
        reader.failure = new WrongBytesSentError(digest)
      }
    }
  }

  async #woken(reader: Waiting, signal: AbortSignal): Promise<void> {
    await new Promise<void>(resolve => {
      const onAbort = (): void => resolve()
      signal.addEventListener('abort', onAbort, { once: true })
      reader.wake = () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
    })
    reader.wake = undefined
  }
}
