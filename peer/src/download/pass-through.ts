import { createHash, type Hash } from 'node:crypto'
import { type Digest, digestAlgorithm, digestHex } from '@darter/oci'
import { OriginStatusError } from '@darter/origin'
import type { BlobSource, ByteSpan, ContentKind } from './contract.ts'
import { NoSourceError, OriginCorruptError, OriginIgnoresRangesError, OriginSizeError } from './errors.ts'
import { openContent } from './origin-reader.ts'

const MAX_FAILURES = 4
/** Held back until the digest is right, so that a response with wrong bytes never ends well. */
const HELD_BACK_BYTES = 64 * 1024

/**
 * A span of a blob straight from the origin, kept nowhere: for when this machine has no room, or nothing else can be
 * agreed on. A whole blob's digest is checked before its last bytes go out. A transfer that breaks goes on where it was.
 * @throws {OriginCorruptError} when the digest is wrong; what the origin throws, after some tries.
 */
export async function* passThrough(options: {
  readonly source: BlobSource
  readonly digest: Digest
  readonly kind: ContentKind
  readonly size: number
  readonly span: ByteSpan
  /** For a caller that reads the whole blob and has its beginning: the hash of everything before the span. */
  readonly prefix?: Hash | undefined
  readonly signal: AbortSignal
  readonly onBytes: (bytes: number) => void
}): AsyncGenerator<Uint8Array> {
  const { digest, size, span, signal } = options
  const content = options.source.content ?? digest
  const whole = span.to === size && (span.from === 0 || options.prefix !== undefined)
  const hash = options.prefix ?? createHash(digestAlgorithm(content))
  let position = span.from
  let failures = 0
  let heldBack: Uint8Array | undefined
  while (position < span.to) {
    try {
      for await (const piece of pieces(options, position)) {
        position += piece.length
        failures = 0
        options.onBytes(piece.length)
        if (!whole) {
          yield piece
          continue
        }
        hash.update(piece)
        if (heldBack !== undefined) yield heldBack
        const keep = Math.min(piece.length, HELD_BACK_BYTES)
        if (piece.length > keep) yield piece.subarray(0, piece.length - keep)
        heldBack = Uint8Array.from(piece.subarray(piece.length - keep))
      }
      if (position < span.to) throw new NoSourceError(digest, undefined)
    } catch (error) {
      const final = error instanceof OriginStatusError || error instanceof OriginSizeError
      if (signal.aborted || final || ++failures >= MAX_FAILURES) throw error
    }
  }
  if (!whole) return
  if (hash.digest('hex') !== digestHex(content)) throw new OriginCorruptError(content)
  if (heldBack !== undefined) yield heldBack
}

/** The origin's bytes from `position` to the end of the span, whatever it makes of the range. */
async function* pieces(
  options: Parameters<typeof passThrough>[0],
  position: number,
): AsyncGenerator<Uint8Array> {
  const { digest, size, span } = options
  const range = position === 0 && span.to === size ? undefined : { from: position, to: span.to }
  const blob = await openContent({ ...options, range })
  try {
    if (blob.size !== undefined && blob.size !== size) throw new OriginSizeError(digest, size, blob.size)
    if (blob.offset > position) throw new OriginIgnoresRangesError(digest)
    let at = blob.offset
    for await (const piece of blob.body) {
      const from = Math.max(0, position - at)
      const to = Math.min(piece.length, span.to - at)
      at += piece.length
      if (to > from) yield piece.subarray(from, to)
      if (at >= span.to) return
    }
  } finally {
    blob.cancel()
  }
}
