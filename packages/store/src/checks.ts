import type { ChunkLayout } from '@darter/swarm'
import { HASH_BYTES } from './hash-table.ts'

/** @throws {RangeError} unless `bytes` and `hash` have the lengths that chunk `index` of the layout needs. */
export function assertWritable(
  layout: ChunkLayout,
  index: number,
  bytes: Uint8Array,
  hash: Uint8Array,
): void {
  if (!Number.isInteger(index) || index < 0 || index >= layout.count) {
    throw new RangeError(`chunk ${index} is out of bounds: the blob has ${layout.count}`)
  }
  if (bytes.length !== layout.length(index)) {
    throw new RangeError(`chunk ${index} has ${layout.length(index)} bytes, not ${bytes.length}`)
  }
  if (hash.length !== HASH_BYTES) throw new RangeError(`a sha256 has ${HASH_BYTES} bytes, not ${hash.length}`)
}

/** @throws {RangeError} unless `offset` is a whole number from 0. */
export function assertOffset(offset: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0) {
    throw new RangeError(`an offset into a chunk is a whole number from 0, not ${offset}`)
  }
}

/** @throws {RangeError} unless `bytesPerSecond` is above 0. */
export function assertRate(bytesPerSecond: number): void {
  if (!(bytesPerSecond > 0)) throw new RangeError(`bytesPerSecond is above 0, not ${bytesPerSecond}`)
}
