/** A part of a blob in bytes: from `from` up to and not including `to`. Never empty. */
export interface Extent {
  readonly from: number
  readonly to: number
}

/** The part of `[from, to)` that lies in a blob of `size` bytes; undefined when there is none or the numbers are not sound. */
export function extentWithin(from: number, to: number, size: number): Extent | undefined {
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 0) return undefined
  const end = Math.min(to, size)
  return from < end ? { from, to: end } : undefined
}

/** Extents in the same order, those joined that follow one another (or overlap) in the blob too. */
export function joined(extents: Iterable<Extent>): Extent[] {
  const found: Extent[] = []
  for (const next of extents) {
    const last = found.at(-1)
    if (last !== undefined && next.from >= last.from && next.from <= last.to) {
      found[found.length - 1] = { from: last.from, to: Math.max(last.to, next.to) }
    } else {
      found.push(next)
    }
  }
  return found
}
