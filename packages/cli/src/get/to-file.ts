import { GetDigestError } from './errors.ts'
import type { Fetched, Sink } from './fetch.ts'
import { lockFile } from './file-lock.ts'
import { openPart } from './part-file.ts'

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
