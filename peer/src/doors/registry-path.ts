import {
  type Digest,
  isTag,
  NameInvalidError,
  parseDigest,
  parseRepositoryName,
  type Tag,
  TagInvalidError,
} from '@darter/oci'
import { RouteUnknownError, TargetInvalidError, TargetTooLongError } from './errors.ts'

/** The longest request target that is read, in characters. */
export const MAX_TARGET_LENGTH = 8192

/**
 * What a request addresses, before it is known which upstream is meant. `name` is a repository name whose first
 * component may be a registry's `host` or `host:port`; undefined for the API's root without one.
 */
export type RegistryTarget =
  | { readonly kind: 'root'; readonly name: string | undefined }
  | { readonly kind: 'catalog'; readonly name: string | undefined }
  | { readonly kind: 'manifest'; readonly name: string; readonly tag: Tag }
  | { readonly kind: 'manifest'; readonly name: string; readonly digest: Digest }
  | { readonly kind: 'blob'; readonly name: string; readonly digest: Digest }
  | { readonly kind: 'tags'; readonly name: string }
  | { readonly kind: 'referrers'; readonly name: string; readonly digest: Digest }
  /** `id` undefined: where uploads begin. */
  | { readonly kind: 'upload'; readonly name: string; readonly id: string | undefined }

/** A request target, taken apart and checked. */
export interface ParsedTarget {
  readonly target: RegistryTarget
  readonly query: URLSearchParams
  /** The query as it came, without the question mark. */
  readonly rawQuery: string
}

/** A registry's host as the first component of a path. */
const HOST = /^[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,250}[a-zA-Z0-9])?(?::[0-9]{1,5})?$/
const UPLOAD_ID = /^[A-Za-z0-9_=.:~+-]{1,512}$/

/**
 * Reads the target of a request to a registry (OCI distribution-spec 1.1, "Endpoints"). Percent-encoding is undone
 * once, in each path segment by itself, before the grammar is applied: an encoded slash, dot segments and empty
 * segments never make another path out of it.
 * @throws {TargetTooLongError} {@link TargetInvalidError} {@link RouteUnknownError}
 * @throws {NameInvalidError} {@link TagInvalidError} {@link InvalidDigestError}
 */
export function parseRegistryPath(url: string): ParsedTarget {
  if (url.length > MAX_TARGET_LENGTH) throw new TargetTooLongError(url.length, MAX_TARGET_LENGTH)
  const mark = url.indexOf('?')
  const path = mark < 0 ? url : url.slice(0, mark)
  const rawQuery = mark < 0 ? '' : url.slice(mark + 1)
  if (path !== '/v2' && !path.startsWith('/v2/')) throw new RouteUnknownError(path)
  const segments = path
    .slice('/v2/'.length)
    .split('/')
    .map(segment => decode(segment, path))
  return { target: parseSegments(segments, path), query: new URLSearchParams(rawQuery), rawQuery }
}

function decode(segment: string, path: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    throw new TargetInvalidError(
      path,
      'is not well-formed: a "%" must be followed by two hex digits of UTF-8',
    )
  }
}

/** Reads from the end, since a repository may be called like any part of the API. */
function parseSegments(segments: readonly string[], path: string): RegistryTarget {
  const last = segments.at(-1) ?? ''
  const before = segments.at(-2)
  const third = segments.at(-3)
  if (segments.length === 1 && last === '') return { kind: 'root', name: undefined }
  if (segments.length === 2 && last === '') return { kind: 'root', name: checkHost(before ?? '') }
  if (last === '_catalog' && segments.length <= 2) {
    return { kind: 'catalog', name: before === undefined ? undefined : checkHost(before) }
  }
  if (before === 'tags' && last === 'list') return { kind: 'tags', name: join(segments.slice(0, -2)) }
  if (before === 'manifests') {
    const name = join(segments.slice(0, -2))
    if (last.includes(':')) return { kind: 'manifest', name, digest: parseDigest(last) }
    if (!isTag(last)) throw new TagInvalidError(last)
    return { kind: 'manifest', name, tag: last }
  }
  if (before === 'referrers') {
    return { kind: 'referrers', name: join(segments.slice(0, -2)), digest: parseDigest(last) }
  }
  if (before === 'blobs' && last === 'uploads') {
    return { kind: 'upload', name: join(segments.slice(0, -2)), id: undefined }
  }
  if (before === 'blobs') {
    return { kind: 'blob', name: join(segments.slice(0, -2)), digest: parseDigest(last) }
  }
  if (third === 'blobs' && before === 'uploads') {
    if (last !== '' && (!UPLOAD_ID.test(last) || last === '.' || last === '..'))
      throw new RouteUnknownError(path)
    return { kind: 'upload', name: join(segments.slice(0, -3)), id: last === '' ? undefined : last }
  }
  throw new RouteUnknownError(path)
}

function checkHost(text: string): string {
  if (!HOST.test(text)) throw new NameInvalidError(text)
  return text
}

/** The name, if all of it is a repository's or what follows the host is. */
function join(components: readonly string[]): string {
  const [first, ...rest] = components
  const slashed = components.find(component => component.includes('/'))
  if (slashed !== undefined) throw new NameInvalidError(slashed)
  if (first !== undefined && rest.length > 0 && HOST.test(first)) {
    parseRepositoryName(rest.join('/'))
    return components.join('/')
  }
  return parseRepositoryName(components.join('/'))
}
