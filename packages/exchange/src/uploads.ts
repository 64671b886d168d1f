import type { Writable } from 'node:stream'
import type { Throttle } from '@darter/runtime'
import { type ChunkRequest, FRAME, HEADER_BYTES, LIMITS, type Refusal, writeFrameHeader } from '@darter/wire'
import type { ChunkSource, ServedChunk } from './contract.ts'
import type { Slots } from './slots.ts'

/** Requests that wait on one link; beyond that the answer is `busy`. */
const MAX_WAITING = 64
/** Pieces handed to the socket at the same moment: one is sent while the next one is read. */
const MAX_IN_FLIGHT = 2

/** Memory for pieces, with room for their headers; it is used again and again. */
export interface PieceBuffers {
  take(): Uint8Array
  give(buffer: Uint8Array): void
}

/** Buffers for at most `count` uploads at the same moment. */
export function createPieceBuffers(count: number): PieceBuffers {
  const free: Uint8Array[] = []
  return {
    take: () => free.pop() ?? Buffer.allocUnsafeSlow(HEADER_BYTES + LIMITS.pieceBytes),
    give: buffer => {
      if (free.length < count * MAX_IN_FLIGHT) free.push(buffer)
    },
  }
}

/** The chunks that the other side of one link asks for, served one after another. */
export interface Uploads {
  request(id: number, request: ChunkRequest): void
  cancel(id: number): void
  /** Requests that have not been answered in full. */
  readonly owed: number
  /** Pieces that the other side has not taken yet. */
  readonly inFlight: number
  /** Pieces that it has taken so far. */
  readonly taken: number
  /** Nothing is sent from now on. */
  close(): void
}

/** {@link Uploads} of one link. */
export function createUploads(options: {
  readonly socket: Writable
  readonly source: (request: ChunkRequest) => ReturnType<ChunkSource>
  readonly slots: Slots
  /** How long a request waits for a slot before it is refused as `busy`, in ms. */
  readonly slotWaitMs: number
  readonly buffers: PieceBuffers
  /** The limit on chunk bytes that are sent, over all links. Pieces are as small as it says, so that none is long in coming. */
  readonly throttle?: Throttle | undefined
  readonly end: (id: number) => void
  readonly refuse: (id: number, reason: Refusal) => void
  readonly onSent: (bytes: number) => void
  /** Reading a chunk failed. */
  readonly onFailure: (request: ChunkRequest, error: unknown) => void
}): Uploads {
  const { socket, source, slots, slotWaitMs, buffers, throttle, end, refuse, onSent, onFailure } = options
  const waiting = new Map<number, ChunkRequest>()
  const closed = new AbortController()
  let serving: { readonly id: number; cancelled: boolean } | undefined
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

  const sendChunk = async (id: number, chunk: ServedChunk, state: { cancelled: boolean }): Promise<void> => {
    for (let offset = 0; offset < chunk.length && !state.cancelled && !closed.signal.aborted; ) {
      const length = await sendPiece(id, chunk, offset)
      if (length === 0) throw new Error(`the chunk ended at ${offset} of ${chunk.length} bytes`)
      offset += length
    }
  }

  const serve = async (
    id: number,
    request: ChunkRequest,
    state: { cancelled: boolean },
  ): Promise<Refusal | undefined> => {
    if (!(await slots.acquire(slotWaitMs, closed.signal))) return 'busy'
    try {
      const chunk = await source(request)
      if (typeof chunk === 'string') return chunk
      try {
        await sendChunk(id, chunk, state)
        return undefined
      } finally {
        chunk.release()
      }
    } catch (error) {
      if (!closed.signal.aborted) onFailure(request, error)
      return 'failed'
    } finally {
      slots.release()
    }
  }

  const run = async (): Promise<void> => {
    for (const [id, request] of waiting) {
      waiting.delete(id)
      const state = { id, cancelled: false }
      serving = state
      const refusal = await serve(id, request, state)
      serving = undefined
      if (closed.signal.aborted) return
      if (refusal === undefined) end(id)
      else refuse(id, refusal)
    }
  }

  return {
    get owed() {
      return waiting.size + (serving === undefined ? 0 : 1)
    },
    get inFlight() {
      return inFlight
    },
    get taken() {
      return taken
    },
    request: (id, request) => {
      if (waiting.size >= MAX_WAITING || waiting.has(id) || serving?.id === id) return refuse(id, 'busy')
      waiting.set(id, request)
      // A map's iteration sees what is added meanwhile, so one run at a time serves all.
      if (serving === undefined) void run()
    },
    cancel: id => {
      if (waiting.delete(id)) end(id)
      else if (serving?.id === id) serving.cancelled = true
    },
    close: () => {
      closed.abort()
      waiting.clear()
      wake?.()
    },
  }
}
