import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Lab, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { pullWithNode } from '../harness/clients/node.ts'
import { type Peer, type Scheduler, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { startMeter } from '../harness/meter.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
const needed = requirePrograms(['docker-registry'])

function startPeers(
  lab: Lab,
  names: readonly string[],
  upstream: string,
  scheduler: Scheduler,
): Promise<Peer[]> {
  return Promise.all(
    names.map(name => startPeer(lab, { name, upstreams: [upstreamAt(upstream)], scheduler })),
  )
}

/** The same image through every peer at the same moment. */
async function pullAll(peers: readonly Peer[], repository: string, image: Image): Promise<void> {
  const pulls = await Promise.all(peers.map(peer => pullWithNode(peer.mirror, repository, 'v1')))
  for (const pulled of pulls) assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
}

describe('a swarm of peers', needed, () => {
  const lab = useLab('swarm')

  test('three peers pull at the same moment; a fourth pulls everything when the registry is gone', async () => {
    const registry = await startRegistry(lab)
    const image = noiseImage(lab.makeDir('image'), 'three', [9 * MIB, 5 * MIB, 300, 1])
    await pushImage(registry.url, 'library/app', 'v1', image)
    const scheduler = await startScheduler(lab)
    const peers = await startPeers(lab, ['a', 'b', 'c'], registry.address, scheduler)
    await pullAll(peers, 'library/app', image)

    await registry.stop()
    const fourth = await startPeer(lab, { name: 'd', upstreams: [upstreamAt(registry.address)], scheduler })
    const byDigest = await pullWithNode(fourth.mirror, 'library/app', image.top.digest)
    assert.deepEqual(new Set(byDigest.digests.keys()), allDigests(image))
    const fifth = await startPeer(lab, { name: 'e', upstreams: [upstreamAt(registry.address)], scheduler })
    const byTag = await pullWithNode(fifth.mirror, 'library/app', 'v1')
    assert.deepEqual(new Set(byTag.digests.keys()), allDigests(image))
  })

  test('the origin serves an image about once, in as many requests for eight peers as for four', async context => {
    const registry = await startRegistry(lab, { name: 'counted-registry' })
    const image = noiseImage(lab.makeDir('big-image'), 'big', [128 * MIB, 64 * MIB, 48 * MIB, 16 * MIB])
    await pushImage(registry.url, 'library/app', 'v1', image)
    const meter = await startMeter(lab, registry.address)
    const counts: number[] = []
    for (const size of [4, 8]) {
      const scheduler = await startScheduler(lab, `scheduler-of-${size}`)
      const names = Array.from({ length: size }, (_, i) => `peer-${i + 1}-of-${size}`)
      const peers = await startPeers(lab, names, meter.address, scheduler)
      meter.reset()
      const started = performance.now()
      await pullAll(peers, 'library/app', image)
      const seconds = ((performance.now() - started) / 1000).toFixed(1)
      const ratio = meter.bodyBytes() / image.bytes
      const requests = meter.requests.length
      context.diagnostic(
        `${size} peers: origin bytes ${ratio.toFixed(4)}x, ${requests} requests, ${seconds} s`,
      )
      assert(ratio <= 1.05, `${size} peers read ${ratio.toFixed(3)}x of the image from the origin`)
      counts.push(requests)
      for (const peer of peers) await peer.daemon.stop()
      await scheduler.daemon.stop()
    }
    const [four = 0, eight = 0] = counts
    assert(eight <= four * 1.15 + 4, `${four} origin requests for 4 peers, ${eight} for 8`)
  })
})
