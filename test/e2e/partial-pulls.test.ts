import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { requirePrograms, startRegistry, useLab } from '@darter/testing'
import { preparePodman } from '../harness/clients/podman.ts'
import { startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { ARCHITECTURE, buildImage, type Descriptor, type Image, noise } from '../harness/images.ts'
import { isBlobGet, type Meter, startMeter } from '../harness/meter.ts'
import { pushImage } from '../harness/push.ts'
import { zstdChunked } from '../harness/zstd-chunked.ts'

const KIB = 1024
const REPOSITORY = 'library/partial'
const FILES = 48

const needed = requirePrograms(['docker-registry'], { root: true, newer: ['podman', 'skopeo'] })

describe('podman 5 pulls the files of zstd:chunked layers that it does not have', needed, () => {
  const lab = useLab('partial-pulls')
  /** The second version has another content in each sixth file. */
  const versions = ['v1', 'v2'] as const
  const images = new Map<string, Image>()
  let meter: Meter

  const contentOf = (version: string, file: number): Buffer =>
    noise(`${version === 'v2' && file % 6 === 0 ? 'new' : 'old'}-${file}`, 256 * KIB + file)
  const layerOf = (version: string): Descriptor =>
    images.get(version)?.manifests[0]?.layers[0] ?? assert.fail(version)
  const originBytes = (version: string): number =>
    meter.bodyBytes(request => isBlobGet(request) && request.path.includes(layerOf(version).digest))

  before(async () => {
    const registry = await startRegistry(lab)
    meter = await startMeter(lab, registry.address)
    for (const version of versions) {
      const entries = Array.from(
        { length: FILES },
        (_, i) => ({ type: 'file', path: `file-${i}`, data: contentOf(version, i) }) as const,
      )
      const layers = [{ entries, packing: 'none' } as const]
      const plain = buildImage(lab.makeDir(version), {
        format: 'oci',
        platforms: [{ architecture: ARCHITECTURE, layers }],
      })
      const image = await zstdChunked(lab, plain)
      await pushImage(registry.url, REPOSITORY, version, image)
      images.set(version, image)
    }
  })

  const pull = async (podman: ReturnType<typeof preparePodman>, version: string): Promise<void> => {
    const had = new Set(podman.layerDirs())
    await podman.pull(REPOSITORY, version, images.get(version) ?? assert.fail(version))
    const dirs = podman.layerDirs().filter(dir => !had.has(dir) && existsSync(join(dir, 'file-0')))
    assert.equal(dirs.length, 1, 'the layer was unpacked')
    for (let i = 0; i < FILES; i++)
      assert(readFileSync(join(dirs[0]!, `file-${i}`)).equals(contentOf(version, i)), `file-${i}`)
  }

  test('all of them at first, of the next version those that changed', async () => {
    const args = ['--no-prefetch']
    const peer = await startPeer(lab, { name: 'alone', upstreams: [upstreamAt(meter.address)], args })
    const podman = preparePodman(lab, peer.mirror, { partial: true })
    meter.reset()
    await pull(podman, 'v1')
    assert(originBytes('v1') <= 1.05 * layerOf('v1').size, `${originBytes('v1')} of ${layerOf('v1').size}`)
    const before = await peer.metric('darter_door_sent_bytes_total')
    await pull(podman, 'v2')
    const sent = (await peer.metric('darter_door_sent_bytes_total')) - before
    for (const bytes of [sent, originBytes('v2')])
      assert(bytes < 0.3 * layerOf('v2').size, `${bytes} of ${layerOf('v2').size}`)
  })

  test('two at once with a peer each: from the registry once', async () => {
    const scheduler = await startScheduler(lab)
    const upstreams = [upstreamAt(meter.address)]
    const peers = await Promise.all(['a', 'b'].map(name => startPeer(lab, { name, upstreams, scheduler })))
    meter.reset()
    await Promise.all(peers.map(({ mirror }) => pull(preparePodman(lab, mirror, { partial: true }), 'v1')))
    assert(originBytes('v1') <= 1.1 * layerOf('v1').size, `${originBytes('v1')} of ${layerOf('v1').size}`)
  })
})
