import { InvalidDigestError } from './errors.ts'

/**
 * The digest of a blob in canonical text form, `sha256:<64 hex>` or `sha512:<128 hex>`, lower case
 * (OCI image-spec, descriptor.md "Digests"). Only {@link parseDigest} makes one, so a value of this
 * type is safe to use as a map key, in a URL and as the name of a file.
 */
export type Digest = string & { readonly __brand: 'Digest' }

/** The registered digest algorithms that content can be verified with. */
export type DigestAlgorithm = 'sha256' | 'sha512'

const PATTERN = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/

/** True for text that is a well-formed digest of a supported algorithm. */
export function isDigest(text: string): text is Digest {
  return PATTERN.test(text)
}

/**
 * Reads a digest from untrusted text.
 * @throws {InvalidDigestError} when the text is not exactly one supported digest in lower-case hex.
 */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) throw new InvalidDigestError(text)
  return text
}

/** The algorithm part of a digest; also the name that `node:crypto` knows it by. */
export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha256:') ? 'sha256' : 'sha512'
}

/** The hex part of a digest. */
export function digestHex(digest: Digest): string {
  return digest.slice(7)
}
