import { type Digest, digestHex } from '@darter/oci'
import { promisify } from 'node:util'
import { gunzip, zstdDecompress } from 'node:zlib'
import { unpackBootstrap } from './bootstrap.ts'
import { type Extent, extentWithin } from './extent.ts'
import type { LayerHint } from './hints.ts'
import { rafsOrder } from './rafs.ts'
import { findLandmark, readStargzFooter, STARGZ_FOOTER_BYTES } from './stargz.ts'
import { readZstdFooter, ZSTD_FOOTER_BYTES } from './zstd-chunked.ts'

/** The largest table of contents that is looked into, in bytes, and the most that it may become when it is decompressed. */
const MAX_TABLE_BYTES = 16 * 1024 * 1024
const MAX_UNPACKED_BYTES = 64 * 1024 * 1024

/** How a plan gets the bytes that tell it how to go on. What these throw ends the plan. */
export interface PlanReads {
  /** Exactly the bytes of a part of the planned blob that the plan has named before. */
  extent(extent: Extent): Promise<Uint8Array>
  /** Another blob of the same image, whole. */
  blob(blob: { readonly digest: Digest; readonly size: number }): Promise<Uint8Array>
}

/**
 * The parts of a blob that are needed before the others, the first one first; the rest has no order of its own.
 * Parts may overlap. The plan reads on only when it is asked for its next part, and only what it named. What is malformed, too
 * large or of an unknown version ends it early: the rest then comes as it would have come without a plan.
 * @param blob - its digest, and its size in bytes.
 * @throws what `reads` throws.
 */
export async function* firstExtents(
  hint: LayerHint,
  blob: { readonly digest: Digest; readonly size: number },
  reads: PlanReads,
): AsyncGenerator<Extent, void, undefined> {
  const { size } = blob
  switch (hint.format) {
    case 'nydus': {
      const bootstrap = await unpackBootstrap(await reads.blob(hint.bootstrap))
      if (bootstrap !== undefined) yield* rafsOrder(bootstrap, digestHex(blob.digest), size)
      return
    }
    case 'estargz': {
      const footer = extentWithin(Math.max(0, size - STARGZ_FOOTER_BYTES), size, size)
      if (footer === undefined) return
      yield footer
      const tocAt = readStargzFooter(await reads.extent(footer))
      const toc = tocAt === undefined ? undefined : extentWithin(tocAt, footer.from, size)
      if (toc === undefined) return
      yield toc
      yield* prioritized(toc, size, reads, inflate)
      return
    }
    case 'zstd:chunked': {
      let { tables } = hint
      if (tables.length === 0) {
        const footer = extentWithin(Math.max(0, size - ZSTD_FOOTER_BYTES), size, size)
        if (footer === undefined) return
        yield footer
        tables = readZstdFooter(await reads.extent(footer), size)
      }
      yield* tables
      const [toc] = tables
      if (toc !== undefined) yield* prioritized(toc, size, reads, unzstd)
    }
  }
}

const inflate = promisify(gunzip)
const unzstd = promisify(zstdDecompress)

/** The files before the landmark, when the table of contents has one. */
async function* prioritized(
  toc: Extent,
  size: number,
  reads: PlanReads,
  unpack: (bytes: Uint8Array, options: { maxOutputLength: number }) => Promise<Buffer>,
): AsyncGenerator<Extent, void, undefined> {
  if (toc.to - toc.from > MAX_TABLE_BYTES) return
  const packed = await reads.extent(toc)
  // Bytes that are no such table, or too large a one, say nothing.
  const table = await unpack(packed, { maxOutputLength: MAX_UNPACKED_BYTES }).catch(() => undefined)
  const landmark = table === undefined ? undefined : findLandmark(table)
  const first = landmark === undefined ? undefined : extentWithin(0, landmark, size)
  if (first !== undefined) yield first
}
