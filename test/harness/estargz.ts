import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseDigest } from '@darter/oci'
import { type Lab, run } from '@darter/testing'
import { ARCHITECTURE, buildImage, type Image, type MadeLayer } from './images.ts'

const SOURCE = join(import.meta.dirname, 'estargz')

/** Where the program of the folder `estargz` is, by the lab that it was built in. */
const programs = new Map<Lab, Promise<string>>()

function program(lab: Lab): Promise<string> {
  const built = programs.get(lab) ?? build(lab)
  programs.set(lab, built)
  return built
}

async function build(lab: Lab): Promise<string> {
  const path = join(lab.makeDir('estargz'), 'estargz')
  await run('go', ['build', '-o', path], {
    cwd: SOURCE,
    env: {
      TMPDIR: lab.dir,
      // The Go that is here has to do, with no C compiler beside it, and whoever owns the repository.
      GOTOOLCHAIN: 'local',
      CGO_ENABLED: '0',
      GOFLAGS: '-mod=readonly -buildvcs=false',
    },
    timeoutMs: 600_000,
  })
  return path
}

/**
 * An image of one platform again, with its layers as stargz-snapshotter's library packs eStargz: each with the files
 * `first` in front and its landmark behind them. The layers must not be packed before, and must have these files.
 * Needs Go 1.19 or later, which gets the library once.
 */
export async function estargz(lab: Lab, image: Image, first: readonly string[]): Promise<Image> {
  const [before] = image.manifests
  if (before === undefined) throw new Error('an image has a manifest')
  const pack = await program(lab)
  const packed = join(lab.dir, 'estargz', 'packed')
  const layers: MadeLayer[] = []
  for (const { digest } of before.layers) {
    const archive = join(image.dir, 'blobs', 'sha256', digest.slice('sha256:'.length))
    const { stdout } = await run(pack, [archive, packed, ...first], { env: { TMPDIR: lab.dir } })
    const { annotations, diffId } = JSON.parse(stdout.toString()) as {
      annotations: Record<string, string>
      diffId: string
    }
    layers.push({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      bytes: readFileSync(packed),
      diffId: parseDigest(diffId),
      annotations,
    })
  }
  const dir = `${image.dir}-estargz`
  return buildImage(dir, { format: 'oci', platforms: [{ architecture: ARCHITECTURE, layers }] })
}
