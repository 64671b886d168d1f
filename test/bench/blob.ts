import { createCipheriv, createHash } from 'node:crypto'
import { closeSync, linkSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Digest, parseDigest } from '@darter/oci'
import type { Registry } from '@darter/testing'
import { MIB } from './measure.ts'

const STEP = 4 * MIB

/** A file with a known digest. */
export interface Blob {
  readonly path: string
  readonly digest: Digest
  readonly size: number
}

/** Writes a file of bytes that do not compress, always the same for a seed (0 to 255), without holding it in memory. */
export function makeBlob(path: string, size: number, seed = 1): Blob {
  const hash = createHash('sha256')
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16))
  const zeros = Buffer.alloc(STEP)
  const fd = openSync(path, 'wx')
  try {
    for (let left = size; left > 0; left -= STEP) {
      const piece = cipher.update(zeros.subarray(0, Math.min(left, STEP)))
      hash.update(piece)
      writeSync(fd, piece)
    }
  } finally {
    closeSync(fd)
  }
  return { path, digest: parseDigest(`sha256:${hash.digest('hex')}`), size }
}

/** Puts a blob into a repository, straight into the registry's storage and without a copy of its bytes. */
export function plantBlob(
  registry: Pick<Registry, 'storage'>,
  repository: string,
  { path, digest }: Blob,
): void {
  const hex = digest.slice('sha256:'.length)
  const root = join(registry.storage, 'docker', 'registry', 'v2')
  const data = join(root, 'blobs', 'sha256', hex.slice(0, 2), hex, 'data')
  const link = join(root, 'repositories', repository, '_layers', 'sha256', hex, 'link')
  for (const file of [data, link]) mkdirSync(dirname(file), { recursive: true })
  linkSync(path, data)
  writeFileSync(link, digest)
}
