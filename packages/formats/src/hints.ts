import type { Digest, ManifestDescriptor } from '@darter/oci'
import type { Extent } from './extent.ts'
import { readPositions } from './zstd-chunked.ts'

/** The largest nydus bootstrap layer that is read for its prefetch table, in bytes. */
const MAX_BOOTSTRAP_LAYER_BYTES = 32 * 1024 * 1024

/** nydus, docs/nydus-image.md and nydus-snapshotter, pkg/label. */
const NYDUS_BOOTSTRAP = 'containerd.io/snapshot/nydus-bootstrap'
const NYDUS_BLOB = 'containerd.io/snapshot/nydus-blob'
/** stargz-snapshotter, docs/estargz.md, "Content Verification in eStargz". */
const STARGZ_TOC = 'containerd.io/snapshot/stargz/toc.digest'

/** What is known of a layer before its first byte is here. */
export type LayerHint =
  /** A gzip layer with a table of contents that a footer of 51 bytes points at. */
  | { readonly format: 'estargz' }
  /** A zstd layer with a table of contents, at `tables` when its annotations say where, else where its footer says. */
  | { readonly format: 'zstd:chunked'; readonly tables: readonly Extent[] }
  /** A data blob of RAFS; the image's bootstrap says what is where in it. */
  | { readonly format: 'nydus'; readonly bootstrap: { readonly digest: Digest; readonly size: number } }

/**
 * What a manifest's annotations tell of its layers. Layers of other formats are not in the map; a manifest without
 * annotations costs one look at each descriptor.
 * @param descriptors - of one image's manifest; untrusted.
 */
export function hintsOf(descriptors: readonly ManifestDescriptor[]): ReadonlyMap<Digest, LayerHint> {
  const hints = new Map<Digest, LayerHint>()
  const bootstrap = descriptors.find(({ annotations }) => annotations?.[NYDUS_BOOTSTRAP] !== undefined)
  for (const { digest, size, mediaType, annotations } of descriptors) {
    if (annotations === undefined) continue
    if (annotations[NYDUS_BLOB] !== undefined) {
      if (bootstrap === undefined || bootstrap.size > MAX_BOOTSTRAP_LAYER_BYTES) continue
      hints.set(digest, {
        format: 'nydus',
        bootstrap: { digest: bootstrap.digest, size: bootstrap.size },
      })
      continue
    }
    const tables = readPositions(annotations, size)
    const isStargz = annotations[STARGZ_TOC] !== undefined
    if (tables !== undefined || (isStargz && mediaType.endsWith('zstd'))) {
      hints.set(digest, { format: 'zstd:chunked', tables: tables ?? [] })
    } else if (isStargz) {
      hints.set(digest, { format: 'estargz' })
    }
  }
  return hints
}
