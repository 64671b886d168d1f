/**
 * Checks a caller's byte range; an undefined end is the end of the blob.
 * @throws {RangeError} when it is empty, negative or not whole.
 */
export function checkSpan(from: number, to: number | undefined): void {
  const sound =
    Number.isSafeInteger(from) && from >= 0 && (to === undefined || (Number.isSafeInteger(to) && to > from))
  if (!sound) throw new RangeError(`bytes ${from} to ${to ?? 'the end'} are no range`)
}
