import { createCipheriv, createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { type Digest, parseDigest } from '@darter/oci'
import { tar, type TarEntry } from './tar.ts'

/** How a layer's archive is packed. `stored` is a valid gzip stream that does not try to compress. */
export type Packing = 'gzip' | 'stored' | 'zstd' | 'none'

export interface LayerSpec {
  readonly entries: readonly TarEntry[]
  readonly packing: Packing
}

/** A layer that another tool has made. */
export interface MadeLayer {
  readonly mediaType: string
  readonly bytes: Buffer
  /** The digest of what it unpacks to. */
  readonly diffId: Digest
  /** What its descriptor says of it. */
  readonly annotations: Readonly<Record<string, string>>
}

export interface PlatformSpec {
  readonly architecture: string
  readonly layers: readonly (LayerSpec | MadeLayer)[]
}

export interface ImageSpec {
  readonly format: 'oci' | 'docker'
  /** One platform makes a plain manifest, several an index (a manifest list). */
  readonly platforms: readonly PlatformSpec[]
}

/** Something with a digest. */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

/** An image on disk, with everything known that a client should have after a pull. */
export interface Image {
  /** An OCI image layout; the tag in its index is `latest`. */
  readonly dir: string
  /** What a tag points to: the index, or the only manifest. */
  readonly top: Descriptor
  /** The manifests, without the index. */
  readonly manifests: readonly (Descriptor & {
    readonly architecture: string
    readonly config: Descriptor
    readonly layers: readonly Descriptor[]
    /** Digests of the unpacked layers. */
    readonly diffIds: readonly string[]
  })[]
  /** Configs and layers, each once. */
  readonly blobs: readonly Descriptor[]
  /** Bytes of all manifests, configs and layers. */
  readonly bytes: number
}

const MEDIA_TYPES = {
  oci: {
    index: 'application/vnd.oci.image.index.v1+json',
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: {
      gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
      stored: 'application/vnd.oci.image.layer.v1.tar+gzip',
      zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
      none: 'application/vnd.oci.image.layer.v1.tar',
    },
  },
  docker: {
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: {
      gzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
      stored: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
      zstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
      none: 'application/vnd.docker.image.rootfs.diff.tar',
    },
  },
} as const

/** The sha256 digest of some bytes. */
export function digestOf(bytes: Uint8Array): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`)
}

/** Bytes that do not compress, always the same for the same seed. */
export function noise(seed: string, length: number): Buffer {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

function pack({ entries, packing }: LayerSpec): Pick<MadeLayer, 'bytes' | 'diffId'> {
  const archive = tar(entries)
  const diffId = digestOf(archive)
  if (packing === 'none') return { bytes: archive, diffId }
  if (packing === 'zstd') return { bytes: zstdCompressSync(archive), diffId }
  return { bytes: gzipSync(archive, { level: packing === 'stored' ? 0 : 6 }), diffId }
}

/** Writes an image into `dir` as an OCI layout (Docker images too: the bytes and digests are what matters). */
export function buildImage(dir: string, spec: ImageSpec): Image {
  const types = MEDIA_TYPES[spec.format]
  const blobDir = join(dir, 'blobs', 'sha256')
  mkdirSync(blobDir, { recursive: true })
  const blobs = new Map<Digest, Descriptor>()
  const write = (mediaType: string, bytes: Buffer): Descriptor => {
    const digest = digestOf(bytes)
    writeFileSync(join(blobDir, digest.slice(7)), bytes)
    return { mediaType, digest, size: bytes.length }
  }
  const writeBlob = (mediaType: string, bytes: Buffer) => {
    const descriptor = write(mediaType, bytes)
    blobs.set(descriptor.digest, descriptor)
    return descriptor
  }
  const writeJson = (mediaType: string, value: object) => write(mediaType, Buffer.from(JSON.stringify(value)))

  const manifests = spec.platforms.map(platform => {
    const diffIds: string[] = []
    const layers = platform.layers.map(layer => {
      const mediaType = 'packing' in layer ? types.layer[layer.packing] : layer.mediaType
      const { bytes, diffId } = 'packing' in layer ? pack(layer) : layer
      diffIds.push(diffId)
      return {
        ...writeBlob(mediaType, bytes),
        ...('annotations' in layer && { annotations: layer.annotations }),
      }
    })
    const config = writeBlob(
      types.config,
      Buffer.from(
        JSON.stringify({
          created: '1970-01-01T00:00:00Z',
          architecture: platform.architecture,
          os: 'linux',
          config: { Env: ['PATH=/bin'], Cmd: ['/bin/sh'] },
          rootfs: { type: 'layers', diff_ids: diffIds },
          history: diffIds.map(() => ({ created: '1970-01-01T00:00:00Z', created_by: 'darter-test' })),
        }),
      ),
    )
    const manifest = writeJson(types.manifest, {
      schemaVersion: 2,
      mediaType: types.manifest,
      config,
      layers,
    })
    return { ...manifest, architecture: platform.architecture, config, layers, diffIds }
  })
  const [only] = manifests
  if (only === undefined) throw new Error('an image has at least one platform')
  const pointer = ({ mediaType, digest, size }: Descriptor) => ({ mediaType, digest, size })
  const top =
    manifests.length === 1
      ? pointer(only)
      : writeJson(types.index, {
          schemaVersion: 2,
          mediaType: types.index,
          manifests: manifests.map(manifest => ({
            ...pointer(manifest),
            platform: { os: 'linux', architecture: manifest.architecture },
          })),
        })
  writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  writeFileSync(
    join(dir, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [{ ...top, annotations: { 'org.opencontainers.image.ref.name': 'latest' } }],
    }),
  )
  const all = [...(manifests.length === 1 ? [] : [top]), ...manifests, ...blobs.values()]
  return {
    dir,
    top,
    manifests,
    blobs: [...blobs.values()],
    bytes: all.reduce((sum, descriptor) => sum + descriptor.size, 0),
  }
}

/** A file of noise, as a layer's content. */
export function noiseLayer(seed: string, bytes: number, packing: Packing = 'stored'): LayerSpec {
  return { entries: [{ type: 'file', path: `${seed}.bin`, data: noise(seed, bytes) }], packing }
}

/** A shell and a few tools that run anywhere: Debian's busybox-static. */
export function busyboxLayer(packing: Packing = 'gzip'): LayerSpec {
  const tools = ['sh', 'cat', 'echo', 'sha256sum', 'ls']
  return {
    entries: [
      { type: 'directory', path: 'bin' },
      { type: 'file', path: 'bin/busybox', mode: 0o755, data: readFileSync('/bin/busybox') },
      ...tools.map(tool => ({ type: 'symlink', path: `bin/${tool}`, target: 'busybox' }) as const),
      { type: 'directory', path: 'etc' },
      { type: 'directory', path: 'proc' },
      { type: 'directory', path: 'sys' },
      { type: 'directory', path: 'dev' },
    ],
    packing,
  }
}

/** The architecture of this machine as images name it. */
export const ARCHITECTURE = process.arch === 'x64' ? 'amd64' : process.arch

/** A one-platform image of this machine's architecture whose layers are noise of the given sizes in bytes. */
export function noiseImage(dir: string, seed: string, layerBytes: readonly number[]): Image {
  const layers = layerBytes.map((bytes, i) => noiseLayer(`${seed}-${i}`, bytes))
  return buildImage(dir, { format: 'oci', platforms: [{ architecture: ARCHITECTURE, layers }] })
}
