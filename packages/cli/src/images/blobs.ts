import {
  DarterError,
  describeManifest,
  type Digest,
  digestAlgorithm,
  MANIFEST_MEDIA_TYPES,
  ManifestInvalidError,
  type ManifestDescription,
  type ManifestDescriptor,
} from '@darter/oci'
import { Agent, request } from 'undici'
import { GetRefusedError, PeerNotRunningError } from '../get/errors.ts'
import { refusal } from '../get/source.ts'
import type { ImageReference } from './reference.ts'

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

const NYDUS_BLOB = 'application/vnd.oci.image.layer.nydus.blob.v1'
const NYDUS_ANNOTATION = 'containerd.io/snapshot/nydus-blob'
const ANSWER_MS = 120_000

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
  const agent = new Agent({ headersTimeout: ANSWER_MS, bodyTimeout: ANSWER_MS })
  const ask = async (method: 'GET' | 'HEAD', path: string) => {
    try {
      const headers = { accept: MANIFEST_MEDIA_TYPES.join(', ') }
      return await request(`${peer}${path}`, { method, dispatcher: agent, headers, signal })
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined
      throw code === 'ECONNREFUSED' ? new PeerNotRunningError(peer, error) : error
    }
  }
  const pathOf = (digest: Digest) => `/v2/${name}/blobs/${digest}`
  const blobOf = (digest: Digest, size: number): ImageBlob => ({
    digest,
    size,
    hex: digest.slice('sha256:'.length),
    path: pathOf(digest),
  })
  const manifest = async (which: string): Promise<ManifestDescription> => {
    const answer = await ask('GET', `/v2/${name}/manifests/${which}`)
    if (answer.statusCode !== 200) throw await refusal(answer)
    const type = answer.headers['content-type']
    return describeManifest(
      new Uint8Array(await answer.body.arrayBuffer()),
      typeof type === 'string' ? type : undefined,
    )
  }
  const layersOf = async (description: ManifestDescription): Promise<readonly ManifestDescriptor[]> => {
    const children = description.descriptors.filter(({ kind }) => kind === 'manifest')
    if (children.length > 0) {
      const found = await Promise.all(
        children.map(async ({ digest }) => await layersOf(await manifest(digest))),
      )
      return found.flat()
    }
    const layers = description.descriptors.filter(
      ({ kind, digest }) => kind === 'layer' && digestAlgorithm(digest) === 'sha256',
    )
    const data = layers.filter(
      ({ mediaType, annotations }) =>
        mediaType === NYDUS_BLOB || annotations?.[NYDUS_ANNOTATION] !== undefined,
    )
    return data.length > 0 ? data : layers
  }

  /** Registries may give a blob for a manifest: what is none is taken for a blob, if there is one. */
  const ofDigest = async (digest: Digest): Promise<ManifestDescription | ImageBlob> => {
    try {
      return await manifest(digest)
    } catch (error) {
      if (!(error instanceof GetRefusedError || error instanceof ManifestInvalidError)) throw error
      if (digestAlgorithm(digest) !== 'sha256') throw error
      const answer = await ask('HEAD', pathOf(digest))
      await answer.body.dump()
      if (answer.statusCode !== 200) throw error
      return blobOf(digest, Number(answer.headers['content-length']))
    }
  }

  try {
    const top = reference.kind === 'tag' ? await manifest(reference.tag) : await ofDigest(reference.digest)
    if ('hex' in top) return [top]
    const blobs = new Map((await layersOf(top)).map(({ digest, size }) => [digest, blobOf(digest, size)]))
    if (blobs.size === 0) throw new NoBlobsError(name)
    return [...blobs.values()]
  } finally {
    await agent.destroy()
  }
}
