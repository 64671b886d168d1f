import type { ReadonlyBitfield } from './bitfield.ts'
import type { Random } from './random.ts'

/** What a picker looks at; it changes nothing. */
export interface PickView {
  /** Chunks in all. */
  readonly count: number
  /** The chunk is missing here and nobody has been asked for it. */
  isWanted(chunk: number): boolean
  /** How many neighbours hold the chunk. */
  availability(chunk: number): number
  /** Where readers wait: the first chunk each has yet to get. */
  readonly readers: Iterable<number>
}

/**
 * The chunk to request next from someone who holds `offered`: the first wanted one in the `window` chunks before a
 * reader (so that reading is never starved), else the rarest, ties broken at random so that neighbours who choose at
 * the same moment spread out. Undefined when nothing offered is wanted.
 */
export function pickChunk(
  offered: ReadonlyBitfield,
  view: PickView,
  window: number,
  random: Random,
): number | undefined {
  for (const position of view.readers) {
    const end = Math.min(view.count, position + window)
    for (let chunk = position; chunk < end; chunk++) {
      if (offered.has(chunk) && view.isWanted(chunk)) return chunk
    }
  }
  let best: number | undefined
  let rarest = Number.POSITIVE_INFINITY
  let ties = 0
  for (const chunk of offered.indices()) {
    if (!view.isWanted(chunk)) continue
    const copies = view.availability(chunk)
    if (copies < rarest) {
      rarest = copies
      best = chunk
      ties = 1
    } else if (copies === rarest && random() * ++ties < 1) {
      best = chunk
    }
  }
  return best
}
