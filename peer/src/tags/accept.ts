import { MANIFEST_MEDIA_TYPES } from '@darter/oci'

/** The mask of a caller that takes any manifest that Darter reads. */
export const ACCEPTS_ALL = 2 ** MANIFEST_MEDIA_TYPES.length - 1

/**
 * Which of {@link MANIFEST_MEDIA_TYPES} an `Accept` header lists, as a bit mask: clients send the same list in every
 * order, and an upstream may answer with another manifest to another list. A header that lists none of them, or any
 * type, reads as all.
 */
export function acceptMask(header: string | undefined): number {
  const listed = new Set((header ?? '').split(',').map(type => type.split(';', 1)[0]?.trim().toLowerCase()))
  if (listed.has('*/*') || listed.has('application/*')) return ACCEPTS_ALL
  const mask = MANIFEST_MEDIA_TYPES.reduce(
    (bits, type, at) => (listed.has(type) ? bits | (1 << at) : bits),
    0,
  )
  return mask === 0 ? ACCEPTS_ALL : mask
}

/** The media types of a mask, the preferred ones first. */
export function acceptedTypes(mask: number): readonly string[] {
  return MANIFEST_MEDIA_TYPES.filter((_, at) => (mask & (1 << at)) !== 0)
}
