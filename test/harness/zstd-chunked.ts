import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseDigest } from '@darter/oci'
import { type Lab, newerProgram, run } from '@darter/testing'
import { ARCHITECTURE, type Descriptor, type Image } from './images.ts'

/**
 * An image of one platform again, with its layers as skopeo 1.18 packs zstd:chunked. The layers must not be packed before.
 * Needs the newer skopeo of {@link newerProgram}.
 */
export async function zstdChunked(lab: Lab, image: Image): Promise<Image> {
  const [before] = image.manifests
  if (before === undefined) throw new Error('an image has a manifest')
  const dir = `${image.dir}-zstd-chunked`
  const packing = ['--dest-compress-format', 'zstd:chunked']
  await run(newerProgram('skopeo'), [
    ...['--insecure-policy', '--tmpdir', lab.dir, 'copy', '--quiet', ...packing],
    ...[`oci:${image.dir}:latest`, `oci:${dir}:latest`],
  ])
  const read = (name: string): unknown => JSON.parse(readFileSync(join(dir, name), 'utf8'))
  const index = read('index.json') as { manifests: Descriptor[] }
  const [top] = index.manifests
  if (top === undefined) throw new Error('skopeo wrote no manifest')
  const blob = join('blobs', 'sha256', parseDigest(top.digest).slice('sha256:'.length))
  const { config, layers } = read(blob) as { config: Descriptor; layers: Descriptor[] }
  const blobs = [config, ...layers]
  const manifest = { ...top, architecture: ARCHITECTURE, config, layers, diffIds: before.diffIds }
  const bytes = [top, ...blobs].reduce((sum, { size }) => sum + size, 0)
  return { dir, top, manifests: [manifest], blobs, bytes }
}
