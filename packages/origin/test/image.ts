import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Digest, digestHex, MANIFEST_MEDIA_TYPES, parseDigest } from '@darter/oci'
import { seededRandom } from '@darter/runtime'

const [INDEX, MANIFEST] = MANIFEST_MEDIA_TYPES
const CONFIG = 'application/vnd.oci.image.config.v1+json'
const LAYER = 'application/vnd.oci.image.layer.v1.tar'
const REF_NAME = 'org.opencontainers.image.ref.name'

/** Content under its digest. */
export interface Content {
  readonly digest: Digest
  readonly bytes: Uint8Array
  readonly mediaType: string
}

/** A small image: blobs, a manifest and an index over it. */
export interface TestImage {
  readonly config: Content
  readonly layers: readonly Content[]
  readonly manifest: Content
  readonly index: Content
}

/** Names content by its sha256. */
export function contentOf(bytes: Uint8Array, mediaType: string): Content {
  const digest = parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`)
  return { digest, bytes, mediaType }
}

/** The descriptor of content, as manifests hold it. */
export function descriptorOf({ digest, bytes, mediaType }: Content) {
  return { mediaType, digest, size: bytes.byteLength }
}

/** JSON under its digest. */
export function jsonContent(value: unknown, mediaType: string): Content {
  return contentOf(Buffer.from(JSON.stringify(value)), mediaType)
}

/** The same incompressible bytes for the same seed. */
export function randomBytes(size: number, seed: number): Uint8Array {
  const random = seededRandom(seed)
  return Uint8Array.from({ length: size }, () => Math.floor(random() * 256))
}

/** An image with layers of the given sizes; its manifest does not name its own media type, as skopeo's do not. */
export function makeImage(sizes: readonly number[], seed = 1): TestImage {
  const layers = sizes.map((size, at) => contentOf(randomBytes(size, seed + at), LAYER))
  const config = jsonContent(
    {
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: layers.map(layer => layer.digest) },
    },
    CONFIG,
  )
  const manifest = jsonContent(
    { schemaVersion: 2, config: descriptorOf(config), layers: layers.map(descriptorOf) },
    MANIFEST,
  )
  const platform = { architecture: 'amd64', os: 'linux' }
  const entry = { ...descriptorOf(manifest), platform }
  return { config, layers, manifest, index: jsonContent({ schemaVersion: 2, manifests: [entry] }, INDEX) }
}

/** An image layout on disk, removed with `await using`. */
export interface TestLayout extends AsyncDisposable {
  readonly directory: string
  add(content: Content): Promise<void>
  /** Writes `index.json`; names stand in `org.opencontainers.image.ref.name`. */
  setIndex(entries: readonly { readonly content: Content; readonly name?: string }[]): Promise<void>
}

export async function makeLayout(): Promise<TestLayout> {
  const directory = await mkdtemp(join(tmpdir(), 'darter-layout-'))
  await mkdir(join(directory, 'blobs', 'sha256'), { recursive: true })
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion": "1.0.0"}')
  return {
    directory,
    add: content => writeFile(join(directory, 'blobs', 'sha256', digestHex(content.digest)), content.bytes),
    setIndex: entries => {
      const manifests = entries.map(({ content, name }) => ({
        ...descriptorOf(content),
        ...(name !== undefined && { annotations: { [REF_NAME]: name } }),
      }))
      return writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }))
    },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  }
}

/** All of an image's content in a layout, tagged `v1` (manifest) and `multi` (index). */
export async function writeImage(layout: TestLayout, image: TestImage): Promise<void> {
  for (const content of [image.config, ...image.layers, image.manifest, image.index])
    await layout.add(content)
  await layout.setIndex([
    { content: image.manifest, name: 'v1' },
    { content: image.index, name: 'multi' },
  ])
}
