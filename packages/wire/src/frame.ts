import type { Digest } from '@darter/oci'
import { DIGEST_CHARS, putDigest, takeDigest } from './digest-text.ts'
import { WireError } from './errors.ts'
import { LIMITS } from './limits.ts'
import { NOTICE_BYTES } from './notice.ts'
import { Assembly } from './stream.ts'

/**
 * A data link carries frames, both ways, over two connections: pieces and `end` over that for bodies, and a `refuse` after a piece; all
 * others over that for messages. Each begins with a header: type (1 byte), id (4 bytes), length of what follows
 * (4 bytes), big-endian. `id` names a request of the frame's sender (request, cancel, took) or receiver (piece, end, refuse, wait);
 * it is 0 in other frames. Each request is answered by pieces in order and one `end`, or by one `refuse`, also after it
 * was cancelled; `wait` may come before.
 */
export const FRAME = {
  /** The dialler's first frame: it uses this link. Empty. */
  open: 0,
  /** An {@link Introduction}. */
  message: 1,
  /** Wants a chunk: its index (4 bytes) and the blob's digest as text. */
  request: 2,
  /** No longer wants it. Empty. */
  cancel: 3,
  /** The next bytes of a chunk, at least one. */
  piece: 4,
  /** All bytes were sent (or the request was cancelled). Empty. */
  end: 5,
  /** Will not serve it: one byte, the index in {@link REFUSALS}. */
  refuse: 6,
  /** Asks for a `pong`. Empty. */
  ping: 7,
  pong: 8,
  /** The chunk that was requested is not lost, only late: others come first. Empty. */
  wait: 9,
  /** The notices of {@link Notice}: see `notice.ts`. */
  have: 10,
  expect: 11,
  lost: 12,
  slot: 13,
  pass: 14,
  want: 15,
  /** The chunk that was requested has come whole. Empty. */
  took: 16,
} as const

/** A frame that arrives whole; pieces arrive as they come. */
export type WholeFrame = Exclude<keyof typeof FRAME, 'piece'>

/** Bytes of a frame's header. */
export const HEADER_BYTES = 9

/**
 * Why a chunk is not served. `missing`: it is not held. `busy`: too much to do now, worth trying again. `failed`: reading
 * it went wrong.
 */
export const REFUSALS = ['missing', 'busy', 'failed'] as const
export type Refusal = (typeof REFUSALS)[number]

const INDEX_BYTES = 4

const withDigest = (name: WholeFrame, bytes: number) => ({
  name,
  min: bytes + DIGEST_CHARS.min,
  max: bytes + DIGEST_CHARS.max,
})
const WHOLE: readonly { readonly name: WholeFrame; readonly min: number; readonly max: number }[] = [
  { name: 'open', min: 0, max: 0 },
  { name: 'message', min: 1, max: LIMITS.messageBytes },
  withDigest('request', INDEX_BYTES),
  { name: 'cancel', min: 0, max: 0 },
  { name: 'end', min: 0, max: 0 },
  { name: 'refuse', min: 1, max: 1 },
  { name: 'ping', min: 0, max: 0 },
  { name: 'pong', min: 0, max: 0 },
  { name: 'wait', min: 0, max: 0 },
  withDigest('have', NOTICE_BYTES.have),
  withDigest('expect', NOTICE_BYTES.expect),
  withDigest('lost', NOTICE_BYTES.lost),
  withDigest('slot', NOTICE_BYTES.slot),
  withDigest('pass', NOTICE_BYTES.pass),
  withDigest('want', NOTICE_BYTES.want),
  { name: 'took', min: 0, max: 0 },
]
const BY_TYPE = new Map(WHOLE.map(frame => [FRAME[frame.name] as number, frame]))

/** Writes a frame's header to the first {@link HEADER_BYTES} bytes of `target`. */
export function writeFrameHeader(target: Uint8Array, type: number, id: number, length: number): void {
  const view = new DataView(target.buffer, target.byteOffset, HEADER_BYTES)
  view.setUint8(0, type)
  view.setUint32(1, id)
  view.setUint32(5, length)
}

/** A whole frame. */
export function frame(name: WholeFrame, id = 0, payload?: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + (payload?.length ?? 0))
  writeFrameHeader(bytes, FRAME[name], id, payload?.length ?? 0)
  if (payload !== undefined) bytes.set(payload, HEADER_BYTES)
  return bytes
}

/** What a request frame carries. */
export interface ChunkRequest {
  readonly blob: Digest
  readonly chunk: number
}

/** The payload of a request frame. */
export function encodeRequest({ blob, chunk }: ChunkRequest): Uint8Array {
  const bytes = new Uint8Array(INDEX_BYTES + blob.length)
  new DataView(bytes.buffer).setUint32(0, chunk)
  putDigest(bytes, INDEX_BYTES, blob)
  return bytes
}

/** @throws {WireError} when the payload of a request frame names no digest. */
export function decodeRequest(payload: Uint8Array): ChunkRequest {
  const chunk = new DataView(payload.buffer, payload.byteOffset, payload.length).getUint32(0)
  return { blob: takeDigest(payload, INDEX_BYTES, 'request'), chunk }
}

/** The payload of a refuse frame. */
export function encodeRefusal(reason: Refusal): Uint8Array {
  return Uint8Array.of(REFUSALS.indexOf(reason))
}

/** @throws {WireError} for a reason that this version does not know. */
export function decodeRefusal(payload: Uint8Array): Refusal {
  const reason = REFUSALS[payload[0] ?? REFUSALS.length]
  if (reason === undefined) throw new WireError('invalid', `a refusal for the unknown reason ${payload[0]}`)
  return reason
}

/** Where a {@link FrameReader} puts what it reads. Bytes are borrowed: they are overwritten after the call. */
export interface FrameSink {
  whole(name: WholeFrame, id: number, payload: Uint8Array): void
  /** Some bytes of a piece. */
  piece(id: number, bytes: Uint8Array): void
}

/** Cuts the bytes of a data link into frames. A piece's bytes are passed on as they come, not collected. */
export class FrameReader {
  readonly #sink: FrameSink
  readonly #header = new Uint8Array(HEADER_BYTES)
  readonly #view = new DataView(this.#header.buffer)
  readonly #assembly = new Assembly()
  #headerFilled = 0
  #id = 0
  /** The frame that is being read; undefined for a piece. */
  #name: WholeFrame | undefined
  /** Bytes of the frame that have not come yet. */
  #missing = 0
  #collecting = false

  constructor(sink: FrameSink) {
    this.#sink = sink
  }

  /**
   * Takes the next bytes.
   * @throws {WireError} for a frame of unknown type or impossible length; the reader is of no use afterwards.
   */
  push(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length) {
      if (this.#headerFilled < HEADER_BYTES) {
        const taken = Math.min(HEADER_BYTES - this.#headerFilled, bytes.length - at)
        this.#header.set(bytes.subarray(at, at + taken), this.#headerFilled)
        this.#headerFilled += taken
        at += taken
        if (this.#headerFilled < HEADER_BYTES) return
        this.#begin()
      }
      if (this.#missing > 0) {
        at += this.#name === undefined ? this.#passPiece(bytes, at) : this.#takeWhole(this.#name, bytes, at)
      }
      if (this.#missing === 0) this.#headerFilled = 0
    }
  }

  #begin(): void {
    const type = this.#view.getUint8(0)
    this.#id = this.#view.getUint32(1)
    this.#missing = this.#view.getUint32(5)
    const known = BY_TYPE.get(type)
    if (known === undefined && type !== FRAME.piece) {
      throw new WireError('unknown-type', `a frame of unknown type ${type}`)
    }
    const { name, min, max } = known ?? { name: undefined, min: 1, max: LIMITS.pieceBytes }
    this.#name = name
    if (this.#missing > max) {
      throw new WireError(
        'too-large',
        `a ${name ?? 'piece'} frame of ${this.#missing} bytes, over the limit of ${max}`,
      )
    }
    if (this.#missing < min) {
      throw new WireError(
        'invalid',
        `a ${name ?? 'piece'} frame of ${this.#missing} bytes, at least ${min} expected`,
      )
    }
    this.#collecting = false
    // An empty frame has no bytes that could bring it to its end below.
    if (this.#missing === 0 && name !== undefined)
      this.#sink.whole(name, this.#id, this.#header.subarray(0, 0))
    if (this.#missing === 0) this.#name = undefined
  }

  #passPiece(bytes: Uint8Array, at: number): number {
    const taken = Math.min(this.#missing, bytes.length - at)
    this.#missing -= taken
    if (taken > 0) this.#sink.piece(this.#id, bytes.subarray(at, at + taken))
    return taken
  }

  #takeWhole(name: WholeFrame, bytes: Uint8Array, at: number): number {
    const available = bytes.length - at
    if (!this.#collecting && available >= this.#missing) {
      const taken = this.#missing
      this.#missing = 0
      this.#sink.whole(name, this.#id, bytes.subarray(at, at + taken))
      return taken
    }
    if (!this.#collecting) {
      this.#assembly.begin(this.#missing)
      this.#collecting = true
    }
    const taken = this.#assembly.take(bytes, at)
    this.#missing -= taken
    if (this.#assembly.complete) this.#sink.whole(name, this.#id, this.#assembly.finish())
    return taken
  }
}
