import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import type { Logger } from '@darter/runtime'
import { type Codec, LENGTH_BYTES, LIMITS, lengthPrefixed, MessageReader, WireError } from '@darter/wire'
import { pipe } from 'it-pipe'

/** A stream whose opening both sides know of. */
const YAMUX_ESTABLISHED = 3
const NOTHING = new Uint8Array(0)
/** Bytes that wait to be read before the other side is held back. */
const READ_AHEAD_BYTES = 256 * 1024

/** Messages over a libp2p stream, each with its length before it. */
export interface Channel {
  /**
   * What the other side sends, in order; ends when it closes its side, throws when the stream breaks or a message is over
   * the limit (`WireError`). An empty message is a sign of life.
   */
  readonly messages: AsyncGenerator<Uint8Array>
  /** Bytes that came so far. */
  readonly received: number
  /** Queues a message. False when the stream is closed, or is being closed because too much waits to be sent. */
  send(message: Uint8Array): boolean
  /** Says that this side is alive, unless something, even that, was sent since the last call: at every second one in silence. */
  beat(): void
  /** From now on messages may be as long as {@link LIMITS.messageBytes}; at first, {@link LIMITS.handshakeBytes}. */
  admit(): void
  /** Sends what is queued, then closes for writing. */
  finish(signal: AbortSignal): Promise<void>
  /** Ends both ways at once. */
  abort(reason: Error): void
}

/** A {@link Channel} over a fresh stream, which it owns from now on. */
export function createChannel(stream: Stream): Channel {
  let limit: number = LIMITS.handshakeBytes
  updateWindowSeldom(stream)
  const source = new StreamSource(stream)
  const messages = pipe(source, async function* (parts) {
    const reader = new MessageReader(() => limit)
    for await (const part of parts) yield* reader.push(part)
  })
  let sent = true
  const abort = (reason: Error) => {
    stream.abort(reason)
    source.end(reason)
  }
  const send = (message: Uint8Array): boolean => {
    if (stream.status !== 'open' || stream.writeStatus !== 'writable') return false
    if (stream.writeBufferLength + message.length + LENGTH_BYTES > LIMITS.sendQueueBytes) {
      abort(new Error(`more than ${LIMITS.sendQueueBytes} bytes wait to be sent`))
      return false
    }
    try {
      stream.send(lengthPrefixed(message))
      sent = true
      return true
    } catch {
      // The stream closed under our hands; its close event tells the rest.
      return false
    }
  }
  return {
    messages,
    abort,
    send,
    beat: () => {
      if (sent) sent = false
      else send(NOTHING)
    },
    get received() {
      return source.received
    },
    admit: () => {
      limit = LIMITS.messageBytes
    },
    finish: signal => stream.close({ signal }),
  }
}

/**
 * yamux (8.0.1) tells the sender after every frame how much more it may send: a write for each message that comes. Half a
 * window is soon enough. A stream of another make is left as it is.
 */
function updateWindowSeldom(stream: Stream): void {
  const known = stream as Stream & Partial<{ state: number; recvWindow: number; recvWindowCapacity: number }>
  if (!('sendWindowUpdate' in known) || typeof known.sendWindowUpdate !== 'function') return
  const update = known.sendWindowUpdate.bind(known) as () => void
  const seldom = (): void => {
    const { state, recvWindow = 0, recvWindowCapacity = 0 } = known
    if (state !== YAMUX_ESTABLISHED || recvWindowCapacity * 2 <= recvWindow) update()
  }
  Object.assign(known, { sendWindowUpdate: seldom })
}

/** An encoded message; undefined, and a log line, for one that the other side would refuse. */
export function encodeOrLog<M extends { readonly type: string }>(
  codec: Codec<M>,
  message: M,
  log: Logger,
): Uint8Array | undefined {
  try {
    return codec.encode(message)
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    log.error({ type: message.type, detail: error.message }, 'message not sent')
    return undefined
  }
}

/** A libp2p stream as an async iterable that holds the sender back while no one reads. */
class StreamSource implements AsyncIterableIterator<Uint8Array> {
  readonly #stream: Stream
  #queue: Uint8Array[] = []
  #queued = 0
  #received = 0
  #resuming = false
  #ended = false
  #error: Error | undefined
  #wake: (() => void) | undefined

  constructor(stream: Stream) {
    this.#stream = stream
    stream.addEventListener('message', this.#onMessage)
    stream.addEventListener('end', this.#onEnd)
    stream.addEventListener('close', this.#onClose)
  }

  get received(): number {
    return this.#received
  }

  end(error?: Error): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    this.#stream.removeEventListener('message', this.#onMessage)
    this.#stream.removeEventListener('end', this.#onEnd)
    this.#stream.removeEventListener('close', this.#onClose)
    this.#wake?.()
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      const part = this.#queue.shift()
      if (part !== undefined) {
        this.#queued -= part.length
        if (this.#queued === 0) this.#resume()
        return { done: false, value: part }
      }
      if (this.#error !== undefined) throw this.#error
      if (this.#ended) return { done: true, value: undefined }
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.end()
    this.#queue = []
    this.#queued = 0
    return { done: true, value: undefined }
  }

  readonly #onMessage = ({ data }: StreamMessageEvent): void => {
    for (const part of data instanceof Uint8Array ? [data] : data) {
      this.#queue.push(part)
      this.#queued += part.length
      this.#received += part.length
    }
    this.#pause()
    this.#wake?.()
  }

  readonly #onEnd = (): void => this.end()
  readonly #onClose = ({ error }: StreamCloseEvent): void => this.end(error)

  /** `resume` hands out what was kept back before it un-pauses: a pause from within would be lost. */
  #pause(): void {
    if (this.#resuming || this.#queued <= READ_AHEAD_BYTES) return
    if (this.#stream.readStatus === 'readable') this.#stream.pause()
  }

  #resume(): void {
    if (this.#stream.readStatus !== 'paused') return
    this.#resuming = true
    this.#stream.resume()
    this.#resuming = false
    this.#pause()
  }
}
