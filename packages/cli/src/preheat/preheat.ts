import { chooseManifest, type Digest, type ImageReference, isHandedOut, type Platform } from '@darter/oci'
import { createDoorClient } from '../images/door.ts'

/** How a preheat went. */
export interface Preheated {
  /** The manifest of the platform. */
  readonly digest: string
  /** Config and layers, each once. */
  readonly blobs: number
  readonly bytes: number
}

/** Blobs that are asked for at the same moment, as container runtimes do. */
const BLOBS_AT_ONCE = 3

/**
 * Brings an image into a peer: reads its manifest and all blobs through the peer's door, which checks and keeps them, and
 * throws the bytes away. The first blob that fails ends it.
 * @param options.peer - `http://host:port` of the peer's door.
 * @param options.onBytes - told of the bytes that came so far and of how many there are.
 * @throws {GetRefusedError} {@link PeerNotRunningError} {@link PlatformError} {@link ManifestInvalidError}
 */
export async function preheat(options: {
  readonly peer: string
  readonly image: ImageReference
  readonly platform: Platform
  /** Sent with every request; names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly onBytes: (received: number, size: number) => void
  readonly signal: AbortSignal
}): Promise<Preheated> {
  const { peer, image, platform, headers, onBytes } = options
  const failed = new AbortController()
  const signal = AbortSignal.any([options.signal, failed.signal])
  const door = createDoorClient({ peer, name: image.name, headers, credentials: '--header', signal })

  try {
    const { reference } = image
    let manifest = await door.manifest(reference.kind === 'tag' ? reference.tag : reference.digest)
    if (manifest.descriptors.some(({ kind }) => kind === 'manifest')) {
      manifest = await door.manifest(chooseManifest(manifest.descriptors, platform).digest)
    }
    const wanted = new Map<Digest, number>()
    for (const descriptor of manifest.descriptors) {
      if (isHandedOut(descriptor)) wanted.set(descriptor.digest, descriptor.size)
    }
    const size = [...wanted.values()].reduce((sum, bytes) => sum + bytes, 0)
    const queue = [...wanted.keys()].toReversed()
    let received = 0
    const worker = async (): Promise<void> => {
      for (let digest = queue.pop(); digest !== undefined; digest = queue.pop()) {
        const { body } = await door.open(`blobs/${digest}`)
        for await (const part of body as AsyncIterable<Uint8Array>) {
          received += part.length
          onBytes(received, size)
        }
      }
    }
    const workers = Array.from({ length: BLOBS_AT_ONCE }, worker)
    try {
      await Promise.all(workers)
    } catch (error) {
      failed.abort(error)
      await Promise.allSettled(workers)
      throw error
    }
    return { digest: manifest.digest, blobs: wanted.size, bytes: received }
  } finally {
    await door.close()
  }
}
