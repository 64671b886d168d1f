import type { StoredBlob } from '@darter/store'
import { sameHash } from './prefix-hasher.ts'

/** Times that a chunk is written when others' bytes for it are in the way. */
const MAX_WRITES = 3

/**
 * Writes a chunk and looks at what the store has then: another sender's bytes may have been under way, and the verified list may
 * have come meanwhile. 'other': what is held now, if anything, is not this.
 */
export async function writeChunk(
  stored: StoredBlob,
  chunk: {
    readonly index: number
    readonly bytes: Uint8Array
    readonly hash: Uint8Array
    /** These are the origin's bytes: they go before those of others. */
    readonly isFromOrigin: boolean
  },
  on: {
    /** What the verified list says of the chunk now. */
    readonly listed: () => Uint8Array | undefined
    /** What was held instead is wrong, and is dropped now. */
    readonly wrong: () => void
  },
): Promise<'stored' | 'full' | 'other'> {
  const { index, bytes, hash, isFromOrigin } = chunk
  for (let attempt = 0; attempt < MAX_WRITES; attempt++) {
    if ((await stored.writeChunk(index, bytes, hash)) === 'full') return 'full'
    const actual = stored.chunkHash(index)
    const isThis = actual !== undefined && sameHash(hash, actual)
    const expected = isFromOrigin ? hash : on.listed()
    if (actual !== undefined && expected !== undefined && !sameHash(expected, actual)) {
      on.wrong()
      await stored.dropChunk(index)
    }
    if (isThis && stored.held.has(index)) return 'stored'
    if (!isFromOrigin) return 'other'
  }
  return 'other'
}
