import { createReadStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import type { Image } from './images.ts'

/** Uploads an image by the OCI distribution spec's own words (blobs, manifests, then the tag). */
export async function pushImage(
  url: string,
  repository: string,
  tag: string,
  image: Image,
  options: { readonly authorization?: string } = {},
): Promise<void> {
  const dispatcher = new Agent()
  const auth = options.authorization === undefined ? {} : { authorization: options.authorization }
  const blobFile = (digest: string) => join(image.dir, 'blobs', 'sha256', digest.slice(7))
  const check = async (what: string, expected: number, answer: Awaited<ReturnType<typeof request>>) => {
    const text = await answer.body.text()
    if (answer.statusCode !== expected) throw new Error(`${what}: ${answer.statusCode} ${text}`)
    return answer.headers
  }
  try {
    for (const blob of image.blobs) {
      const started = await check(
        'starting an upload',
        202,
        await request(`${url}/v2/${repository}/blobs/uploads/`, {
          method: 'POST',
          headers: auth,
          dispatcher,
        }),
      )
      const location = new URL(String(started['location']), url)
      location.searchParams.set('digest', blob.digest)
      await check(
        `uploading ${blob.digest}`,
        201,
        await request(location, {
          method: 'PUT',
          headers: {
            ...auth,
            'content-type': 'application/octet-stream',
            'content-length': String(blob.size),
          },
          body: createReadStream(blobFile(blob.digest), { highWaterMark: 1024 * 1024 }),
          dispatcher,
        }),
      )
    }
    const put = async (reference: string, mediaType: string, digest: string) =>
      check(
        `pushing ${repository}:${reference}`,
        201,
        await request(`${url}/v2/${repository}/manifests/${reference}`, {
          method: 'PUT',
          headers: { ...auth, 'content-type': mediaType },
          body: readFileSync(blobFile(digest)),
          dispatcher,
        }),
      )
    for (const manifest of image.manifests) await put(manifest.digest, manifest.mediaType, manifest.digest)
    await put(tag, image.top.mediaType, image.top.digest)
  } finally {
    await dispatcher.close()
  }
}
