import type { Digest } from '@darter/oci'
import type { Access } from '../access/access.ts'
import type { Admission } from '../access/admission.ts'
import type { Caller } from '../access/caller.ts'
import { acceptMask } from '../tags/accept.ts'
import type { Catalog } from '../tags/catalog.ts'
import type { Manifests } from '../tags/manifests.ts'
import type { Tags } from '../tags/tags.ts'
import { type Exchange, headerOf, matchesEtag } from './exchange.ts'
import type { RegistryTarget } from './registry-path.ts'

/** What a manifest is read with. */
export interface ManifestRooms {
  readonly admission: Admission
  readonly access: Access
  readonly catalog: Catalog
  readonly manifests: Manifests
  readonly tags: Tags
}

/** RFC 7234 5.5.1: the text that marks an answer as possibly out of date. */
export const STALE_WARNING = '110 - "Response is Stale"'

/** Answers GET and HEAD of a manifest, by tag or digest (OCI distribution-spec 1.1, "Pulling manifests"). */
export async function readManifest(
  exchange: Exchange,
  target: Extract<RegistryTarget, { kind: 'manifest' }>,
  rooms: ManifestRooms,
): Promise<void> {
  const { record, request, signal } = exchange
  const { caller, value } = await rooms.admission.admit(
    exchange.caller,
    who => identify(who, exchange, target, rooms),
    signal,
  )
  const { digest, size, mediaType, stale } = value
  record.digest = digest
  record.stale = stale
  const etag = `"${digest}"`
  const headers = {
    'docker-content-digest': digest,
    etag,
    ...(stale && { warning: STALE_WARNING }),
  }
  if (matchesEtag(request, etag)) {
    exchange.begin(304, headers).end()
    return
  }
  if (request.method === 'HEAD' && size !== undefined && mediaType !== undefined) {
    exchange.begin(200, { ...headers, 'content-type': mediaType, 'content-length': size }).end()
    return
  }
  const manifest = await rooms.manifests.load(caller, digest, { size, mediaType }, signal)
  record.sources = () => manifest.sources
  const length = manifest.bytes.byteLength
  const response = exchange.begin(200, {
    ...headers,
    'content-type': manifest.mediaType,
    'content-length': length,
  })
  if (request.method === 'HEAD') {
    response.end()
    return
  }
  record.bytes = length
  response.end(manifest.bytes)
}

interface Identified {
  readonly digest: Digest
  readonly size?: number | undefined
  readonly mediaType?: string | undefined
  readonly stale: boolean
}

/** Finds out which manifest is meant, and that the caller may read it. */
async function identify(
  caller: Caller,
  { request, signal }: Exchange,
  target: Extract<RegistryTarget, { kind: 'manifest' }>,
  { access, catalog, tags }: ManifestRooms,
): Promise<Identified> {
  if ('tag' in target) {
    return tags.resolve(caller, target.tag, acceptMask(headerOf(request, 'accept')), signal)
  }
  const { digest } = target
  await access.check(caller, { kind: 'manifest', digest }, signal)
  const place = { upstream: caller.upstream.name, repository: caller.repository }
  // What a digest stands for never changes, so that it is never stale.
  return { ...catalog.member(place, digest), digest, stale: false }
}
