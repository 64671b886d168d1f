import type { Digest } from '@darter/oci'
import { GetRefusedError } from '../get/errors.ts'
import { createSource } from '../get/source.ts'
import type { Preheated } from './preheat.ts'

/**
 * Brings the content of a URL into a peer, as {@link preheat} does an image.
 * @throws {GetRefusedError} also when nobody knows the content's digest, since a peer keeps nothing then;
 * {@link PeerNotRunningError}
 */
export async function preheatUrl(options: {
  /** `http://host:port` of the peer's door. */
  readonly peer: string
  readonly url: URL
  readonly wanted: Digest | undefined
  /** For the URL's origin; names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly onBytes: (received: number, size: number | undefined) => void
  readonly signal: AbortSignal
}): Promise<Preheated> {
  const { peer, url, wanted, headers, onBytes, signal } = options
  const source = createSource({
    peer,
    path: `/url/${encodeURIComponent(url.href)}`,
    wanted,
    headers,
    credentials: '--header',
  })
  try {
    const opened = await source.open(0, undefined, signal)
    if (opened === 'beyond' || opened.digest === undefined) {
      throw new GetRefusedError(
        'the origin tells no digest of the content, nor does anybody: --digest',
        false,
      )
    }
    let bytes = 0
    for await (const part of opened.body) {
      bytes += part.length
      onBytes(bytes, opened.size)
    }
    return { digest: opened.digest, blobs: 1, bytes }
  } finally {
    await source.close()
  }
}
