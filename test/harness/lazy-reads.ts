import assert from 'node:assert/strict'
import { seededRandom } from '@darter/runtime'
import type { NydusBlob, ReadKind } from './clients/nydusd.ts'

const KIB = 1024
/** nydusd merges neighbouring chunks into requests of up to about 1 MiB; the smallest seen have 128 KiB. */
const MIN_READ = 128 * KIB
const MAX_READ = 1024 * KIB
const PREFETCH_THREADS = 8

interface Span {
  readonly offset: number
  readonly length: number
}

/** Cuts a blob into reads of uneven lengths, in order. */
function cut(size: number, random: () => number): Span[] {
  const spans: Span[] = []
  for (let offset = 0; offset < size; ) {
    const length = Math.min(size - offset, MIN_READ + Math.floor(random() * (MAX_READ - MIN_READ)))
    spans.push({ offset, length })
    offset += length
  }
  return spans
}

/**
 * Reads a blob as a container that starts does: a prefetch of all of it in order by several threads, while on-demand
 * reads hit it anywhere, some of the same bytes more than once. Every byte is compared.
 */
export async function readLazily(blob: NydusBlob, expected: Buffer, seed: number): Promise<void> {
  const random = seededRandom(seed)
  assert.equal(await blob.size(), expected.length)
  const read = async ({ offset, length }: Span, kind: ReadKind) => {
    const bytes = await blob.read(offset, length, kind)
    assert(bytes.equals(expected.subarray(offset, offset + length)), `wrong bytes at ${offset}+${length}`)
  }
  // The superblock at the start, the tables at the end: what a mount reads before anything else.
  await read({ offset: 0, length: Math.min(4 * KIB, expected.length) }, 'on-demand')
  await read(
    { offset: Math.max(0, expected.length - 512), length: Math.min(512, expected.length) },
    'on-demand',
  )

  const prefetch = cut(expected.length, random)
  const demand = cut(expected.length, random)
    .map(span => ({ span, key: random() }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ span }) => span)
  const worker = async (queue: Span[], kind: ReadKind) => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await read(next, kind)
  }
  await Promise.all([
    ...Array.from({ length: PREFETCH_THREADS }, () => worker(prefetch, 'prefetch')),
    worker(demand, 'on-demand'),
  ])
  for (const offset of [0, Math.floor(expected.length / 3)]) {
    const bytes = await blob.stream(offset)
    assert(bytes.equals(expected.subarray(offset)), `wrong bytes in a stream from ${offset}`)
  }
}
