import { type Digest, isDigest, quoted } from '@darter/oci'
import { WireError } from './errors.ts'

/** Characters of a digest as text. */
export const DIGEST_CHARS = { min: 'sha256:'.length + 64, max: 'sha512:'.length + 128 }

/** Writes a digest to the end of a payload. */
export function putDigest(target: Uint8Array, at: number, digest: Digest): void {
  for (let i = 0; i < digest.length; i++) target[at + i] = digest.charCodeAt(i)
}

/** Reads the digest at the end of a payload. @throws {WireError} when it is none. */
export function takeDigest(payload: Uint8Array, at: number, frame: string): Digest {
  const text = String.fromCharCode(...payload.subarray(at))
  if (!isDigest(text))
    throw new WireError('invalid', `a ${frame} frame of ${quoted(text)}, which is no digest`)
  return text
}
