import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { ARCHITECTURE, buildImage, digestOf, type Image, type MadeLayer, noise } from './images.ts'

const MIB = 1024 * 1024
const made = (name: string): Buffer => readFileSync(join(import.meta.dirname, 'nydus', name))

/** Where the files of {@link nydusImage} lie in its data blob, in bytes. */
export const NYDUS_FILES = { a: [0, 4 * MIB], z: [4 * MIB, 6 * MIB], b: [6 * MIB, 10 * MIB] } as const

/**
 * What nydus-image 2.2.0 makes of three files of noise (RAFS v6, chunks of 1 MiB, not compressed): their bytes, and what it wrote
 * behind them and about them, which lies in the folder `nydus`. Its prefetch table names `z`, then `a`.
 */
export function nydusImage(dir: string): Image {
  const files = Object.entries(NYDUS_FILES).map(([name, [from, to]]) => noise(`nydus-${name}`, to - from))
  const blob = Buffer.concat([...files, gunzipSync(made('tail.gz'))])
  const bootstrap = made('bootstrap.tar.gz')
  const layers: MadeLayer[] = [
    {
      mediaType: 'application/vnd.oci.image.layer.nydus.blob.v1',
      bytes: blob,
      diffId: digestOf(blob),
      annotations: { 'containerd.io/snapshot/nydus-blob': 'true' },
    },
    {
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      bytes: bootstrap,
      diffId: digestOf(gunzipSync(bootstrap)),
      annotations: { 'containerd.io/snapshot/nydus-bootstrap': 'true' },
    },
  ]
  return buildImage(dir, { format: 'oci', platforms: [{ architecture: ARCHITECTURE, layers }] })
}
