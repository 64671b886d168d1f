import { hintsOf, type LayerHint } from '@darter/formats'
import type { Digest, ManifestDescriptor } from '@darter/oci'
import { LRUCache } from 'lru-cache'

/** Layers of known formats that are remembered. */
const MAX_HINTS = 4096

/**
 * What manifests told of layers, by digest, in memory. It may be wrong, since anyone can write a manifest: it
 * decides about the order in which a blob's bytes come and about nothing else.
 */
export class LayerHints {
  readonly #hints = new LRUCache<Digest, LayerHint>({ max: MAX_HINTS })

  /** Learns from a manifest's descriptors. */
  learn(descriptors: readonly ManifestDescriptor[]): void {
    for (const [digest, hint] of hintsOf(descriptors)) this.#hints.set(digest, hint)
  }

  /** Undefined for layers of unknown formats, and for those whose manifest was not seen. */
  of(digest: Digest): LayerHint | undefined {
    return this.#hints.get(digest)
  }
}
