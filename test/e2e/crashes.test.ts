import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { requirePrograms, startRegistry, until, useLab } from '@darter/testing'
import { pullWithNode } from '../harness/clients/node.ts'
import { startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { noiseImage } from '../harness/images.ts'
import { isBlobGet, startMeter } from '../harness/meter.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024

describe('programs that are killed', requirePrograms(['docker-registry']), () => {
  const lab = useLab('crashes')

  test('kill -9 of a peer in the middle of a pull: after a restart only what was missing is fetched', async context => {
    const registry = await startRegistry(lab)
    const meter = await startMeter(lab, registry.address)
    const image = noiseImage(lab.makeDir('image'), 'killed', [96 * MIB])
    await pushImage(registry.url, 'library/app', 'v1', image)
    const peer = await startPeer(lab, { name: 'peer', upstreams: [upstreamAt(meter.address)] })

    meter.setRate(48 * MIB)
    const cut = pullWithNode(peer.mirror, 'library/app', 'v1').then(
      () => assert.fail('the pull outlived its peer'),
      () => undefined,
    )
    await until('half of the image was read', () => meter.bodyBytes(isBlobGet) > image.bytes / 2, {
      everyMs: 5,
    })
    const restarted = peer.restart('SIGKILL')
    await cut
    await restarted
    const before = meter.bodyBytes(isBlobGet)

    meter.setRate(undefined)
    meter.reset()
    const pulled = await pullWithNode(peer.mirror, 'library/app', 'v1')
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
    const after = meter.bodyBytes(isBlobGet)
    const twice = before + after - image.bytes
    context.diagnostic(
      `read ${Math.round(before / MIB)} MiB before the kill, ${Math.round(after / MIB)} MiB after, ${(twice / MIB).toFixed(1)} MiB twice`,
    )
    // What was on its way, in buffers or not yet durable at the moment of the kill.
    assert(twice < 24 * MIB, `${Math.round(twice / MIB)} MiB were fetched twice`)

    for (const signal of [undefined, 'SIGKILL'] as const) {
      await peer.restart(signal)
      meter.reset()
      await pullWithNode(peer.mirror, 'library/app', 'v1')
      const again = meter.bodyBytes(isBlobGet)
      assert.equal(again, 0, `a complete blob was fetched again after ${signal ?? 'an orderly stop'}`)
    }
  })

  test('a peer that restarts announces what it holds', async () => {
    const registry = await startRegistry(lab, { name: 'gone-registry' })
    const image = noiseImage(lab.makeDir('announced'), 'announced', [5 * MIB, 10])
    await pushImage(registry.url, 'library/app', 'v1', image)
    const scheduler = await startScheduler(lab, 'announce-scheduler')
    const meter = await startMeter(lab, registry.address)
    const upstreams = [upstreamAt(meter.address)]
    const holder = await startPeer(lab, { name: 'holder', upstreams, scheduler })
    await pullWithNode(holder.mirror, 'library/app', 'v1')
    // After the orderly stop everything is durable; what the kill finds is not a matter of luck.
    await holder.restart()
    await holder.restart('SIGKILL')
    await scheduler.restart('SIGKILL')
    // The holder comes back to the new scheduler by itself, with a back-off.
    await until(
      'the holder is there again',
      async () => (await scheduler.metric('darter_scheduler_peers')) === 1,
    )
    const late = await startPeer(lab, { name: 'late', upstreams, scheduler })
    meter.reset()
    const pulled = await pullWithNode(late.mirror, 'library/app', 'v1')
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
    const fromOrigin = meter.bodyBytes(isBlobGet)
    assert(fromOrigin < MIB, `${fromOrigin} bytes came from the origin, though a peer holds everything`)
  })

  test('kill -9 of the scheduler in the middle of eight pulls: all end well', async () => {
    const registry = await startRegistry(lab, { name: 'eight-registry' })
    const meter = await startMeter(lab, registry.address)
    const image = noiseImage(lab.makeDir('eight'), 'eight', [40 * MIB, 8 * MIB])
    await pushImage(registry.url, 'library/app', 'v1', image)
    const scheduler = await startScheduler(lab, 'killed-scheduler')
    const names = Array.from({ length: 8 }, (_, i) => `eight-${i + 1}`)
    const peers = await Promise.all(
      names.map(name => startPeer(lab, { name, upstreams: [upstreamAt(meter.address)], scheduler })),
    )
    meter.setRate(24 * MIB)
    const pulls = Promise.all(peers.map(peer => pullWithNode(peer.mirror, 'library/app', 'v1')))
    await until('the pulls are in the middle', () => meter.bodyBytes(isBlobGet) > 16 * MIB, { everyMs: 5 })
    await scheduler.daemon.kill('SIGKILL')
    meter.setRate(undefined)
    for (const pulled of await pulls) assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
  })

  test('without any scheduler the pull works', async () => {
    const registry = await startRegistry(lab, { name: 'alone-registry' })
    const image = noiseImage(lab.makeDir('alone'), 'alone', [5 * MIB, 10])
    await pushImage(registry.url, 'library/app', 'v1', image)
    const scheduler = await startScheduler(lab, 'absent-scheduler')
    await scheduler.daemon.stop()
    const peer = await startPeer(lab, {
      name: 'alone',
      awaitScheduler: false,
      upstreams: [upstreamAt(registry.address)],
      scheduler,
    })
    const pulled = await pullWithNode(peer.mirror, 'library/app', 'v1')
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
    assert(pulled.seconds < 5, `the pull took ${pulled.seconds.toFixed(1)} s`)
  })

  test('SIGTERM lets a running response end, then the program stops with 0', async () => {
    const registry = await startRegistry(lab, { name: 'stop-registry' })
    const meter = await startMeter(lab, registry.address)
    const image = noiseImage(lab.makeDir('stop'), 'stop', [24 * MIB])
    await pushImage(registry.url, 'library/app', 'v1', image)
    const peer = await startPeer(lab, { name: 'stopping', upstreams: [upstreamAt(meter.address)] })
    meter.setRate(12 * MIB)
    const [layer] = image.manifests[0]?.layers ?? []
    assert(layer)
    const running = fetch(
      `http://${peer.mirror.address}/v2/${peer.mirror.prefix}library/app/blobs/${layer.digest}`,
    )
    const response = await running
    const body = response.arrayBuffer()
    await until('the response is running', () => meter.bodyBytes(isBlobGet) > 4 * MIB)
    const code = peer.daemon.stop()
    assert.equal((await body).byteLength, layer.size)
    assert.equal(await code, 0)
  })
})
