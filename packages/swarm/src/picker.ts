import type { ReadonlyBitfield } from './bitfield.ts'
import type { Random } from './random.ts'

/**
 * The rarest chunk of those that are offered, not held and wanted; ties broken at random, so that neighbours who choose
 * at the same moment spread out. Undefined when nothing offered is wanted.
 * @param availability how many neighbours hold a chunk.
 */
export function pickChunk(
  offered: ReadonlyBitfield,
  held: ReadonlyBitfield,
  isWanted: (chunk: number) => boolean,
  availability: (chunk: number) => number,
  random: Random,
): number | undefined {
  let best: number | undefined
  let rarest = Number.POSITIVE_INFINITY
  let ties = 0
  offered.eachNotIn(held, chunk => {
    const copies = availability(chunk)
    if (copies > rarest || !isWanted(chunk)) return
    if (copies < rarest) {
      rarest = copies
      best = chunk
      ties = 1
    } else if (random() * ++ties < 1) {
      best = chunk
    }
  })
  return best
}
