import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { type Digest, digestAlgorithm } from '@darter/oci'
import { GetDigestError } from './errors.ts'
import type { Fetched } from './fetch.ts'
import { lockFile } from './file-lock.ts'
import { openPart, type Sink } from './part-file.ts'

/**
 * Puts what `fetch` fetches in place of a file: whole and synced, or not at all. What breaks off is left beside it to be gone on with.
 * @throws {GetTargetError} when another run writes it; what `fetch` throws.
 */
export async function toFile(file: string, fetch: (sink: Sink) => Promise<Fetched>): Promise<Fetched> {
  const unlock = await lockFile(file)
  try {
    const part = await openPart(file)
    try {
      const fetched = await fetch(part)
      await part.finish(fetched.size)
      return fetched
    } catch (error) {
      if (error instanceof GetDigestError) await part.discard()
      throw error
    } finally {
      await part.close()
    }
  } finally {
    unlock()
  }
}

/** Whether a file has a size in bytes and a digest already; reads all of it to know, until the signal aborts. */
export async function isThere(
  file: string,
  digest: Digest,
  size: number,
  signal: AbortSignal,
): Promise<boolean> {
  const found = await stat(file).catch(() => undefined)
  if (found?.isFile() !== true || found.size !== size) return false
  const algorithm = digestAlgorithm(digest)
  const hash = createHash(algorithm)
  await pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), hash, { signal })
  return `${algorithm}:${hash.digest('hex')}` === digest
}
