import type { Writable } from 'node:stream'
import type { Throttle } from '@darter/runtime'
import { type ChunkRequest, FRAME, HEADER_BYTES, LIMITS, type Refusal, writeFrameHeader } from '@darter/wire'
import type { ChunkSource, ServedChunk } from './contract.ts'
import { LinkProtocolError } from './errors.ts'

/** Requests of one link that are not answered yet; beyond that the answer is `busy`. */
const MAX_OPEN = 64
/** How often the other side hears that its requests are not forgotten, in ms. */
const WAIT_EVERY_MS = 500
/** Pieces handed to the socket at the same moment: one is sent while the next one is read. */
const MAX_IN_FLIGHT = 2

/** Memory for pieces, with room for their headers; it is used again and again. */
export interface PieceBuffers {
  take(): Uint8Array
  give(buffer: Uint8Array): void
}

/** Buffers that are kept for later. */
const MAX_BUFFERS = 32

/** The buffers of one exchange. */
export function createPieceBuffers(): PieceBuffers {
  const free: Uint8Array[] = []
  return {
    take: () => free.pop() ?? Buffer.allocUnsafeSlow(HEADER_BYTES + LIMITS.pieceBytes),
    give: buffer => {
      if (free.length < MAX_BUFFERS) free.push(buffer)
    },
  }
}

/** The chunks that the other side of one link asks for. Those whose turn it is are sent one after another. */
export interface Uploads {
  /** @throws {LinkProtocolError} when another request with this id is not over. */
  request(id: number, request: ChunkRequest): void
  cancel(id: number): void
  /** The other side has a chunk whole. */
  took(id: number): void
  /** Requests that have not been answered in full. */
  readonly owed: number
  /** Pieces that the other side has not taken yet. */
  readonly inFlight: number
  /** Pieces that it has taken so far. */
  readonly taken: number
  /** Chunks that were sent and that the other side has not said to have. */
  readonly untold: number
  /** Chunks that it has said to have so far. */
  readonly told: number
  /** Nothing is sent from now on. */
  close(): void
}

interface OpenRequest {
  readonly request: ChunkRequest
  readonly controller: AbortController
  /** Its turn has come. */
  sending: boolean
  /** Some of it was sent. */
  begun: boolean
}

/** {@link Uploads} of one link. */
export function createUploads(options: {
  readonly peerId: string
  readonly socket: Writable
  readonly source: (request: ChunkRequest, signal: AbortSignal) => ReturnType<ChunkSource>
  readonly buffers: PieceBuffers
  /** The limit on chunk bytes that are sent, over all links. Pieces are as small as it says, so that none is long in coming. */
  readonly throttle?: Throttle | undefined
  readonly end: (id: number) => void
  /** Says that a request waits for its turn. */
  readonly wait: (id: number) => void
  /** `begun`: some of the chunk was sent. */
  readonly refuse: (id: number, reason: Refusal, begun: boolean) => void
  readonly onSent: (bytes: number) => void
  /** Reading a chunk failed. */
  readonly onFailure: (request: ChunkRequest, error: unknown) => void
}): Uploads {
  const { peerId, socket, source, buffers, throttle, end, wait, refuse, onSent, onFailure } = options
  const open = new Map<number, OpenRequest>()
  /** Chunks that the operating system has, and the other side not yet. */
  const taking = new Map<number, ServedChunk>()
  const closed = new AbortController()
  /** Ends when the chunks whose turn it is have been sent. */
  let line: Promise<unknown> = Promise.resolve()
  let reminder: NodeJS.Timeout | undefined
  let told = 0
  let inFlight = 0
  let taken = 0
  let wake: (() => void) | undefined

  const hasRoom = () => inFlight < MAX_IN_FLIGHT
  /** Sends the next piece of a chunk; returns its length, 0 when the chunk gave none. */
  const sendPiece = async (id: number, chunk: ServedChunk, offset: number): Promise<number> => {
    while (!hasRoom()) {
      await new Promise<void>(resolve => {
        wake = resolve
      })
    }
    const most = Math.min(LIMITS.pieceBytes, chunk.length - offset)
    const room = throttle === undefined ? most : await throttle.take(most, closed.signal)
    const buffer = buffers.take()
    let length = 0
    try {
      length = await chunk.read(offset, buffer.subarray(HEADER_BYTES, HEADER_BYTES + room))
    } finally {
      if (length <= 0) buffers.give(buffer)
    }
    if (length <= 0) return 0
    if (closed.signal.aborted) {
      buffers.give(buffer)
      return length
    }
    writeFrameHeader(buffer, FRAME.piece, id, length)
    inFlight++
    socket.write(buffer.subarray(0, HEADER_BYTES + length), () => {
      inFlight--
      taken++
      // Not before: until now the socket may read from it.
      buffers.give(buffer)
      wake?.()
    })
    onSent(length)
    return length
  }

  const sendChunk = async (id: number, chunk: ServedChunk, entry: OpenRequest): Promise<void> => {
    const { signal } = entry.controller
    for (let offset = 0; offset < chunk.length && !signal.aborted; ) {
      const length = await sendPiece(id, chunk, offset)
      if (length === 0) throw new Error(`the chunk ended at ${offset} of ${chunk.length} bytes`)
      entry.begun = true
      offset += length
    }
  }

  /** Answers a request; the result is why not. */
  const serve = async (id: number, entry: OpenRequest): Promise<Refusal | undefined> => {
    const { request } = entry
    const { signal } = entry.controller
    try {
      const chunk = await source(request, signal)
      if (typeof chunk === 'string') return chunk
      let whole = false
      try {
        entry.sending = true
        const sent = line.then(() => sendChunk(id, chunk, entry))
        // Whoever asked hears of a failure; the next one in line need not.
        line = sent.catch(() => {})
        await sent
        whole = !signal.aborted
      } finally {
        if (whole) taking.set(id, chunk)
        else chunk.release(false)
      }
      return undefined
    } catch (error) {
      if (!signal.aborted) onFailure(request, error)
      return 'failed'
    }
  }

  const answer = async (id: number, entry: OpenRequest): Promise<void> => {
    const refusal = await serve(id, entry)
    open.delete(id)
    if (open.size === 0) stopReminding()
    if (closed.signal.aborted) return
    if (refusal === undefined || entry.controller.signal.aborted) end(id)
    else refuse(id, refusal, entry.begun)
  }

  const remind = (): void => {
    for (const [id, entry] of open) if (!entry.sending) wait(id)
  }
  const stopReminding = (): void => {
    clearInterval(reminder)
    reminder = undefined
  }

  return {
    get owed() {
      return open.size
    },
    get inFlight() {
      return inFlight
    },
    get taken() {
      return taken
    },
    get untold() {
      return taking.size
    },
    get told() {
      return told
    },
    request: (id, request) => {
      if (open.has(id) || taking.has(id))
        throw new LinkProtocolError(peerId, 'a request with the id of another')
      if (open.size + taking.size >= MAX_OPEN) return refuse(id, 'busy', false)
      const entry = { request, controller: new AbortController(), sending: false, begun: false }
      open.set(id, entry)
      reminder ??= setInterval(remind, WAIT_EVERY_MS)
      void answer(id, entry)
    },
    cancel: id => open.get(id)?.controller.abort(),
    took: id => {
      const chunk = taking.get(id)
      if (chunk === undefined) return
      taking.delete(id)
      told++
      chunk.release(true)
    },
    close: () => {
      closed.abort()
      stopReminding()
      for (const { controller } of open.values()) controller.abort()
      for (const chunk of taking.values()) chunk.release(true)
      taking.clear()
      wake?.()
    },
  }
}
