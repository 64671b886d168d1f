import { closestMatch } from 'leven'

/** The allowed word that was probably meant: one that it begins, else one a few letters away; undefined for none. */
export function nearest(given: string, allowed: readonly string[]): string | undefined {
  const begun = given.length >= 3 ? allowed.find(word => word.startsWith(given)) : undefined
  return begun ?? closestMatch(given, allowed, { maxDistance: Math.max(2, Math.floor(given.length / 3)) })
}
