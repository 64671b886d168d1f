import { putDigest, takeDigest } from './digest-text.ts'
import type { Notice } from './link.ts'

const CHUNK_BYTES = 4
const LOAD_BYTES = 4
const HASH_BYTES = 32

/**
 * Bytes before the digest in the payload of each notice: the chunk's index and the sender's load, big-endian, and the
 * chunk's hash, as far as it has them. There are many for each chunk, so that they do without CBOR.
 */
export const NOTICE_BYTES = {
  have: CHUNK_BYTES + LOAD_BYTES + HASH_BYTES,
  expect: CHUNK_BYTES + LOAD_BYTES,
  lost: CHUNK_BYTES,
  slot: CHUNK_BYTES,
  pass: 0,
  want: 0,
} as const satisfies Record<Notice['type'], number>

/** Whether a frame's name is that of a notice. */
export function isNotice(name: string): name is Notice['type'] {
  return Object.hasOwn(NOTICE_BYTES, name)
}

/** The payload of a notice's frame. */
export function encodeNotice(notice: Notice): Uint8Array {
  const fixed = NOTICE_BYTES[notice.type]
  const bytes = new Uint8Array(fixed + notice.blob.length)
  const view = new DataView(bytes.buffer)
  if ('chunk' in notice) view.setUint32(0, notice.chunk)
  if ('load' in notice) view.setUint32(CHUNK_BYTES, notice.load)
  if ('hash' in notice) bytes.set(notice.hash, CHUNK_BYTES + LOAD_BYTES)
  putDigest(bytes, fixed, notice.blob)
  return bytes
}

/** Reads the payload of a notice's frame; it shares no memory with it. @throws {WireError} when it names no digest. */
export function decodeNotice(type: Notice['type'], payload: Uint8Array): Notice {
  const fixed = NOTICE_BYTES[type]
  const blob = takeDigest(payload, fixed, type)
  if (type === 'pass' || type === 'want') return { type, blob }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length)
  const chunk = view.getUint32(0)
  if (type === 'lost' || type === 'slot') return { type, blob, chunk }
  const load = view.getUint32(CHUNK_BYTES)
  if (type === 'expect') return { type, blob, chunk, load }
  return { type, blob, chunk, load, hash: Uint8Array.from(payload.subarray(CHUNK_BYTES + LOAD_BYTES, fixed)) }
}
