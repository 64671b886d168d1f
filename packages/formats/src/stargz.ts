/** The length of an eStargz footer in bytes (stargz-snapshotter, docs/estargz.md, "Footer"). */
export const STARGZ_FOOTER_BYTES = 51

/** A gzip header with an extra field of 26 bytes, whose one subfield "SG" has 22 bytes. */
const FOOTER_HEAD = Buffer.from('1f8b08040000000000001a0053471600', 'hex')
/** The header's bytes for time, extra flags and operating system, which may be anything. */
const FREE = { from: 4, to: 10 }

/**
 * Where an eStargz layer's table of contents begins.
 * @param footer - the layer's last {@link STARGZ_FOOTER_BYTES}; untrusted.
 * @returns undefined when it is no such footer.
 */
export function readStargzFooter(footer: Uint8Array): number | undefined {
  const bytes = Buffer.from(footer.buffer, footer.byteOffset, footer.byteLength)
  if (bytes.length !== STARGZ_FOOTER_BYTES) return undefined
  for (const [at, byte] of FOOTER_HEAD.entries()) {
    if ((at < FREE.from || at >= FREE.to) && bytes[at] !== byte) return undefined
  }
  const field = /^([0-9a-f]{16})STARGZ$/.exec(
    bytes.toString('latin1', FOOTER_HEAD.length, FOOTER_HEAD.length + 22),
  )
  return field?.[1] === undefined ? undefined : Number(`0x${field[1]}`)
}

const LANDMARK = '".prefetch.landmark"'

/**
 * Where the files that an image's author put first end: the offset of the entry `.prefetch.landmark`
 * (stargz-snapshotter, docs/estargz.md, "Prioritized Files and Landmark Files"). Only that entry is parsed, so that
 * a table of any size costs one search.
 * @param toc - a table of contents, or a tar that it lies in; untrusted.
 * @returns undefined when the table has no such entry.
 */
export function findLandmark(toc: Buffer): number | undefined {
  const name = toc.indexOf(LANDMARK)
  if (name < 0) return undefined
  // Entries are flat but for extended attributes, which a landmark has none of.
  const start = toc.lastIndexOf('{', name)
  const end = toc.indexOf('}', name)
  if (start < 0 || end < 0 || end - start > MAX_ENTRY_BYTES) return undefined
  try {
    const entry: unknown = JSON.parse(toc.toString('utf8', start, end + 1))
    if (typeof entry !== 'object' || entry === null || !('offset' in entry)) return undefined
    const { offset } = entry
    return typeof offset === 'number' && Number.isSafeInteger(offset) && offset > 0 ? offset : undefined
  } catch {
    return undefined
  }
}

const MAX_ENTRY_BYTES = 4096
