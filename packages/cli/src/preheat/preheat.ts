import {
  chooseManifest,
  type Digest,
  type ImageReference,
  isHandedOut,
  ManifestInvalidError,
  type Platform,
  type Reference,
} from '@darter/oci'
import { GetRefusedError } from '../get/errors.ts'
import { createDoorClient, type DoorClient, type DoorManifest } from '../images/door.ts'

/** How a preheat went. */
export interface Preheated {
  /** Of the platform's manifest, or of the one content that it is about. */
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
    const { digest: named, wanted } = await contentsOf(door, image.reference, platform)
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
    return { digest: named, blobs: wanted.size, bytes: received }
  } finally {
    await door.close()
  }
}

/** The config and layers of an image with their sizes; of a digest that is no manifest's, the blob that it names. */
async function contentsOf(
  door: DoorClient,
  reference: Reference,
  platform: Platform,
): Promise<{ readonly digest: string; readonly wanted: ReadonlyMap<Digest, number> }> {
  let manifest: DoorManifest
  try {
    manifest = await door.manifest(reference.kind === 'tag' ? reference.tag : reference.digest)
  } catch (error) {
    // Registries may give a blob for a manifest, or anything but 404 for what is none.
    const mayBeBlob = error instanceof GetRefusedError || error instanceof ManifestInvalidError
    if (!mayBeBlob || reference.kind === 'tag') throw error
    const { digest } = reference
    const { headers, body } = await door.open(`blobs/${digest}`, 'HEAD').catch((other: unknown) => {
      throw other instanceof GetRefusedError ? error : other
    })
    await body.dump()
    return { digest, wanted: new Map([[digest, Number(headers['content-length'])]]) }
  }
  if (manifest.descriptors.some(({ kind }) => kind === 'manifest')) {
    manifest = await door.manifest(chooseManifest(manifest.descriptors, platform).digest)
  }
  const handedOut = manifest.descriptors.filter(isHandedOut)
  return { digest: manifest.digest, wanted: new Map(handedOut.map(({ digest, size }) => [digest, size])) }
}
