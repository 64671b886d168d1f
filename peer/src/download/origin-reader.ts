import { createHash } from 'node:crypto'
import { type Digest, digestAlgorithm, digestHex, MANIFEST_MEDIA_TYPES } from '@darter/oci'
import type { BlobBody } from '@darter/origin'
import type { ChunkBuffers } from '@darter/runtime'
import type { ChunkLayout } from '@darter/swarm'
import type { BlobSource, ContentKind } from './contract.ts'
import { OriginIgnoresRangesError, OriginSizeError } from './errors.ts'

/** A whole chunk read from the origin. */
export interface OriginChunk {
  readonly index: number
  /** Valid until {@link release}. */
  readonly bytes: Uint8Array
  /** sha256 of `bytes`. */
  readonly hash: Uint8Array
  /** Gives the memory of `bytes` back; to be called once. */
  release(): void
}

/**
 * Reads chunks [from, to) of a blob with one request, in order, each whole. Without a range in the request when the
 * run is the whole blob, so that an origin that knows none will do. When a range that begins the blob is answered with
 * the whole blob, all of it is read: chunks beyond `to` are yielded too.
 * @throws {OriginIgnoresRangesError} when the origin answers a range further on with the whole blob, unless `skip` is set;
 * @throws {OriginSizeError} when the blob has another size there; and what {@link BlobBody} throws.
 */
export async function* readChunks(options: {
  readonly source: BlobSource
  readonly digest: Digest
  readonly kind: ContentKind
  readonly layout: ChunkLayout
  readonly from: number
  readonly to: number
  /** The origin is known to ignore ranges: what comes before the run is read and thrown away. */
  readonly skip: boolean
  readonly signal: AbortSignal
  readonly buffers: ChunkBuffers
  /** Called for every piece that arrives, with its length in bytes. */
  readonly onBytes: (bytes: number) => void
  /** Called while a chunk is not whole yet, with the bytes of it that have come. */
  readonly onProgress: (chunk: number, received: number) => void
}): AsyncGenerator<OriginChunk> {
  const { layout, digest, from, buffers, onBytes, onProgress } = options
  let { to } = options
  const start = layout.offset(from)
  let end = layout.offset(to - 1) + layout.length(to - 1)
  const range = end - start === layout.size ? undefined : { from: start, to: end }
  const blob = await openContent({ ...options, range })
  let chunk: Uint8Array | undefined
  try {
    if (blob.size !== undefined && blob.size !== layout.size)
      throw new OriginSizeError(digest, layout.size, blob.size)
    if (blob.offset > start) throw new OriginIgnoresRangesError(digest)
    if (!blob.honouredRange) {
      if (start > 0 && !options.skip) throw new OriginIgnoresRangesError(digest)
      to = layout.count
      end = layout.size
    }
    let position = blob.offset
    let index = from
    let filled = 0
    let hash = createHash('sha256')
    for await (const piece of blob.body) {
      onBytes(piece.length)
      let offset = Math.max(0, Math.min(piece.length, start - position))
      const usable = Math.min(piece.length, end - position)
      while (offset < usable) {
        chunk ??= buffers.take(layout.length(index))
        const take = Math.min(usable - offset, chunk.length - filled)
        const part = piece.subarray(offset, offset + take)
        chunk.set(part, filled)
        hash.update(part)
        offset += take
        filled += take
        if (filled < chunk.length) {
          onProgress(index, filled)
          continue
        }
        const bytes = chunk
        chunk = undefined
        yield { index, bytes, hash: hash.digest(), release: () => buffers.give(bytes) }
        index++
        if (index === to) break
        filled = 0
        hash = createHash('sha256')
      }
      position += piece.length
      // A body that ends here is read to its end all the same: its connection can be used again.
      if (index === to && position > end) return
    }
    if (index === to) return
    // The origin said no size and ended early.
    throw new OriginSizeError(digest, layout.size, position)
  } finally {
    blob.cancel()
    if (chunk !== undefined) buffers.give(chunk)
  }
}

/** Opens bytes [from, to) of a blob at its origin (all of it without them), or the whole of a manifest. */
export async function openContent(options: {
  readonly source: BlobSource
  readonly digest: Digest
  readonly kind: ContentKind
  readonly range: { readonly from: number; readonly to: number } | undefined
  readonly signal: AbortSignal
}): Promise<BlobBody> {
  const { source, digest, kind, range, signal } = options
  const { upstream, repository, authorization, via } = source
  const request = { repository, via, signal, ...(authorization === undefined ? {} : { authorization }) }
  if (kind === 'blob') return await upstream.origin.openBlob(digest, { ...request, ...range })
  const manifest = await upstream.origin.getManifest(digest, { ...request, accept: MANIFEST_MEDIA_TYPES })
  return {
    offset: 0,
    size: manifest.bytes.length,
    honouredRange: true,
    body: (async function* () {
      yield manifest.bytes
    })(),
    cancel: () => {},
  }
}

/** Whether a chunk's sha256 is the blob's own digest, as for a blob of one chunk. */
export function hashIsDigest(hash: Uint8Array, digest: Digest): boolean {
  return digestAlgorithm(digest) === 'sha256' && Buffer.from(hash).toString('hex') === digestHex(digest)
}
