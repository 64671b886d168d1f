import {
  DarterError,
  type Digest,
  digestAlgorithm,
  type ImageReference,
  ManifestInvalidError,
  type ManifestDescription,
  type ManifestDescriptor,
} from '@darter/oci'
import { GetRefusedError } from '../get/errors.ts'
import { createDoorClient, type DoorClient } from './door.ts'

/** A blob of an image, and where the peer's door has it. */
export interface ImageBlob {
  readonly digest: Digest
  /** The sha256 as 64 hex digits: the name that nydusd knows it by. */
  readonly hex: string
  /** Bytes. */
  readonly size: number
  readonly path: string
}

/** An image without any layer that could be listed. */
export class NoBlobsError extends DarterError {
  readonly code = 'IMAGE_EMPTY'

  constructor(name: string) {
    super(`${name} has no layers with a sha256 digest`)
  }
}

/** What a user can do when the registry wants credentials: these commands take none. */
export const IMAGE_CREDENTIALS = 'configure them at the peer for this upstream'

const NYDUS_BLOB = 'application/vnd.oci.image.layer.nydus.blob.v1'
const NYDUS_ANNOTATION = 'containerd.io/snapshot/nydus-blob'
/** Manifests of one image, over all its platforms. */
const MAX_MANIFESTS = 1024

/**
 * The blobs that an image's files are read from, over all platforms: nydus's data blobs where a manifest has any, else all
 * layers. A digest may also name a blob itself.
 * @param peer - `http://host:port` of the peer's door.
 * @throws {PeerNotRunningError} {@link GetRefusedError} {@link NoBlobsError} {@link ManifestInvalidError}
 */
export async function listBlobs(
  peer: string,
  { name, reference }: ImageReference,
  signal: AbortSignal,
): Promise<readonly ImageBlob[]> {
  const door = createDoorClient({ peer, name, credentials: IMAGE_CREDENTIALS, signal })
  const blobOf = (digest: Digest, size: number): ImageBlob => ({
    digest,
    size,
    hex: digest.slice('sha256:'.length),
    path: `/v2/${name}/blobs/${digest}`,
  })

  /** Registries may give a blob for a manifest: what is none is taken for a blob, if there is one. */
  const ofDigest = async (digest: Digest): Promise<ManifestDescription | ImageBlob> => {
    try {
      return await door.manifest(digest)
    } catch (error) {
      if (!(error instanceof GetRefusedError || error instanceof ManifestInvalidError)) throw error
      if (digestAlgorithm(digest) !== 'sha256') throw error
      const answer = await door.open(`blobs/${digest}`, 'HEAD').catch((other: unknown) => {
        throw other instanceof GetRefusedError ? error : other
      })
      await answer.body.dump()
      return blobOf(digest, Number(answer.headers['content-length']))
    }
  }

  try {
    const top =
      reference.kind === 'tag' ? await door.manifest(reference.tag) : await ofDigest(reference.digest)
    if ('hex' in top) return [top]
    const blobs = new Map<Digest, ImageBlob>()
    for await (const { digest, size } of layersOf(door, top)) blobs.set(digest, blobOf(digest, size))
    if (blobs.size === 0) throw new NoBlobsError(name)
    return [...blobs.values()]
  } finally {
    await door.close()
  }
}

/** The layers of an image, or of all images of an index and of those within it, one manifest after the other. */
async function* layersOf(door: DoorClient, top: ManifestDescription): AsyncGenerator<ManifestDescriptor> {
  const queue: Digest[] = []
  const seen = new Set<Digest>()
  const layers = function* ({ descriptors }: ManifestDescription) {
    const children = descriptors.filter(({ kind }) => kind === 'manifest')
    for (const { digest } of children) {
      if (seen.has(digest)) continue
      if (seen.size === MAX_MANIFESTS) {
        throw new ManifestInvalidError(`leads to more than ${MAX_MANIFESTS} others`)
      }
      seen.add(digest)
      queue.push(digest)
    }
    if (children.length === 0) yield* dataLayers(descriptors)
  }
  yield* layers(top)
  for (const digest of queue) yield* layers(await door.manifest(digest))
}

function dataLayers(descriptors: readonly ManifestDescriptor[]): readonly ManifestDescriptor[] {
  const layers = descriptors.filter(
    ({ kind, digest }) => kind === 'layer' && digestAlgorithm(digest) === 'sha256',
  )
  const data = layers.filter(
    ({ mediaType, annotations }) => mediaType === NYDUS_BLOB || annotations?.[NYDUS_ANNOTATION] !== undefined,
  )
  return data.length > 0 ? data : layers
}
