import { type Extent, extentWithin } from './extent.ts'

/** containers/storage, pkg/chunked/internal/minimal/compression.go; the second is what older writers say. */
const MANIFEST_POSITIONS = [
  'io.github.containers.zstd-chunked.manifest-position',
  'io.containers.zstd-chunked.manifest-position',
]
const TAR_SPLIT_POSITION = 'io.github.containers.zstd-chunked.tarsplit-position'

/** `offset:length:length when decompressed`, and `:type` for the table of contents. */
const POSITION = /^(\d{1,15}):(\d{1,15}):\d{1,15}(?::\d{1,15})?$/

/** The longest footer: the present one with where the tar-split data is, 64 bytes. */
export const ZSTD_FOOTER_BYTES = 64

/** Each format of the footer by the 8 bytes that it ends with: its length in bytes, and whether it knows of tar-split data. */
const FOOTERS = [
  { magic: 'GNUlInUx', length: 64, tarSplit: true },
  { magic: 'GnUlInUx', length: 40, tarSplit: false },
]

/**
 * Where the annotations of a zstd:chunked layer of `size` bytes say that its tables are: the table of contents, then the
 * tar-split data that a client reads with it. Undefined when there are no such annotations or they make no sense.
 */
export function readPositions(
  annotations: Readonly<Record<string, string>>,
  size: number,
): readonly Extent[] | undefined {
  const key = MANIFEST_POSITIONS.find(name => annotations[name] !== undefined)
  if (key === undefined) return undefined
  const tables = [annotations[key], annotations[TAR_SPLIT_POSITION]].flatMap(text => {
    const [, offset, length] = POSITION.exec(text ?? '') ?? []
    return extentWithin(Number(offset), Number(offset) + Number(length), size) ?? []
  })
  return tables.length > 0 ? tables : undefined
}

/**
 * Where the footer of a zstd:chunked layer says that its tables are, the table of contents first; none when it is no such
 * footer.
 * @param tail - the layer's last bytes, {@link ZSTD_FOOTER_BYTES} of them; untrusted.
 */
export function readZstdFooter(tail: Uint8Array, size: number): readonly Extent[] {
  const bytes = Buffer.from(tail.buffer, tail.byteOffset, tail.byteLength)
  const footer = FOOTERS.find(
    ({ magic, length }) => bytes.length >= length && bytes.toString('latin1', bytes.length - 8) === magic,
  )
  if (footer === undefined) return []
  const start = bytes.length - footer.length
  const tableAt = (at: number): Extent[] => {
    const offset = Number(bytes.readBigUInt64LE(start + at))
    const length = Number(bytes.readBigUInt64LE(start + at + 8))
    return [extentWithin(offset, offset + length, size) ?? []].flat()
  }
  return [...tableAt(0), ...(footer.tarSplit ? tableAt(32) : [])]
}
