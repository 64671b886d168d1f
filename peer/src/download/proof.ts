import { type Digest, MAX_MANIFEST_BYTES } from '@darter/oci'
import type { BlobProof, StoredBlob } from '@darter/store'
import { hashIsDigest } from './origin-reader.ts'
import { type PrefixHasher, sameHash } from './prefix-hasher.ts'

const HASH_BYTES = 32

/**
 * Whether a blob is believed for its verified chunk list, and hashing all of it once more is left to the scrub: it would take a
 * quarter of the CPU of a download. Not what may be a manifest: it says what else is right. Nor what is stored under another
 * name than the digest of its content, which the scrub would not know.
 */
export function listDecides(
  stored: StoredBlob,
  content: Digest,
  list: readonly Uint8Array[] | undefined,
): boolean {
  return list !== undefined && stored.layout.size > MAX_MANIFEST_BYTES && content === stored.digest
}

/**
 * What proves a blob of which every chunk is held to be right: its digest, or the verified list. 'wrong': it has another digest.
 * Undefined: it has to be hashed on.
 */
export function proofOf(
  stored: StoredBlob,
  content: Digest,
  hasher: PrefixHasher,
  list: readonly Uint8Array[] | undefined,
): BlobProof | 'wrong' | undefined {
  const only = stored.layout.count === 1 ? stored.chunkHash(0) : undefined
  if (only !== undefined && hashIsDigest(only, content)) return 'digest'
  if (hasher.done) return hasher.matches() ? 'digest' : 'wrong'
  const matches = (hash: Uint8Array, chunk: number): boolean => {
    const actual = stored.chunkHash(chunk)
    return actual !== undefined && sameHash(actual, hash)
  }
  return listDecides(stored, content, list) && list?.every(matches) === true ? 'list' : undefined
}

/** The sha256 of each chunk, in order, of a chunk list as the scheduler tells it. */
export function splitList(hashes: Uint8Array): Uint8Array[] {
  const list: Uint8Array[] = []
  for (let at = 0; at < hashes.length; at += HASH_BYTES) list.push(hashes.subarray(at, at + HASH_BYTES))
  return list
}
