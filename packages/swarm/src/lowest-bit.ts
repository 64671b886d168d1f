/** The place of the lowest bit that is set in a word of 32. */
export function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word)
}
