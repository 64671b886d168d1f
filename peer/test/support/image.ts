import { createHash } from 'node:crypto'
import { type Digest, parseDigest } from '@darter/oci'

export function digestOf(bytes: Uint8Array | string): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`)
}

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'

/** What was pushed. */
export interface PushedImage {
  readonly manifest: Digest
  readonly manifestBytes: string
  readonly layer: Digest
  readonly layerBytes: Buffer
  readonly config: Digest
}

/** Uploads a blob in one piece, through whatever registry API is at `base` (a URL below which `blobs/` lies). */
export async function pushBlob(
  base: string,
  bytes: Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Response> {
  const begun = await fetch(`${base}/blobs/uploads/`, { method: 'POST', headers })
  const location = new URL(begun.headers.get('location') ?? 'missing:', begun.url)
  location.searchParams.set('digest', digestOf(bytes))
  return fetch(location, { method: 'PUT', headers, body: bytes })
}

/** Pushes an image with one layer of `size` pseudo-random bytes. `headers` such as an authorization. */
export async function pushImage(
  base: string,
  tag: string,
  options: {
    readonly size?: number
    readonly salt?: string
    readonly headers?: Record<string, string>
    readonly query?: string
  } = {},
): Promise<PushedImage> {
  const { size = 100_000, salt = '', headers = {}, query = '' } = options
  const layerBytes = Buffer.alloc(size)
  for (let at = 0, n = 0; at < size; at += 32, n++) {
    createHash('sha256').update(`${salt}${n}`).digest().copy(layerBytes, at)
  }
  const configBytes = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', salt }))
  for (const blob of [layerBytes, configBytes]) {
    const done = await pushBlob(base, blob, headers)
    if (done.status !== 201) throw new Error(`blob: ${done.status} ${await done.text()}`)
  }
  const manifestBytes = JSON.stringify({
    schemaVersion: 2,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(configBytes),
      size: configBytes.length,
    },
    layers: [
      {
        mediaType: 'application/vnd.oci.image.layer.v1.tar',
        digest: digestOf(layerBytes),
        size: layerBytes.length,
      },
    ],
  })
  const put = await fetch(`${base}/manifests/${tag}${query}`, {
    method: 'PUT',
    headers: { ...headers, 'content-type': OCI_MANIFEST },
    body: manifestBytes,
  })
  if (put.status !== 201) throw new Error(`manifest: ${put.status} ${await put.text()}`)
  return {
    manifest: digestOf(manifestBytes),
    manifestBytes,
    layer: digestOf(layerBytes),
    layerBytes,
    config: digestOf(configBytes),
  }
}
