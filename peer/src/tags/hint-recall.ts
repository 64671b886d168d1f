import { describeManifest, type Digest, ManifestInvalidError } from '@darter/oci'
import type { Component, Logger } from '@darter/runtime'
import type { ChunkStore } from '@darter/store'
import type { LayerHints } from '../download/layer-hints.ts'
import type { Catalog } from './catalog.ts'

/**
 * Learns once more, in the background after a start, what the manifests in the store tell of layers: clients that go on reading
 * an image after a restart do not ask for its manifest again.
 */
export function createHintRecall(options: {
  readonly store: ChunkStore
  readonly catalog: Catalog
  readonly hints: LayerHints
  readonly log: Logger
}): Component {
  const { store, catalog, hints, log } = options
  const stopping = new AbortController()
  let running: Promise<void> = Promise.resolve()

  const recall = async (): Promise<void> => {
    // What an unclean stop left in doubt is not to be read before it was checked.
    await store.recovered
    for (const [digest, mediaType] of catalog.manifests()) {
      if (stopping.signal.aborted) return
      try {
        const bytes = await readWhole(store, digest)
        if (bytes !== undefined) hints.learn(describeManifest(bytes, mediaType).descriptors)
      } catch (error) {
        if (stopping.signal.aborted) return
        if (!(error instanceof ManifestInvalidError))
          log.info({ err: error, digest }, 'a manifest was not read')
      }
    }
  }

  return {
    name: 'hint recall',
    start: async () => {
      running = recall()
    },
    stop: async () => {
      stopping.abort()
      await running
    },
  }
}

/** A blob of the store; undefined when not all of it is there. */
async function readWhole(store: ChunkStore, digest: Digest): Promise<Uint8Array | undefined> {
  if (store.info(digest)?.complete !== true) return undefined
  const stored = await store.find(digest)
  if (stored === undefined) return undefined
  try {
    const { layout } = stored
    const bytes = Buffer.alloc(layout.size)
    for (let chunk = 0; chunk < layout.count; chunk++) {
      await stored.readChunk(chunk, 0, bytes.subarray(layout.offset(chunk)))
    }
    return bytes
  } finally {
    stored.release()
  }
}
