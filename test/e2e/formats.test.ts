import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { requirePrograms, startRegistry, until, useLab } from '@darter/testing'
import { startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { estargz } from '../harness/estargz.ts'
import { ARCHITECTURE, buildImage, type Image, noise, type Packing } from '../harness/images.ts'
import { isBlobGet, type MeteredRequest, startMeter } from '../harness/meter.ts'
import { NYDUS_FILES, nydusImage } from '../harness/nydus-image.ts'
import { pushImage } from '../harness/push.ts'
import { zstdChunked } from '../harness/zstd-chunked.ts'

const KIB = 1024
const MIB = 1024 * KIB
/** The chunks of blobs of this size. */
const CHUNK = 256 * KIB
/** The size of the file that eStargz layers have first; their landmark is behind it. */
const FIRST = 5 * MIB
const READ = 512 * KIB

const needed = requirePrograms(['docker-registry', 'go'], { root: true, newer: ['skopeo'] })
const lab = useLab('formats')

/** An image of one layer: the file that its author wants first, behind the rest, and some that are empty. */
function lazyImage(name: string, packing: Packing, empty: readonly string[] = []): Image {
  const file = (path: string, data: Buffer) => ({ type: 'file', path, data }) as const
  const entries = [
    file('rest', noise(`${name}-rest`, 19 * MIB)),
    file('first', noise(`${name}-first`, FIRST)),
    ...empty.map(path => file(path, Buffer.alloc(0))),
  ]
  return buildImage(lab.makeDir(`image-${name}`), {
    format: 'oci',
    platforms: [{ architecture: ARCHITECTURE, layers: [{ entries, packing }] }],
  })
}

/** As many names as make the table of contents begin in the last chunk but one, which only the footer tells. */
const NAMES = Array.from({ length: 6000 }, (_, i) => noise(`name-${i}`, 48).toString('hex'))

const stargzImage = (name: string): Promise<Image> => estargz(lab, lazyImage(name, 'none', NAMES), ['first'])

/** Less than what is read of the layer. */
const SMALL = ['--prefetch-threshold', '1%']

interface Fetched {
  /** The layer's chunks that came in the background, by request, as the origin was asked for them. */
  readonly runs: readonly (readonly number[])[]
  /** What the origin sent of the layer. */
  readonly bytes: number
  readonly size: number
}

/** Reads a small range of an image's first layer, and awaits that the rest has come in the background. */
async function touch(
  { peer, meter, image, repository }: Awaited<ReturnType<typeof startAll>>,
  from = 12 * MIB,
  /** Between the manifest and the range. */
  between: () => Promise<void> = async () => {},
): Promise<Fetched> {
  const base = `http://${peer.mirror.address}/v2/${peer.mirror.prefix}${repository}`
  const accept = image.top.mediaType
  const manifest = await fetch(`${base}/manifests/latest`, { headers: { accept } })
  assert.equal(manifest.status, 200)
  await manifest.arrayBuffer()
  const [layer] = image.manifests[0]?.layers ?? []
  assert(layer)
  const content = readFileSync(join(image.dir, 'blobs', 'sha256', layer.digest.slice(7)))
  await between()
  meter.reset()
  const answer = await fetch(`${base}/blobs/${layer.digest}`, {
    headers: { range: `bytes=${from}-${from + READ - 1}` },
  })
  assert.equal(answer.status, 206)
  assert(Buffer.from(await answer.arrayBuffer()).equals(content.subarray(from, from + READ)))
  const isLayer = (request: MeteredRequest) => isBlobGet(request) && request.path.includes(layer.digest)
  const bytes = () => meter.bodyBytes(isLayer)
  await until('the rest came', () => bytes() >= layer.size)
  await until('the blob is complete', async () => {
    const whole = await fetch(`${base}/blobs/${layer.digest}`)
    return Buffer.from(await whole.arrayBuffer()).equals(content)
  })
  // On a busy machine the first request in the background may be there before the client's own.
  const asked = meter.requests.filter(isLayer).map(({ range: bytesRange }) => bytesRange ?? '')
  const background = asked.filter(text => !text.startsWith(`bytes=${from}-`))
  assert(background.length < asked.length)
  const runs = background.map(text => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(text) ?? []
    return range(Math.floor(Number(first) / CHUNK), Math.floor(Number(last) / CHUNK) + 1)
  })
  return { runs, bytes: bytes(), size: layer.size }
}

/** Requests that a peer has under way at the same moment, which may come in another order than they were sent. */
const SIDE_BY_SIDE = 4

/** Checks that chunks came in an order: `first` as it is, then the others from the front on. */
function assertOrder(runs: Fetched['runs'], first: readonly number[]): void {
  const all = runs.flat()
  const others = all.filter(chunk => !first.includes(chunk)).toSorted((a, b) => a - b)
  const ranks = new Map([...first, ...others].map((chunk, rank) => [chunk, rank]))
  assert.equal(new Set(all).size, all.length, 'a chunk was asked for twice')
  assert.equal(ranks.size, all.length, 'what should come first did not come')
  for (const [i, run] of runs.entries()) {
    for (const later of runs.slice(i + SIDE_BY_SIDE)) {
      assert(
        ranks.get(run[0]!)! < ranks.get(later[0]!)!,
        `${all.join(' ')} is not ${[...ranks.keys()].join(' ')}`,
      )
    }
  }
}

/** Checks that a {@link stargzImage} of so many chunks came in its order: the end, what lies before the landmark, the rest. */
function assertStargzOrder(runs: Fetched['runs'], chunks: number): void {
  const table = chunks - 2
  // Others come while the footer is on its way.
  assert(runs.flat().indexOf(table) < chunks / 2, 'the table did not come when the footer had told of it')
  const others = runs.map(run => run.filter(chunk => chunk !== table)).filter(run => run.length > 0)
  assert.equal(others.flat().length, runs.flat().length - 1, 'the table was asked for once')
  assertOrder(others, [chunks - 1, ...range(0, FIRST / CHUNK)])
}

for (const withScheduler of [true, false]) {
  const where = withScheduler ? 'in a swarm' : 'alone'

  for (const packing of ['zstd:chunked', 'estargz'] as const) {
    test(`${packing}, ${where}: table, what comes first, the rest`, needed, async () => {
      const name = `${packing.replace(':', '-')}-${withScheduler ? 'swarm' : 'alone'}`
      const image =
        packing === 'estargz' ? await stargzImage(name) : await zstdChunked(lab, lazyImage(name, 'none'))
      const { runs, bytes, size } = await touch(await startAll(name, image, withScheduler))
      const chunks = Math.ceil(size / CHUNK)
      assert.equal(runs.flat().length, chunks - READ / CHUNK)
      assert.equal(runs[0]?.[0], chunks - 1, 'the table of contents at the end comes first')
      if (packing === 'estargz') assertStargzOrder(runs, chunks)
      // skopeo marks no files.
      else assertOrder(runs, [chunks - 1])
      assert(bytes < size + CHUNK, 'nothing is read twice for its format’s sake')
    })
  }

  test(`an unknown format, ${where}: from the front on, and nothing more`, needed, async () => {
    const name = `plain-${withScheduler ? 'swarm' : 'alone'}`
    const { runs, bytes, size } = await touch(await startAll(name, lazyImage(name, 'zstd'), withScheduler))
    assertOrder(runs, [])
    assert(bytes < size + CHUNK)
  })

  test(`nydus, ${where}: bootstrap, the blob’s table, what the prefetch table names`, needed, async () => {
    const name = `nydus-${withScheduler ? 'swarm' : 'alone'}`
    const running = await startAll(name, nydusImage(lab.makeDir(`image-${name}`)), withScheduler)
    const { runs, bytes, size } = await touch(running, 8 * MIB)
    const [data, bootstrap] = running.image.manifests[0]?.layers ?? []
    assert(data && bootstrap)
    const paths = running.meter.requests.filter(isBlobGet).map(({ path }) => path)
    const early = paths.slice(0, 2).filter(path => path.includes(bootstrap.digest))
    assert.equal(early.length, 1, 'the bootstrap comes before anything else in the background')
    const named = [NYDUS_FILES.z, NYDUS_FILES.a].flatMap(([from, to]) => range(from / CHUNK, to / CHUNK))
    assertOrder(runs, [Math.floor(size / CHUNK), ...named])
    assert(bytes < size + CHUNK)
  })
}

test(
  'what comes first is known after a restart, without the manifest being asked for again',
  needed,
  async () => {
    const name = 'restarted'
    const running = await startAll(name, await stargzImage(name), false)
    const { runs, size } = await touch(running, 12 * MIB, () => running.peer.restart())
    assert.deepEqual(
      running.meter.requests.filter(({ method, path }) => method === 'GET' && path.includes('/manifests/')),
      [],
    )
    const chunks = Math.ceil(size / CHUNK)
    assertStargzOrder(runs, chunks)
  },
)

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)

async function startAll(name: string, image: Image, withScheduler: boolean) {
  const registry = await startRegistry(lab, { name: `registry-${name}` })
  const meter = await startMeter(lab, registry.address)
  const repository = `library/${name}`
  await pushImage(registry.url, repository, 'latest', image)
  const scheduler = withScheduler ? await startScheduler(lab) : undefined
  const upstreams = [upstreamAt(meter.address)]
  const peer = await startPeer(lab, { name, upstreams, scheduler, args: SMALL })
  return { peer, meter, image, repository }
}
