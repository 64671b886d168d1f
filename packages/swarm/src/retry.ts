import type { Random } from './random.ts'

const BASE_MS = 250
const MAX_MS = 8_000

/** How long to rest after `failures` failures in a row (at least one), ms: doubling, bounded, spread at random. */
export function restMs(failures: number, random: Random): number {
  return Math.min(MAX_MS, BASE_MS * 2 ** Math.max(0, failures - 1)) * (0.5 + random())
}
