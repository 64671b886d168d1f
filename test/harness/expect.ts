import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createReadStream, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Image } from './images.ts'

/** Everything that a client which pulled all platforms must have. */
export function allDigests(image: Image): Set<string> {
  return new Set([image.top, ...image.manifests, ...image.blobs].map(descriptor => descriptor.digest))
}

/** What a client that pulled one platform must have, with or without the index above it. */
export function platformDigests(image: Image, architecture: string, withIndex: boolean): Set<string> {
  const manifest = image.manifests.find(one => one.architecture === architecture)
  assert(manifest, `the image has no platform ${architecture}`)
  const own = [manifest.digest, manifest.config.digest, ...manifest.layers.map(layer => layer.digest)]
  return new Set([...(withIndex ? [image.top.digest] : []), ...own])
}

/** The digests of all files below a directory, computed from their bytes. */
export async function digestsOfFiles(dir: string): Promise<Set<string>> {
  const digests = new Set<string>()
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
    const path = join(dir, name)
    if (!statSync(path).isFile()) continue
    const hash = createHash('sha256')
    await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash)
    digests.add(`sha256:${hash.digest('hex')}`)
  }
  return digests
}

/** Fails with the digests that are missing. */
export function assertHasAll(
  actual: ReadonlySet<string>,
  expected: ReadonlySet<string>,
  where: string,
): void {
  const missing = [...expected].filter(digest => !actual.has(digest))
  assert.equal(
    missing.length,
    0,
    `${where}: ${missing.length} of ${expected.size} are missing: ${missing.join(', ')}`,
  )
}
