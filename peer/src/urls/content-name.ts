import { createHash } from 'node:crypto'
import { type Digest, parseDigest } from '@darter/oci'

/** A URL as far as it says what the content is. */
export interface CanonicalUrl {
  readonly text: string
  /** Parameters were left out: the URL itself holds a right to read. */
  readonly signed: boolean
}

/**
 * Leaves out of a URL what does not count: the fragment, and the query parameters whose names fit `ignored` (in any case;
 * a `*` at the end stands for anything).
 */
export function canonicalUrl(url: URL, ignored: readonly string[]): CanonicalUrl {
  const patterns = ignored.map(name => name.toLowerCase())
  const fits = (name: string) =>
    patterns.some(pattern =>
      pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
    )
  const parts = url.search
    .slice(1)
    .split('&')
    .filter(part => part !== '')
  const kept = parts.filter(part => !fits(([...new URLSearchParams(part).keys()][0] ?? '').toLowerCase()))
  const query = kept.length === 0 ? '' : `?${kept.join('&')}`
  return { text: `${url.origin}${url.pathname}${query}`, signed: kept.length < parts.length }
}

/** One version of the content of one URL. */
export interface UrlVersion {
  readonly canonical: string
  /** As the origin told it; undefined for none. */
  readonly validator: string | undefined
  /** Bytes. */
  readonly size: number
}

/** Names a version in memories and shared facts; never a digest of its bytes. */
export function versionKey({ canonical, validator, size }: UrlVersion): string {
  return hashed(['darter url version 1', canonical, validator ?? null, size])
}

/**
 * The name under which peers share a version that somebody says has a digest. It is one for all who say the same of the
 * same version, and no other content's: a wrong word about a URL reaches nobody else's content.
 */
export function sharedName(version: UrlVersion, digest: Digest): Digest {
  return parseDigest(`sha256:${hashed(['darter url content 1', versionKey(version), digest])}`)
}

function hashed(parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}
