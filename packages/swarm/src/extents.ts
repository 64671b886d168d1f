import type { ChunkLayout } from './layout.ts'

/** A run of chunks `[from, to)` that is fetched from the origin with one request. */
export interface Run {
  readonly from: number
  readonly to: number
}

const RUNS_PER_BLOB = 32
const MAX_RUN_CHUNKS = 16

/**
 * The longest run that one lease covers, in chunks. Runs start at multiples of it, whoever asks and however many
 * peers there are: so the number of requests that a blob costs its origin depends on its size alone.
 */
export function runChunks(layout: ChunkLayout): number {
  return Math.min(MAX_RUN_CHUNKS, Math.max(1, Math.ceil(layout.count / RUNS_PER_BLOB)))
}

/**
 * Where a run that starts at chunk `start` ends at the latest: at the next multiple of `longest`. The first `longest`
 * chunks are cut into runs of 2, 2, 4, 8, ... chunks: several peers fetch what everyone waits for first, and whoever begins has the
 * next chunk on its way when the word of the first one is.
 */
export function runBorder(longest: number, start: number): number {
  if (start >= longest) return (Math.floor(start / longest) + 1) * longest
  return Math.min(longest, Math.max(2, 2 ** (32 - Math.clz32(start))))
}

/**
 * The first run at or after `from` (wrapping around once) of chunks that are all free: it ends before the next chunk
 * that is not free and never crosses a multiple of `longest`. Undefined when no chunk is free.
 */
export function firstFreeRun(
  count: number,
  longest: number,
  from: number,
  isFree: (chunk: number) => boolean,
): Run | undefined {
  for (let step = 0; step < count; step++) {
    const start = (from + step) % count
    if (!isFree(start)) continue
    const border = Math.min(count, (Math.floor(start / longest) + 1) * longest)
    let end = start + 1
    while (end < border && isFree(end)) end++
    return { from: start, to: end }
  }
  return undefined
}
