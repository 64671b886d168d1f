import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { requirePrograms, startRegistry, until, useLab } from '@darter/testing'
import { type LayerFetch, startContainerd } from '../harness/clients/containerd.ts'
import { type Peer, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { isBlobGet, type Meter, startMeter } from '../harness/meter.ts'
import { pushImage } from '../harness/push.ts'

const KIB = 1024
const MIB = 1024 * KIB
const REPOSITORY = 'library/parallel'
const LAYERS: LayerFetch = { buffer: 8 * MIB, downloads: 8 }

const needed = requirePrograms(['docker-registry'], { root: true, newer: ['containerd', 'ctr'] })

describe('containerd 2.1 reads each layer by several open-ended ranges, and hangs up in each', needed, () => {
  const lab = useLab('parallel-layers')
  let image: Image
  let meter: Meter

  before(async () => {
    const registry = await startRegistry(lab)
    meter = await startMeter(lab, registry.address)
    image = noiseImage(lab.makeDir('image'), 'parallel', [
      64 * MIB + 12_345,
      20 * MIB,
      2 * MIB,
      300 * KIB,
      1000,
    ])
    await pushImage(registry.url, REPOSITORY, 'latest', image)
  })

  /** Checks that each blob left the registry once, whoever read it, and that nothing is at work for it any more. */
  const assertReadOnce = async (peers: readonly Peer[]) => {
    for (const peer of peers) {
      await until('no request and no download is left', async () => {
        const running = await peer.metric('darter_door_running_requests')
        return running + (await peer.metric('darter_downloads')) === 0
      })
    }
    for (const blob of image.blobs) {
      const bytes = meter.bodyBytes(request => isBlobGet(request) && request.path.includes(blob.digest))
      assert(bytes < 1.05 * blob.size + 64 * KIB, `${bytes} bytes were read of a layer of ${blob.size}`)
    }
  }

  test('one, alone', async () => {
    meter.reset()
    const peer = await startPeer(lab, { name: 'alone', upstreams: [upstreamAt(meter.address)] })
    const containerd = await startContainerd(lab, peer.mirror, { layers: LAYERS })
    await containerd.pullByCri(REPOSITORY, 'latest', image)
    await assertReadOnce([peer])
    const ranges = await peer.metric('darter_door_requests_total', { route: 'blob', status: '206' })
    assert(ranges >= 12, `${ranges} ranges were asked for`)
  })

  test('two of them with a peer each, at once', async () => {
    meter.reset()
    const scheduler = await startScheduler(lab)
    const upstreams = [upstreamAt(meter.address)]
    const peers = await Promise.all(['a', 'b'].map(name => startPeer(lab, { name, upstreams, scheduler })))
    const [one, other] = await Promise.all(
      peers.map(peer => startContainerd(lab, peer.mirror, { layers: LAYERS })),
    )
    assert(one && other)
    await Promise.all([
      one.pullByCri(REPOSITORY, 'latest', image),
      other.pullByCtr(REPOSITORY, 'latest', image),
    ])
    await assertReadOnce(peers)
  })
})
