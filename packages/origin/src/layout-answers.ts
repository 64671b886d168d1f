import { Readable } from 'node:stream'
import {
  describeManifest,
  type Digest,
  isDigest,
  isRepositoryName,
  ManifestInvalidError,
  MANIFEST_MEDIA_TYPES,
  MAX_MANIFEST_BYTES,
  type OciErrorCode,
  ociErrorBody,
} from '@darter/oci'
import type { ForwardRequest, ForwardResponse } from './contract.ts'
import type { LayoutFiles } from './layout-files.ts'
import type { LayoutIndex } from './layout-index.ts'

/** A manifest that is about another, as the referrers API lists it. */
interface Referrer {
  readonly subject: Digest
  readonly descriptor: {
    readonly mediaType: string
    readonly digest: Digest
    readonly size: number
    readonly artifactType?: string
    readonly annotations?: Readonly<Record<string, string>>
  }
}

interface JsonAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
}

const REFERRERS = /^(.+)\/referrers\/([^/]+)$/
const TAGS = /^(.+)\/tags\/list$/

/**
 * Answers what a layout can of the requests that are not manifests or blobs: the API's root, tag lists and referrers
 * (OCI distribution-spec 1.1, "Content Discovery"); anything else is refused with 405.
 */
export function createLayoutAnswers(options: {
  readonly index: (signal: AbortSignal) => Promise<LayoutIndex>
  readonly files: LayoutFiles
}): (request: ForwardRequest) => Promise<ForwardResponse> {
  const { index, files } = options
  let scanned: { readonly of: LayoutIndex; readonly referrers: readonly Referrer[] } | undefined

  const scan = async (of: LayoutIndex, signal: AbortSignal): Promise<readonly Referrer[]> => {
    if (scanned?.of === of) return scanned.referrers
    const referrers: Referrer[] = []
    for (const { digest, size, mediaType } of of.manifests) {
      const bytes = await files.readBlob(digest, MAX_MANIFEST_BYTES, signal)
      const described = bytes && describeOrNothing(bytes, mediaType)
      if (!described?.subject) continue
      const { artifactType, annotations } = described
      const descriptor = {
        mediaType: described.mediaType,
        digest,
        size,
        ...(artifactType !== undefined && { artifactType }),
        ...(annotations && { annotations }),
      }
      referrers.push({ subject: described.subject.digest, descriptor })
    }
    scanned = { of, referrers }
    return referrers
  }

  const listReferrers = async (
    digest: Digest,
    query: URLSearchParams,
    of: LayoutIndex,
    signal: AbortSignal,
  ) => {
    const type = query.get('artifactType')
    const manifests = (await scan(of, signal))
      .filter(({ subject, descriptor }) => subject === digest && (!type || descriptor.artifactType === type))
      .map(({ descriptor }) => descriptor)
    const mediaType = MANIFEST_MEDIA_TYPES[0]
    return {
      status: 200,
      headers: { 'content-type': mediaType, ...(type && { 'oci-filters-applied': 'artifactType' }) },
      body: { schemaVersion: 2, mediaType, manifests },
    }
  }

  const answer = async (request: ForwardRequest): Promise<JsonAnswer> => {
    const { method, path, signal } = request
    const unsupported = failure(405, 'UNSUPPORTED', 'this upstream is a directory and can only be read')
    if (method !== 'GET' && method !== 'HEAD') return unsupported
    const url = new URL(`http://layout/${path}`)
    const place = url.pathname.slice(1)
    if (place === '') return json({})
    const tags = TAGS.exec(place)
    const referrers = REFERRERS.exec(place)
    const repository = tags?.[1] ?? referrers?.[1]
    if (repository === undefined) return unsupported
    if (!isRepositoryName(repository)) return failure(400, 'NAME_INVALID', 'the repository name is malformed')
    const of = await index(signal)
    if (!of.has(repository)) return failure(404, 'NAME_UNKNOWN', 'the image layout has no such repository')
    if (tags) return listTags(repository, [...of.tags(repository).keys()], url.searchParams)
    const digest = referrers?.[2] ?? ''
    if (!isDigest(digest)) return failure(400, 'DIGEST_INVALID', 'the digest is malformed')
    return listReferrers(digest, url.searchParams, of, signal)
  }

  return async request => {
    const { status, headers, body } = await answer(request)
    const bytes = new TextEncoder().encode(JSON.stringify(body))
    return {
      status,
      headers: { ...headers, 'content-length': String(bytes.byteLength) },
      body: Readable.from(request.method === 'HEAD' ? [] : [bytes]),
    }
  }
}

function listTags(name: string, all: readonly string[], query: URLSearchParams): JsonAnswer {
  const last = query.get('last') ?? ''
  const wanted = query.get('n')
  if (wanted !== null && !/^\d{1,9}$/.test(wanted)) {
    return failure(400, 'UNSUPPORTED', '"n" must be a whole number')
  }
  const after = all.filter(tag => tag > last)
  const tags = wanted === null ? after : after.slice(0, Number(wanted))
  const answer = json({ name, tags })
  const end = tags.at(-1)
  if (end === undefined || tags.length === after.length) return answer
  const next = new URLSearchParams({ n: String(wanted), last: end })
  return {
    ...answer,
    headers: { ...answer.headers, link: `</v2/${name}/tags/list?${next.toString()}>; rel="next"` },
  }
}

function describeOrNothing(bytes: Uint8Array, mediaType: string) {
  try {
    return describeManifest(bytes, mediaType)
  } catch (error) {
    if (error instanceof ManifestInvalidError) return undefined
    throw error
  }
}

function json(body: unknown): JsonAnswer {
  return { status: 200, headers: { 'content-type': 'application/json' }, body }
}

function failure(status: number, code: OciErrorCode, message: string): JsonAnswer {
  return { status, headers: { 'content-type': 'application/json' }, body: ociErrorBody(code, message) }
}
