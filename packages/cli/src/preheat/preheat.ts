import { describeManifest, type Digest, MANIFEST_MEDIA_TYPES, MAX_MANIFEST_BYTES } from '@darter/oci'
import { Agent, type Dispatcher, request } from 'undici'
import { GetRefusedError, PeerNotRunningError } from '../get/errors.ts'
import { refusal } from '../get/source.ts'
import type { ImageReference } from '../images/reference.ts'
import { chooseManifest, type Platform } from './platform.ts'

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
/** A peer may wait 40 s for its sources before it says so. */
const PATIENCE_MS = 120_000
const ACCEPT = MANIFEST_MEDIA_TYPES.join(', ')
/** Layers that registries do not hand out. */
const ELSEWHERE = /foreign|nondistributable/

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
  const { peer, image, platform, onBytes } = options
  const fixed = Object.fromEntries(options.headers)
  const failed = new AbortController()
  const signal = AbortSignal.any([options.signal, failed.signal])
  const agent = new Agent({
    connections: BLOBS_AT_ONCE,
    headersTimeout: PATIENCE_MS,
    bodyTimeout: PATIENCE_MS,
  })
  const base = `${peer}/v2/${image.name}`

  const open = async (path: string, accept: string): Promise<Dispatcher.ResponseData> => {
    let answer: Dispatcher.ResponseData
    try {
      answer = await request(`${base}/${path}`, { dispatcher: agent, headers: { ...fixed, accept }, signal })
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined
      if (code === 'ECONNREFUSED') throw new PeerNotRunningError(peer, error)
      throw error
    }
    if (answer.statusCode !== 200) throw await refusal(answer)
    return answer
  }

  const readManifest = async (reference: string) => {
    const { body, headers } = await open(`manifests/${reference}`, ACCEPT)
    const parts: Uint8Array[] = []
    let length = 0
    for await (const part of body as AsyncIterable<Uint8Array>) {
      length += part.length
      if (length > MAX_MANIFEST_BYTES) throw new GetRefusedError('the manifest is too large', false)
      parts.push(part)
    }
    const described = describeManifest(Buffer.concat(parts), String(headers['content-type']))
    return { digest: String(headers['docker-content-digest']), ...described }
  }

  try {
    const { reference } = image
    let manifest = await readManifest(reference.kind === 'tag' ? reference.tag : reference.digest)
    if (manifest.descriptors.some(({ kind }) => kind === 'manifest')) {
      manifest = await readManifest(chooseManifest(manifest.descriptors, platform).digest)
    }
    const wanted = new Map<Digest, number>()
    for (const { digest, size, mediaType } of manifest.descriptors) {
      if (!ELSEWHERE.test(mediaType)) wanted.set(digest, size)
    }
    const size = [...wanted.values()].reduce((sum, bytes) => sum + bytes, 0)
    const queue = [...wanted.keys()].toReversed()
    let received = 0
    const worker = async (): Promise<void> => {
      for (let digest = queue.pop(); digest !== undefined; digest = queue.pop()) {
        const { body } = await open(`blobs/${digest}`, '*/*')
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
    await agent.destroy()
  }
}
