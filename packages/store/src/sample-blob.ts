import { createCipheriv, createHash } from 'node:crypto'
import { type Digest, parseDigest } from '@darter/oci'
import { type ChunkLayout, chunkLayout } from '@darter/swarm'

/** A blob of made-up content. */
export interface SampleBlob {
  readonly digest: Digest
  readonly layout: ChunkLayout
  /** A fresh copy of a chunk's bytes. */
  chunk(index: number): Uint8Array
  /** The sha256 of a chunk. */
  hash(index: number): Uint8Array
}

/** A blob of `size` bytes for tests: the same seed makes the same bytes, and no two chunks are alike. */
export function sampleBlob(size: number, seed: number): SampleBlob {
  const layout = chunkLayout(size)
  const chunk = (index: number): Uint8Array => {
    const iv = Buffer.alloc(16)
    iv.writeUInt32BE(seed, 0)
    iv.writeUInt32BE(index, 4)
    return createCipheriv('aes-128-ctr', Buffer.alloc(16), iv).update(Buffer.alloc(layout.length(index)))
  }
  const whole = createHash('sha256')
  if (size === 0) whole.update(String(seed))
  const hashes: Uint8Array[] = []
  for (let index = 0; index < layout.count; index++) {
    const bytes = chunk(index)
    whole.update(bytes)
    hashes.push(createHash('sha256').update(bytes).digest())
  }
  return {
    digest: parseDigest(`sha256:${whole.digest('hex')}`),
    layout,
    chunk,
    hash: index => hashes[index] ?? new Uint8Array(32),
  }
}
