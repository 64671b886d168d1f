import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { curl } from '../harness/clients/curl.ts'
import { pullWithNode } from '../harness/clients/node.ts'
import { startPeer, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { type Meter, startMeter } from '../harness/meter.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024

describe('tags', requirePrograms(['docker-registry', 'curl']), () => {
  const lab = useLab('tags')
  let registry: Registry
  let meter: Meter
  let first: Image
  let second: Image

  before(async () => {
    registry = await startRegistry(lab)
    meter = await startMeter(lab, registry.address)
    first = noiseImage(lab.makeDir('first'), 'first', [MIB])
    second = noiseImage(lab.makeDir('second'), 'second', [MIB])
    await pushImage(registry.url, 'library/app', 'moving', first)
  })

  test('a moved tag is followed once the short memory is over', async () => {
    const peer = await startPeer(lab, {
      name: 'following',
      upstreams: [upstreamAt(meter.address)],
      args: ['--tags-ttl', '0s'],
    })
    const before = await pullWithNode(peer.mirror, 'library/app', 'moving')
    assert(before.digests.has(first.top.digest))
    await pushImage(registry.url, 'library/app', 'moving', second)
    const moved = await pullWithNode(peer.mirror, 'library/app', 'moving')
    assert(moved.digests.has(second.top.digest))
    assert.deepEqual(moved.warnings, [])
  })

  test('within the short memory the upstream is asked once', async () => {
    const peer = await startPeer(lab, {
      name: 'remembering',
      upstreams: [upstreamAt(meter.address)],
      args: ['--tags-ttl', '1h'],
    })
    await pullWithNode(peer.mirror, 'library/app', 'moving')
    meter.reset()
    for (let i = 0; i < 5; i++) await pullWithNode(peer.mirror, 'library/app', 'moving')
    const asked = meter.requests.filter(request => request.path.includes('/manifests/moving'))
    assert.equal(asked.length, 0)
  })

  test('while the upstream is down the last known digest is served, and marked', async () => {
    const peer = await startPeer(lab, {
      name: 'surviving',
      upstreams: [upstreamAt(meter.address)],
      args: ['--tags-ttl', '0s', '--transfer-progress-timeout', '2s'],
    })
    await pullWithNode(peer.mirror, 'library/app', 'moving')
    meter.setFault(() => ({ kind: 'status', status: 503 }))
    const failing = await pullWithNode(peer.mirror, 'library/app', 'moving')
    assert.deepEqual(new Set(failing.digests.keys()), allDigests(second))
    assert.equal(failing.warnings.length, 1, 'no Warning header while the upstream fails')

    await meter.stop()
    const gone = await pullWithNode(peer.mirror, 'library/app', 'moving')
    assert.deepEqual(new Set(gone.digests.keys()), allDigests(second))
    assert.equal(gone.warnings.length, 1, 'no Warning header while the upstream is gone')
    const head = await curl(
      `http://${peer.mirror.address}/v2/${peer.mirror.prefix}library/app/manifests/moving`,
      ['--head', '--header', 'Accept: application/vnd.oci.image.manifest.v1+json'],
    )
    assert.equal(head.status, 200)
    assert.equal(head.headers.get('docker-content-digest'), second.top.digest)
    assert.match(head.headers.get('warning') ?? '', /^11[0-2] /)

    await peer.restart('SIGKILL')
    const restarted = await pullWithNode(peer.mirror, 'library/app', 'moving')
    assert(restarted.digests.has(second.top.digest), 'the last known digest did not survive a restart')
    const unknown = await curl(
      `http://${peer.mirror.address}/v2/${peer.mirror.prefix}library/app/manifests/never-seen`,
    )
    assert(unknown.status >= 500 && unknown.status < 600, `an unknown tag is answered with ${unknown.status}`)
  })
})
