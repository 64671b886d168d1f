import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64'
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus'

/** A source of numbers in [0, 1). Not for secrets. */
export type Random = () => number

/** The machine's randomness. */
export const systemRandom: Random = () => Math.random()

/** The same sequence for the same seed (a 32-bit whole number), for tests and simulations. */
export function seededRandom(seed: number): Random {
  const generator = xoroshiro128plus(seed)
  return () => uniformFloat64(generator)
}
