import {
  describeManifest,
  MANIFEST_MEDIA_TYPES,
  type ManifestDescription,
  MAX_MANIFEST_BYTES,
} from '@darter/oci'
import type { Dispatcher } from 'undici'
import { GetRefusedError } from '../get/errors.ts'
import { createPeerClient, refusal } from '../peer-client.ts'

/** A manifest or an index, and what it goes by. */
export interface DoorManifest extends ManifestDescription {
  readonly digest: string
}

/** One repository, as the peer of this machine gives it. */
export interface DoorClient {
  /**
   * Asks for something of the repository; the answer's status is 200.
   * @param path - what follows the repository's name, such as `blobs/sha256:...`.
   * @throws {GetRefusedError} {@link PeerNotRunningError}
   */
  open(path: string, method?: 'GET' | 'HEAD'): Promise<Dispatcher.ResponseData>
  /**
   * @param reference - a tag or a digest.
   * @throws {ManifestInvalidError} when it is none; what {@link open} throws.
   */
  manifest(reference: string): Promise<DoorManifest>
  close(): Promise<void>
}

const ACCEPT = MANIFEST_MEDIA_TYPES.join(', ')

export function createDoorClient(options: {
  /** `http://host:port` of the peer's door. */
  readonly peer: string
  /** The repository, with the upstream's name before it where that was said. */
  readonly name: string
  /** Sent with every request; names in lower case. */
  readonly headers?: ReadonlyMap<string, string>
  /** What a user can do when the registry wants credentials, as an imperative or an option. */
  readonly credentials: string
  /** Ends every request. */
  readonly signal: AbortSignal
}): DoorClient {
  const { name, headers = new Map(), credentials, signal } = options
  const client = createPeerClient(options.peer)
  const fixed = Object.fromEntries(headers)

  const ask = async (
    path: string,
    method: 'GET' | 'HEAD',
    accept: string,
  ): Promise<Dispatcher.ResponseData> => {
    const answer = await client.ask(`/v2/${name}/${path}`, { method, headers: { ...fixed, accept }, signal })
    if (answer.statusCode !== 200) throw await refusal(answer, credentials)
    return answer
  }

  return {
    open: (path, method = 'GET') => ask(path, method, '*/*'),
    manifest: async reference => {
      const answer = await ask(`manifests/${reference}`, 'GET', ACCEPT)
      const { 'content-type': type, 'docker-content-digest': digest } = answer.headers
      const bytes = await readManifest(answer.body)
      return { ...describeManifest(bytes, type?.toString()), digest: String(digest) }
    },
    close: client.close,
  }
}

async function readManifest(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  for await (const part of body) {
    length += part.length
    if (length > MAX_MANIFEST_BYTES) throw new GetRefusedError('the manifest is too large', false)
    parts.push(part)
  }
  return Buffer.concat(parts)
}
