import { createHash } from 'node:crypto'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { tar, type TarEntry } from './tar.ts'

/** A layer with a table of contents at its end, as clients that read layers lazily want it. */
export interface LazyLayer {
  readonly bytes: Buffer
  /** What it unpacks to. */
  readonly archive: Buffer
  /** What its descriptor says of it. */
  readonly annotations: Readonly<Record<string, string>>
}

const TAR_END_BYTES = 1024

const UNPACKED_END = Buffer.alloc(TAR_END_BYTES)

/** Packs every member's head and content by itself, and lists where the contents are. */
function packMembers(entries: readonly TarEntry[], pack: (bytes: Buffer) => Buffer) {
  const parts: Buffer[] = []
  const unpacked: Buffer[] = []
  let offset = 0
  const add = (bytes: Buffer): number => {
    const at = offset
    const packed = pack(bytes)
    unpacked.push(bytes)
    parts.push(packed)
    offset += packed.length
    return at
  }
  const listed = entries.map(entry => {
    const member = tar([entry])
    const archive = member.subarray(0, member.length - TAR_END_BYTES)
    const { path: name } = entry
    add(archive.subarray(0, 512))
    if (entry.type !== 'file') return { name, type: entry.type === 'directory' ? 'dir' : 'symlink' }
    const { length: size } = entry.data
    return { name, type: 'reg', size, offset: add(archive.subarray(512)) }
  })
  return { parts, unpacked, offset, toc: Buffer.from(JSON.stringify({ version: 1, entries: listed })) }
}

/** An eStargz layer by its specification (stargz-snapshotter, docs/estargz.md). */
export function packEstargz(entries: readonly TarEntry[]): LazyLayer {
  const { parts, unpacked, offset, toc } = packMembers(entries, bytes => gzipSync(bytes, { level: 0 }))
  const index = tar([{ type: 'file', path: 'stargz.index.json', data: toc }])
  const end = gzipSync(index)
  const footer = Buffer.concat([
    Buffer.from('1f8b08040000000000ff1a0053471600', 'hex'),
    Buffer.from(`${offset.toString(16).padStart(16, '0')}STARGZ`),
    Buffer.from('010000ffff0000000000000000', 'hex'),
  ])
  return {
    bytes: Buffer.concat([...parts, end, footer]),
    archive: Buffer.concat([...unpacked, index]),
    annotations: {
      'containerd.io/snapshot/stargz/toc.digest': `sha256:${createHash('sha256').update(toc).digest('hex')}`,
    },
  }
}

/** A frame that decoders skip (RFC 8878 3.1.2). */
function skippable(bytes: Buffer): Buffer {
  const head = Buffer.from('502a4d1800000000', 'hex')
  head.writeUInt32LE(bytes.length, 4)
  return Buffer.concat([head, bytes])
}

/** A zstd:chunked layer as containers/storage describes it (pkg/chunked/internal/minimal/compression.go). */
export function packZstdChunked(entries: readonly TarEntry[]): LazyLayer {
  const { parts, unpacked, offset, toc } = packMembers(entries, bytes => zstdCompressSync(bytes))
  const end = zstdCompressSync(UNPACKED_END)
  const table = zstdCompressSync(toc)
  const tableAt = offset + end.length + 8
  const footer = Buffer.alloc(64)
  for (const [index, value] of [tableAt, table.length, toc.length, 1].entries())
    footer.writeBigUInt64LE(BigInt(value), index * 8)
  footer.write('GNUlInUx', 56)
  return {
    bytes: Buffer.concat([...parts, end, skippable(table), skippable(footer)]),
    archive: Buffer.concat([...unpacked, UNPACKED_END]),
    annotations: {
      'io.github.containers.zstd-chunked.manifest-position': `${tableAt}:${table.length}:${toc.length}:1`,
      'io.github.containers.zstd-chunked.manifest-checksum': `sha256:${createHash('sha256').update(table).digest('hex')}`,
    },
  }
}
