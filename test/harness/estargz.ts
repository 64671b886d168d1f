import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
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

/** An eStargz layer by its specification (stargz-snapshotter, docs/estargz.md). */
export function packEstargz(entries: readonly TarEntry[]): LazyLayer {
  const parts: Buffer[] = []
  const unpacked: Buffer[] = []
  let offset = 0
  const add = (bytes: Buffer): number => {
    const at = offset
    const packed = gzipSync(bytes, { level: 0 })
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
  const toc = Buffer.from(JSON.stringify({ version: 1, entries: listed }))
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
