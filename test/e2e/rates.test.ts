import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { pullWithNode } from '../harness/clients/node.ts'
import {
  type Darter,
  type Peer,
  type Scheduler,
  startPeer,
  startScheduler,
  upstreamAt,
} from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { type Meter, startMeter } from '../harness/meter.ts'
import { UPSTREAM } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'

const KIB = 1024
const MIB = 1024 * KIB
/** What may move at once under a rate, as the time in which it gathers; s. */
const BURST_SECONDS = 0.25
/** What a link may have read before it waits. */
const READ_AHEAD = 64 * KIB
const PATIENCE_MS = 90_000

/** Pulls, checks every digest, and tells how long it took in seconds. */
async function pull(peer: Peer, repository: string, image: Image): Promise<number> {
  const began = performance.now()
  const signal = AbortSignal.timeout(PATIENCE_MS)
  const pulled = await pullWithNode(peer.mirror, repository, 'v1', { signal })
  assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
  return (performance.now() - began) / 1000
}

/** Nobody took anybody for dead, and no read of an origin failed. */
async function assertSmooth(...programs: readonly Darter[]): Promise<void> {
  for (const program of programs) {
    assert.equal(await program.metric('darter_neighbour_failures_total'), 0)
    assert.equal(await program.metric('darter_origin_read_failures_total'), 0)
  }
}

describe('limits on traffic', requirePrograms(['docker-registry']), () => {
  const lab = useLab('rates')
  let registry: Registry
  let meter: Meter
  let scheduler: Scheduler
  let number = 0

  before(async () => {
    registry = await startRegistry(lab)
    meter = await startMeter(lab, registry.address)
    scheduler = await startScheduler(lab)
  })

  const newImage = async (layers: readonly number[]) => {
    const repository = `library/rate-${++number}`
    const image = noiseImage(lab.makeDir(`image-${number}`), repository, layers)
    await pushImage(registry.url, repository, 'v1', image)
    return { repository, image }
  }
  const peerWith = (...args: readonly string[]) =>
    startPeer(lab, { name: `peer-${++number}`, upstreams: [upstreamAt(meter.address)], scheduler, args })

  test('all reads of origins keep to their rate together', async () => {
    const { repository, image } = await newImage([3 * MIB, 2 * MIB, 2 * MIB])
    const peer = await peerWith('--transfer-origin-rate', '1MiB/s')
    meter.reset()
    const seconds = await pull(peer, repository, image)
    const least = image.bytes / MIB - BURST_SECONDS
    assert.ok(seconds >= least, `${image.bytes} bytes in ${seconds} s`)
    assert.ok(meter.bodyBytes() <= 1.05 * image.bytes, `${meter.bodyBytes()} of ${image.bytes} bytes`)
    assert.ok((await peer.metric('darter_rate_limit_wait_seconds_total', { limit: 'origin' })) > 1)
    await assertSmooth(peer)
    await peer.daemon.stop()
  })

  test('no more connections are made to an upstream than its configuration allows', async () => {
    const { repository, image } = await newImage([4 * MIB, 4 * MIB, 4 * MIB, 4 * MIB])
    const file = join(lab.makeDir('config'), 'darter.yaml')
    const upstream = `{name: ${UPSTREAM}, url: "${meter.url}", max-connections: 2}`
    writeFileSync(file, `upstreams: [${upstream}]\ndefault-upstream: ${UPSTREAM}\n`)
    const peer = await startPeer(lab, { name: 'few', upstreams: [], args: ['--config', file] })
    meter.setRate(20 * MIB)
    meter.reset()
    await pull(peer, repository, image)
    assert.equal(meter.peakConnections, 2)
    await assertSmooth(peer)
    await peer.daemon.stop()
    meter.setRate(undefined)
  })

  test('a peer sends to all others together no faster than its rate', async () => {
    const { repository, image } = await newImage([3 * MIB, 2 * MIB, 900])
    const seed = await peerWith('--transfer-upload-rate', '1MiB')
    await pull(seed, repository, image)
    meter.setFault(() => ({ kind: 'status', status: 503 }))
    const others = await Promise.all([peerWith(), peerWith()])
    const began = performance.now()
    const times = await Promise.all(others.map(peer => pull(peer, repository, image)))
    const sent = await seed.metric('darter_sent_to_peers_bytes_total')
    const elapsed = (performance.now() - began) / 1000
    assert.ok(sent <= MIB * (elapsed + BURST_SECONDS), `${sent} bytes in ${elapsed} s`)
    // Nobody else had any of it.
    assert.ok(sent >= image.bytes, `${sent} of ${image.bytes} bytes`)
    for (const seconds of times) assert.ok(seconds >= image.bytes / MIB - BURST_SECONDS, `${seconds} s`)
    for (const program of [seed, ...others]) {
      assert.equal(await program.metric('darter_neighbour_failures_total'), 0)
      await program.daemon.stop()
    }
    meter.setFault(undefined)
  })

  test('a peer receives from peers and origins together no faster than its rate, a low one too', async () => {
    const { repository, image } = await newImage([400 * KIB, 300 * KIB])
    const seeds = await Promise.all([peerWith(), peerWith()])
    for (const seed of seeds) await pull(seed, repository, image)
    const rate = 64 * KIB
    const slow = await peerWith('--transfer-download-rate', '64KiB', '--transfer-upload-rate', '64KiB')
    const seconds = await pull(slow, repository, image)
    const least = (image.bytes - seeds.length * READ_AHEAD) / rate - BURST_SECONDS
    assert.ok(seconds >= least, `${image.bytes} bytes in ${seconds} s`)
    assert.ok(seconds <= 3 * least, `${seconds} s instead of ${least} s`)
    // Its slowness is not taken for a reason to go to the origin.
    const fromPeers = await slow.metric('darter_received_bytes_total', { source: 'peer' })
    assert.ok(fromPeers >= 0.9 * image.bytes, `${fromPeers} of ${image.bytes} bytes`)
    await assertSmooth(slow, ...seeds)
    for (const program of [slow, ...seeds]) await program.daemon.stop()
  })
})
