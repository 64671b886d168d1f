import { type Digest, isDigest, quoted } from '@darter/oci'
import { WireError } from './errors.ts'

/** Characters of a digest as text. */
export const DIGEST_CHARS = { min: 'sha256:'.length + 64, max: 'sha512:'.length + 128 }

/** Writes a digest to the end of a payload. */
export function putDigest(target: Uint8Array, at: number, digest: Digest): void {
  for (let i = 0; i < digest.length; i++) target[at + i] = digest.charCodeAt(i)
}

/** Digests that were read lately: the same few blobs are spoken of all the time. */
const RECENT = 8
const recent: { readonly bytes: Uint8Array; readonly digest: Digest }[] = []

/** Reads the digest at the end of a payload. @throws {WireError} when it is none. */
export function takeDigest(payload: Uint8Array, at: number, frame: string): Digest {
  const bytes = payload.subarray(at)
  for (const known of recent) if (Buffer.compare(known.bytes, bytes) === 0) return known.digest
  const digest = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
  if (!isDigest(digest))
    throw new WireError('invalid', `a ${frame} frame of ${quoted(digest)}, which is no digest`)
  if (recent.length === RECENT) recent.shift()
  recent.push({ bytes: Uint8Array.from(bytes), digest })
  return digest
}
