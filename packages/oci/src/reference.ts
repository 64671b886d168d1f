import { type Digest, parseDigest } from './digest.ts'
import { NameInvalidError, TagInvalidError } from './errors.ts'

/**
 * The name of a repository, such as `library/nginx` (OCI distribution-spec 1.1, "Pulling manifests"). Safe in a URL
 * path; made only by {@link parseRepositoryName}.
 */
export type RepositoryName = string & { readonly __brand: 'RepositoryName' }

/** A tag (OCI distribution-spec 1.1, "Pulling manifests"). Safe in a URL path; made only by {@link parseTag}. */
export type Tag = string & { readonly __brand: 'Tag' }

/** What names a manifest within a repository. */
export type Reference =
  | { readonly kind: 'tag'; readonly tag: Tag }
  | { readonly kind: 'digest'; readonly digest: Digest }

/** The longest repository name in characters: what registries and clients commonly agree on. */
export const MAX_NAME_LENGTH = 255

const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

/** True for text that is a well-formed repository name of at most {@link MAX_NAME_LENGTH} characters. */
export function isRepositoryName(text: string): text is RepositoryName {
  return text.length <= MAX_NAME_LENGTH && NAME.test(text)
}

/** True for text that is a well-formed tag. */
export function isTag(text: string): text is Tag {
  return TAG.test(text)
}

/**
 * Reads a repository name from untrusted text.
 * @throws {NameInvalidError} when the text is not exactly one repository name.
 */
export function parseRepositoryName(text: string): RepositoryName {
  if (!isRepositoryName(text)) throw new NameInvalidError(text)
  return text
}

/**
 * Reads a tag from untrusted text.
 * @throws {TagInvalidError} when the text is not exactly one tag.
 */
export function parseTag(text: string): Tag {
  if (!isTag(text)) throw new TagInvalidError(text)
  return text
}

/**
 * Reads a tag or a digest from untrusted text. A tag cannot hold ":", so text with one is meant as a digest.
 * @throws {TagInvalidError} for a malformed tag;
 * @throws {InvalidDigestError} for a malformed digest or one of an unsupported algorithm.
 */
export function parseReference(text: string): Reference {
  return text.includes(':')
    ? { kind: 'digest', digest: parseDigest(text) }
    : { kind: 'tag', tag: parseTag(text) }
}
