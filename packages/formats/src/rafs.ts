import { type Extent, extentWithin, joined } from './extent.ts'
import { readRafsV5 } from './rafs-v5.ts'
import { readRafsV6 } from './rafs-v6.ts'
import { Records } from './records.ts'

/** Parts of a blob that a plan names. */
const MAX_EXTENTS = 4096

/**
 * What of a data blob a RAFS bootstrap asks for first: its compression table, then what the prefetch table names.
 * @param bootstrap - a file `image.boot` of RAFS v5 or v6; untrusted.
 * @param blobId - the blob's sha256 in hex.
 * @param size - of the blob, bytes.
 * @returns at most 4096 extents; none when the file is of another format, says nothing of the blob, or is malformed.
 */
export function rafsOrder(bootstrap: Uint8Array, blobId: string, size: number): readonly Extent[] {
  const records = new Records(bootstrap)
  try {
    const parts = readRafsV6(records, blobId) ?? readRafsV5(records, blobId) ?? []
    const extents = parts.flatMap(({ offset, length }) => extentWithin(offset, offset + length, size) ?? [])
    return joined(extents).slice(0, MAX_EXTENTS)
  } catch (error) {
    if (error instanceof RangeError) return []
    throw error
  }
}
