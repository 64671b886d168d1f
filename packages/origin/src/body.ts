import type { Readable } from 'node:stream'
import type { Throttle } from '@darter/runtime'
import { OriginInterruptedError, OriginProtocolError, OriginStalledError } from './errors.ts'

/** A body on its way, watched. */
export interface WatchedBody extends AsyncIterable<Uint8Array> {
  /** Lets go of what was not read; reading on throws {@link OriginInterruptedError}. */
  cancel(): void
}

/** What a body is watched for. */
export interface WatchOptions {
  /** Who sends what, for messages. */
  readonly subject: string
  /** The length that was announced, in bytes; undefined when none was. */
  readonly expected: number | undefined
  /** How long the reader may have to wait for the next byte, in ms. The reader's own pauses do not count. */
  readonly progressTimeoutMs: number
  /** The stream's own signal: its reason goes before any other error. */
  readonly signal: AbortSignal
  readonly onBytes?: ((count: number) => void) | undefined
  /** The limit on what the reader gets; the waits that it makes are the reader's own pauses. */
  readonly throttle?: Throttle | undefined
}

/**
 * Reads a stream with backpressure and with a watch on its progress and its length. To be iterated once; leaving the
 * loop destroys the stream. Throws {@link OriginStalledError}, {@link OriginInterruptedError} when it breaks or ends
 * short, {@link OriginProtocolError} when it is longer than announced, or the signal's reason.
 */
export function watchBody(source: Readable, options: WatchOptions): WatchedBody {
  const { subject, expected, progressTimeoutMs, signal, onBytes, throttle } = options
  // Whoever iterates gets the error from the iterator; an unread body's error concerns nobody.
  source.on('error', () => {})
  const chunks: AsyncIterator<unknown> = source[Symbol.asyncIterator]()
  let received = 0
  /** What came and may not be passed on yet. */
  let heldBack: Uint8Array | undefined
  let ended = false
  let timer: NodeJS.Timeout | undefined
  let stall: ((error: OriginStalledError) => void) | undefined

  const finish = () => {
    ended = true
    clearTimeout(timer)
    source.destroy()
  }
  /** The next chunk. One timer is kept for all of them: a body has very many. */
  const pull = (): Promise<IteratorResult<unknown>> =>
    new Promise((resolve, reject) => {
      stall = reject
      if (timer) timer.refresh()
      else {
        const onTimeout = () => stall?.(new OriginStalledError(subject, progressTimeoutMs, received))
        timer = setTimeout(onTimeout, progressTimeoutMs)
      }
      chunks.next().then(resolve, reject)
    })
  /** The part of a piece that may be passed on by now. */
  const allowed = async (piece: Uint8Array): Promise<Uint8Array> => {
    const most = piece.byteLength
    const count = throttle === undefined || most === 0 ? most : await throttle.take(most, signal)
    heldBack = count < most ? piece.subarray(count) : undefined
    onBytes?.(count)
    return heldBack === undefined ? piece : piece.subarray(0, count)
  }
  const next = async (): Promise<IteratorResult<Uint8Array, undefined>> => {
    if (ended) return { done: true, value: undefined }
    try {
      if (heldBack !== undefined) return { done: false, value: await allowed(heldBack) }
      const result = await pull()
      stall = undefined
      if (result.done) {
        if (expected !== undefined && received < expected) {
          throw new OriginInterruptedError(subject, received, expected)
        }
        finish()
        return { done: true, value: undefined }
      }
      if (!(result.value instanceof Uint8Array)) throw new TypeError('a body must be a stream of bytes')
      received += result.value.byteLength
      if (expected !== undefined && received > expected) {
        throw new OriginProtocolError(`${subject} sent more than the announced ${expected} bytes`)
      }
      return { done: false, value: await allowed(result.value) }
    } catch (error) {
      finish()
      if (signal.aborted) throw signal.reason
      const named =
        error instanceof OriginStalledError ||
        error instanceof OriginInterruptedError ||
        error instanceof OriginProtocolError
      throw named ? error : new OriginInterruptedError(subject, received, expected, { cause: error })
    }
  }
  const iterator: AsyncIterator<Uint8Array, undefined> = {
    next,
    return: async () => {
      finish()
      return { done: true, value: undefined }
    },
  }
  return {
    [Symbol.asyncIterator]: () => iterator,
    cancel: () => {
      clearTimeout(timer)
      source.destroy()
    },
  }
}

/**
 * The whole of a body in memory.
 * @param limit - the most bytes that are kept.
 * @returns undefined when there are more; the rest is then let go.
 */
export async function collect(
  body: AsyncIterable<Uint8Array>,
  limit: number,
): Promise<Uint8Array | undefined> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of body) {
    size += part.byteLength
    if (size > limit) return undefined
    parts.push(part)
  }
  return Buffer.concat(parts)
}

/** The first bytes of a body, at most `limit`; what a body that breaks had given so far. The rest is let go. */
export async function collectStart(body: AsyncIterable<Uint8Array>, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let room = limit
  try {
    for await (const part of body) {
      parts.push(part.subarray(0, room))
      room -= part.byteLength
      if (room <= 0) break
    }
  } catch {
    // A refusal whose explanation breaks off is still a refusal.
  }
  return Buffer.concat(parts)
}
