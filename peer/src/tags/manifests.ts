import { describeManifest, type Digest, ManifestInvalidError } from '@darter/oci'
import type { Clock, Logger } from '@darter/runtime'
import { LRUCache } from 'lru-cache'
import { type Caller, isAnonymous } from '../access/caller.ts'
import type { BlobReads, ByteSources, Facts } from '../download/contract.ts'
import type { LayerHints } from '../download/layer-hints.ts'
import type { Catalog, Place } from './catalog.ts'
import { contentFact, isMediaType, repositoryFact } from './facts.ts'

/** A manifest as a door sends it. */
export interface Manifest {
  readonly bytes: Uint8Array
  readonly mediaType: string
  /** Where its bytes came from now; all 0 from memory. */
  readonly sources: ByteSources
}

/** Manifests by digest. Whoever asks has checked that the caller may read. */
export interface Manifests {
  /**
   * The manifest, from memory, the store, the swarm or the origin.
   * @param told - what a tag or a HEAD said of it.
   */
  load(
    caller: Caller,
    digest: Digest,
    told: { readonly size?: number | undefined; readonly mediaType?: string | undefined },
    signal: AbortSignal,
  ): Promise<Manifest>
}

const NOTHING_READ: ByteSources = { fromDisk: 0, fromPeers: 0, fromOrigin: 0 }
const UNKNOWN_TYPE = 'application/octet-stream'

/** {@link Manifests} with a hot memory of at most `cacheBytes` (32 MiB by default). */
export function createManifests(options: {
  readonly reads: BlobReads
  readonly catalog: Catalog
  readonly facts: Facts
  readonly hints: LayerHints
  readonly clock: Clock
  readonly log: Logger
  /** How long the cluster may believe that an open repository's manifest names its content, in ms. */
  readonly accessTtlMs: number
  readonly cacheBytes?: number
}): Manifests {
  const { reads, catalog, facts, hints, log, accessTtlMs } = options
  const hot = new LRUCache<string, { readonly bytes: Uint8Array; readonly mediaType: string }>({
    maxSize: options.cacheBytes ?? 32 * 1024 * 1024,
    sizeCalculation: manifest => manifest.bytes.byteLength + 256,
    perf: options.clock,
  })

  const placeOf = (caller: Caller): Place => ({
    upstream: caller.upstream.name,
    repository: caller.repository,
  })

  /** Reads what the manifest says and remembers it for its repository. Returns its media type. */
  const learn = (caller: Caller, digest: Digest, bytes: Uint8Array, told: string | undefined): string => {
    const place = placeOf(caller)
    try {
      const { mediaType: own, descriptors } = describeManifest(bytes, told)
      const mediaType = isMediaType(own) ? own : UNKNOWN_TYPE
      const open = isAnonymous(caller)
      const manifest = { size: bytes.byteLength, mediaType, children: descriptors }
      catalog.setManifest(place, digest, manifest, open)
      hints.learn(descriptors)
      if (open) {
        const children = descriptors.map(({ kind, ...child }) =>
          contentFact(place, child.digest, kind === 'manifest' ? child : { size: child.size }, accessTtlMs),
        )
        const self = contentFact(place, digest, manifest, accessTtlMs)
        facts.publish(new Map([repositoryFact(place, accessTtlMs), self, ...children]))
      }
      return mediaType
    } catch (error) {
      if (!(error instanceof ManifestInvalidError)) throw error
      log.info({ ...place, digest, err: error }, 'a manifest could not be read; it is passed on as it is')
      catalog.setMember(place, digest, { size: bytes.byteLength, mediaType: told })
      return told !== undefined && isMediaType(told) ? told : UNKNOWN_TYPE
    }
  }

  return {
    load: async (caller, digest, told, signal) => {
      const known = hot.get(digest)
      if (known !== undefined) {
        if (!catalog.hasManifest(placeOf(caller), digest)) learn(caller, digest, known.bytes, known.mediaType)
        return { ...known, sources: NOTHING_READ }
      }
      const { upstream, repository, authorization } = caller
      const { bytes, sources } = await reads.manifest({
        upstream,
        repository,
        authorization,
        via: caller.via,
        digest,
        size: told.size,
        signal,
      })
      const mediaType = learn(caller, digest, bytes, told.mediaType)
      hot.set(digest, { bytes, mediaType })
      return { bytes, mediaType, sources }
    },
  }
}
