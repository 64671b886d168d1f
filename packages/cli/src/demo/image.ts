import { createHash, randomFillSync } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'

/** Content in a layout. */
interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

/** An image that was made. */
export interface DemoImage {
  readonly directory: string
  readonly tag: string
  /** Bytes of everything that a client pulls: manifest, config and layers. */
  readonly bytes: number
}

const PIECE_BYTES = 1024 * 1024
const TAG = 'latest'
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'

/**
 * Makes an OCI image layout (image-spec, image-layout.md) of random, incompressible layers whose sizes add up to
 * `imageBytes`. Its content is an artifact: it is moved and checked like an image but holds no file system.
 */
export async function makeImage(directory: string, imageBytes: number, layers: number): Promise<DemoImage> {
  await mkdir(join(directory, 'blobs', 'sha256'), { recursive: true, mode: 0o700 })
  const config = await put(directory, 'application/vnd.oci.empty.v1+json', Buffer.from('{}'))
  const parts: Descriptor[] = []
  for (let layer = 0; layer < layers; layer++) {
    const bytes = Math.floor((imageBytes * (layer + 1)) / layers) - Math.floor((imageBytes * layer) / layers)
    parts.push(await putRandom(directory, 'application/octet-stream', bytes))
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    artifactType: 'application/vnd.darter.demo',
    config,
    layers: parts,
  }
  const top = await put(directory, MANIFEST_TYPE, Buffer.from(JSON.stringify(manifest)))
  const index = {
    schemaVersion: 2,
    manifests: [{ ...top, annotations: { 'org.opencontainers.image.ref.name': TAG } }],
  }
  await writeFile(join(directory, 'index.json'), JSON.stringify(index))
  await writeFile(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  const bytes = [top, config, ...parts].reduce((sum, { size }) => sum + size, 0)
  return { directory, tag: TAG, bytes }
}

async function put(directory: string, mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
  const hex = createHash('sha256').update(bytes).digest('hex')
  await writeFile(join(directory, 'blobs', 'sha256', hex), bytes)
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length }
}

async function putRandom(directory: string, mediaType: string, size: number): Promise<Descriptor> {
  const hash = createHash('sha256')
  const unnamed = join(directory, 'blobs', 'unnamed')
  await pipeline(function* () {
    for (let left = size; left > 0; left -= PIECE_BYTES) {
      const piece = randomFillSync(Buffer.allocUnsafe(Math.min(PIECE_BYTES, left)))
      hash.update(piece)
      yield piece
    }
  }, createWriteStream(unnamed))
  const hex = hash.digest('hex')
  await rename(unnamed, join(directory, 'blobs', 'sha256', hex))
  return { mediaType, digest: `sha256:${hex}`, size }
}
