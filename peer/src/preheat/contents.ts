import {
  chooseManifest,
  DarterError,
  describeManifest,
  type Digest,
  type ImageReference,
  isHandedOut,
  parseImageReference,
  parsePlatform,
} from '@darter/oci'
import { OriginStatusError } from '@darter/origin'
import type { SchedulerMessage } from '@darter/wire'
import type { Access } from '../access/access.ts'
import type { Admission } from '../access/admission.ts'
import type { Caller } from '../access/caller.ts'
import { chooseUpstream } from '../doors/choose-upstream.ts'
import { isUrlText, parseUrl } from '../doors/url-path.ts'
import type { BlobReads } from '../download/contract.ts'
import { ACCEPTS_ALL } from '../tags/accept.ts'
import type { Catalog } from '../tags/catalog.ts'
import type { Manifests } from '../tags/manifests.ts'
import type { Tags } from '../tags/tags.ts'
import type { Upstreams } from '../upstreams.ts'
import type { Urls } from '../urls/urls.ts'

/** What is to be brought into the store. */
export type PreheatOrder = SchedulerMessage & { type: 'preheat' }

/** The content of a URL cannot be kept before somebody knows its digest. */
export class DigestUnknownError extends DarterError {
  readonly code = 'DIGEST_UNKNOWN'

  constructor(place: string) {
    super(`${place} tells no digest of the content and no peer knows it: say which digest it has`)
  }
}

/** One content of an order. */
export interface Wanted {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** Where it is read; with the order's credentials where those are needed. */
  readonly source: Pick<
    Parameters<BlobReads['keep']>[0],
    'digest' | 'kind' | 'size' | 'content' | 'upstream' | 'repository' | 'authorization' | 'via'
  >
}

/** What orders are resolved with: the same as the doors answer with. */
export interface PreheatRooms {
  readonly upstreams: Upstreams
  readonly admission: Admission
  readonly access: Access
  readonly catalog: Catalog
  readonly tags: Tags
  readonly manifests: Manifests
  readonly urls: Urls
}

const OWN_PLATFORM = `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`

/**
 * Finds out what an order comes to, with the order's credentials where everyone may not read: the config and the layers of an
 * image (of an index, those for the platform), one blob, or the content of a URL. Manifests are in the store when it resolves.
 * @throws what the doors would answer a client with; {@link PlatformError} {@link DigestUnknownError}
 */
export async function contentsOf(
  order: PreheatOrder,
  rooms: PreheatRooms,
  signal: AbortSignal,
): Promise<readonly Wanted[]> {
  if (isUrlText(order.target)) return [await contentOfUrl(order, rooms.urls, signal)]
  const image = parseImageReference(order.target)
  const { upstream, repository } = chooseUpstream(
    { name: image.name, query: new URLSearchParams(), header: undefined, port: undefined },
    rooms.upstreams,
  )
  const { authorization } = order
  const asked: Caller = { upstream, repository: repository ?? '', authorization }
  const { caller, value } = await rooms.admission.admit(
    asked,
    who => identify(who, image, rooms, signal),
    signal,
  )
  const place = { upstream: upstream.name, repository: caller.repository }
  const source = { upstream, repository: caller.repository, authorization: caller.authorization }
  const blob = (digest: Digest, size: number): Wanted => ({
    digest,
    size,
    source: { ...source, kind: 'blob', digest, size },
  })
  if (value.kind === 'blob') {
    const size = rooms.catalog.member(place, value.digest)?.size
    const { origin } = upstream
    return [blob(value.digest, size ?? (await origin.headBlob(value.digest, { ...source, signal })).size)]
  }
  const load = async (digest: Digest, told: { readonly size?: number; readonly mediaType?: string }) => {
    const { bytes, mediaType } = await rooms.manifests.load(caller, digest, told, signal)
    return describeManifest(bytes, mediaType).descriptors
  }
  let descriptors = await load(value.digest, value)
  if (descriptors.some(({ kind }) => kind === 'manifest')) {
    const chosen = chooseManifest(descriptors, parsePlatform(order.platform ?? OWN_PLATFORM))
    descriptors = await load(chosen.digest, { size: chosen.size, mediaType: chosen.mediaType })
  }
  const sizes = new Map(
    descriptors.filter(isHandedOut).map(({ digest, size }): [Digest, number] => [digest, size]),
  )
  return [...sizes].map(([digest, size]) => blob(digest, size))
}

interface Identified {
  readonly kind: 'manifest' | 'blob'
  readonly digest: Digest
  readonly size?: number
  readonly mediaType?: string
}

/** Finds out which content is meant, and that the caller may read it. A digest that is no manifest's may be a blob's. */
async function identify(
  caller: Caller,
  { reference }: ImageReference,
  { access, tags, catalog }: PreheatRooms,
  signal: AbortSignal,
): Promise<Identified> {
  if (reference.kind === 'tag') {
    const { digest, size, mediaType } = await tags.resolve(caller, reference.tag, ACCEPTS_ALL, signal)
    return { kind: 'manifest', digest, ...(size !== undefined && { size }), ...(mediaType && { mediaType }) }
  }
  const { digest } = reference
  try {
    await access.check(caller, { kind: 'manifest', digest }, signal)
    const member = catalog.member({ upstream: caller.upstream.name, repository: caller.repository }, digest)
    // What belongs to the repository and has no media type was learned as a blob.
    if (member !== undefined && member.mediaType === undefined) return { kind: 'blob', digest }
    return { kind: 'manifest', digest }
  } catch (error) {
    // Registries answer differently for what is no manifest: docker-registry 2.8 with 500.
    if (!(error instanceof OriginStatusError) || error.status === 401 || error.status === 403) throw error
    try {
      await access.check(caller, { kind: 'blob', digest }, signal)
    } catch {
      throw error
    }
    return { kind: 'blob', digest }
  }
}

async function contentOfUrl(
  { target, digest: wanted, authorization }: PreheatOrder,
  urls: Urls,
  signal: AbortSignal,
): Promise<Wanted> {
  const { url } = parseUrl(target)
  const headers = authorization === undefined ? {} : { authorization }
  const { shared, described, place } = await urls.open({ url, headers, wanted, via: undefined, signal })
  const { size } = described
  if (shared === undefined || size === undefined) throw new DigestUnknownError(place)
  return { digest: shared.name, size, source: { ...shared.source, kind: 'blob', digest: shared.name, size } }
}
