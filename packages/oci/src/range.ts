/** What a `Range` header asks for, against a representation of a known size. */
export type RequestedRange =
  | { readonly kind: 'whole' }
  /** Bytes from `from` up to and not including `to`; `from < to <= size`. `isOpen`: the header names no end. */
  | { readonly kind: 'range'; readonly from: number; readonly to: number; readonly isOpen?: true }
  /** To be answered with 416 and {@link formatUnsatisfiedRange}. */
  | { readonly kind: 'unsatisfiable' }

const WHOLE: RequestedRange = { kind: 'whole' }
const UNSATISFIABLE: RequestedRange = { kind: 'unsatisfiable' }
const SINGLE = /^bytes=[ \t]*(?:(\d+)-(\d*)|-(\d+))[ \t]*$/i

/**
 * Reads a `Range` header (RFC 9110 14.1.2, 14.2). Several ranges, other units and malformed or invalid headers read
 * as 'whole', since a server may ignore them; only a well-formed single range that lies outside is 'unsatisfiable'.
 * @param size - the size of the whole representation in bytes.
 */
export function parseRange(header: string | undefined, size: number): RequestedRange {
  const match = header === undefined ? null : SINGLE.exec(header)
  if (!match) return WHOLE
  const [, first, last, suffix] = match
  if (first === undefined) {
    const length = Number(suffix)
    if (length === 0) return UNSATISFIABLE
    return size === 0 ? WHOLE : { kind: 'range', from: Math.max(0, size - length), to: size }
  }
  const from = Number(first)
  const end = last ? Number(last) : Number.POSITIVE_INFINITY
  if (end < from) return WHOLE
  if (from >= size) return UNSATISFIABLE
  return { kind: 'range', from, to: Math.min(end + 1, size), ...(!last && { isOpen: true }) }
}

/** Ranges of one header that are told apart. */
const MAX_RANGES = 1024

/**
 * Reads a `Range` header as {@link parseRange} does, and several ranges as 'ranges' when they follow each other without
 * touching back (RFC 9110 14.2), so that they are never more than the whole. Those that lie outside are left out.
 */
export function parseRanges(
  header: string | undefined,
  size: number,
): RequestedRange | { readonly kind: 'ranges'; readonly ranges: readonly { from: number; to: number }[] } {
  const [, list] = /^bytes=(.*,.*)$/i.exec(header ?? '') ?? []
  if (list === undefined) return parseRange(header, size)
  const texts = list.split(',', MAX_RANGES + 1).filter(text => text.trim() !== '')
  if (texts.length > MAX_RANGES) return WHOLE
  const ranges: { from: number; to: number }[] = []
  for (const text of texts) {
    const range = parseRange(`bytes=${text}`, size)
    if (range.kind === 'unsatisfiable') continue
    if (range.kind === 'whole' || range.from < (ranges.at(-1)?.to ?? 0)) return WHOLE
    ranges.push({ from: range.from, to: range.to })
  }
  const [first, ...others] = ranges
  if (first === undefined) return texts.length > 0 ? UNSATISFIABLE : WHOLE
  return others.length === 0 ? { kind: 'range', ...first } : { kind: 'ranges', ranges }
}

/** The `Range` header that asks for bytes from `from` up to and not including `to` (undefined: to the end). */
export function formatRange(from: number, to?: number): string {
  return `bytes=${from}-${to === undefined ? '' : to - 1}`
}

/** What a `Content-Range` header says. */
export type ContentRange =
  /** Bytes from `from` up to and not including `to`, of `size` where it was told. */
  | { readonly kind: 'range'; readonly from: number; readonly to: number; readonly size: number | undefined }
  /** The answer to an unsatisfiable range: only the size. */
  | { readonly kind: 'unsatisfied'; readonly size: number }

const CONTENT_RANGE = /^bytes (?:(\d+)-(\d+)\/(\d+|\*)|\*\/(\d+))$/i

/** Reads a `Content-Range` header (RFC 9110 14.4); undefined when it is malformed or contradicts itself. */
export function parseContentRange(header: string): ContentRange | undefined {
  const match = CONTENT_RANGE.exec(header)
  if (!match) return undefined
  const [, first, last, total, unsatisfied] = match
  if (unsatisfied !== undefined) {
    const size = Number(unsatisfied)
    return Number.isSafeInteger(size) ? { kind: 'unsatisfied', size } : undefined
  }
  const from = Number(first)
  const to = Number(last) + 1
  const size = total === '*' ? undefined : Number(total)
  const sound =
    Number.isSafeInteger(to) &&
    from < to &&
    (size === undefined || (Number.isSafeInteger(size) && to <= size))
  return sound ? { kind: 'range', from, to, size } : undefined
}

/** The `Content-Range` header of a 206 with bytes from `from` up to and not including `to`. */
export function formatContentRange(from: number, to: number, size: number | undefined): string {
  return `bytes ${from}-${to - 1}/${size ?? '*'}`
}

/** The `Content-Range` header of a 416. */
export function formatUnsatisfiedRange(size: number): string {
  return `bytes */${size}`
}
