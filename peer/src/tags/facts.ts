import { type Digest, isDigest } from '@darter/oci'
import type { Finding } from '../download/contract.ts'
import type { Content, Place, TagRecord } from './catalog.ts'

/*
 * The facts that peers share about repositories that anyone may read. The separator is in no name, tag or digest.
 */

/** That callers without credentials may read the repository. */
export function repositoryFactKey(place: Place): string {
  return `open|${place.upstream}|${place.repository}`
}

/** That callers without credentials may read the content under the repository; the value says what it is. */
export function contentFactKey(place: Place, digest: Digest): string {
  return `content|${place.upstream}|${place.repository}|${digest}`
}

/** What a tag stands for, for callers that accept `accept` (a mask). */
export function tagFactKey(place: Place, tag: string, accept: number): string {
  return `tag|${place.upstream}|${place.repository}|${tag}|${accept}`
}

/** An entry for {@link Facts.publish}: the repository is open. */
export function repositoryFact(place: Place, ttlMs: number): [string, Finding] {
  return [repositoryFactKey(place), { value: formatContent({}), ttlMs }]
}

/** An entry for {@link Facts.publish}: the content belongs to an open repository. */
export function contentFact(
  place: Place,
  digest: Digest,
  content: Content,
  ttlMs: number,
): [string, Finding] {
  return [contentFactKey(place, digest), { value: formatContent(content), ttlMs }]
}

export function formatContent(content: Content): string {
  return JSON.stringify({ size: content.size, mediaType: content.mediaType })
}

/** Reads what another peer told; undefined when it is malformed. */
export function parseContent(value: string): Content | undefined {
  const fields = parseObject(value)
  if (fields === undefined) return undefined
  const { size, mediaType } = fields
  return {
    ...(isSize(size) && { size }),
    ...(typeof mediaType === 'string' && isMediaType(mediaType) && { mediaType }),
  }
}

export function formatTag(record: TagRecord): string {
  return JSON.stringify({ digest: record.digest, size: record.size, mediaType: record.mediaType })
}

/** Reads what another peer told; undefined when it is malformed. */
export function parseTagRecord(value: string): TagRecord | undefined {
  const { digest, size, mediaType } = parseObject(value) ?? {}
  if (typeof digest !== 'string' || !isDigest(digest) || !isSize(size)) return undefined
  return typeof mediaType === 'string' && isMediaType(mediaType) ? { digest, size, mediaType } : undefined
}

/** A media type without parameters (RFC 6838 4.2): safe as a header's value. */
export function isMediaType(text: string): boolean {
  return /^[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}\/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}$/.test(text)
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function parseObject(value: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(value)
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : undefined
  } catch {
    return undefined
  }
}
