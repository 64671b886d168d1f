import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { rendezvous } from '@darter/swarm'
import { type Lab, requirePrograms, startRegistry, until, useLab } from '@darter/testing'
import { pullWithNode } from '../harness/clients/node.ts'
import { type Peer, type Scheduler, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { isBlobGet, type Meter, startMeter } from '../harness/meter.ts'
import { basic } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'
import { blobUrl, fetchRange } from '../harness/ranges.ts'

const MIB = 1024 * 1024
const ALICE = { username: 'alice', password: 'opensesame-7731' }

/** A scheduler, seeds and peers before one origin. */
interface Cluster {
  readonly scheduler: Scheduler
  readonly seeds: readonly Peer[]
  readonly peers: readonly Peer[]
}

async function startCluster(
  lab: Lab,
  name: string,
  sizes: { readonly seeds: number; readonly peers: number },
  meter: Meter,
  /** Where the peers that are no seeds read. */
  peersMeter: Meter = meter,
): Promise<Cluster> {
  const scheduler = await startScheduler(lab, `${name}-scheduler`)
  const start = (role: string, count: number, { address }: Meter, args: readonly string[]) =>
    Promise.all(
      Array.from({ length: count }, (_, i) =>
        startPeer(lab, {
          name: `${name}-${role}-${i + 1}`,
          upstreams: [upstreamAt(address)],
          scheduler,
          args,
        }),
      ),
    )
  const seeds = await start('seed', sizes.seeds, meter, ['--seed'])
  return { scheduler, seeds, peers: await start('peer', sizes.peers, peersMeter, []) }
}

async function stopCluster({ scheduler, seeds, peers }: Cluster): Promise<void> {
  await Promise.all([...seeds, ...peers].map(peer => peer.daemon.stop()))
  await scheduler.daemon.stop()
}

const fromOrigin = (peer: Peer) => peer.metric('darter_received_bytes_total', { source: 'origin' })

async function sum(peers: readonly Peer[], of: (peer: Peer) => Promise<number>): Promise<number> {
  return (await Promise.all(peers.map(of))).reduce((a, b) => a + b, 0)
}

/** The same image through every peer at the same moment; the seconds that each took. */
async function pullAll(peers: readonly Peer[], repository: string, image: Image): Promise<number[]> {
  return await Promise.all(
    peers.map(async peer => {
      const started = performance.now()
      const pulled = await pullWithNode(peer.mirror, repository, 'v1')
      assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
      return (performance.now() - started) / 1000
    }),
  )
}

/** A peer's id, as it says at its start. */
function idOf(peer: Peer): string {
  const id = peer.log().find(({ msg }) => msg === 'peer started')?.['peer']
  assert(typeof id === 'string')
  return id
}

/** Which of the blobs are each seed's own. */
function sharesOf<T extends { readonly digest: string }>(
  seeds: readonly Peer[],
  blobs: readonly T[],
): readonly (readonly T[])[] {
  const ids = seeds.map(idOf)
  return ids.map(id => blobs.filter(({ digest }) => rendezvous(ids, digest) === id))
}

/** Awaits that each seed was asked for its own content of an image, manifest and all, and has it; for nothing else. */
async function allHeld(seeds: readonly Peer[], image: Image): Promise<void> {
  const contents = [...allDigests(image)].map(digest => ({ digest }))
  const own = sharesOf(seeds, contents).map(share => share.length)
  await until('each seed holds its own', async () => {
    const held = await Promise.all(
      seeds.map(seed => seed.metric('darter_seed_calls_total', { outcome: 'held' })),
    )
    return held.every((count, i) => count === own[i])
  })
  const calls = await sum(seeds, seed => seed.metric('darter_seed_calls_total'))
  assert.equal(calls, contents.length)
}

const shown = (seconds: readonly number[]): string =>
  `${Math.min(...seconds).toFixed(1)} to ${Math.max(...seconds).toFixed(1)} s`

describe('seeds', requirePrograms(['docker-registry']), () => {
  const lab = useLab('seeds')

  test('two seeds fetch a cold image once for six peers, each its share; one is killed in the middle of the next', async context => {
    const registry = await startRegistry(lab)
    const meter = await startMeter(lab, registry.address)
    const layers = [24 * MIB, 20 * MIB, 16 * MIB, 12 * MIB, 6 * MIB, 2 * MIB]
    const [first, second] = ['first', 'second'].map(name => noiseImage(lab.makeDir(name), name, layers))
    assert(first && second)
    await pushImage(registry.url, 'library/first', 'v1', first)
    await pushImage(registry.url, 'library/second', 'v1', second)

    const without = await startCluster(lab, 'without', { seeds: 0, peers: 6 }, meter)
    const plain = await pullAll(without.peers, 'library/first', first)
    context.diagnostic(`6 peers without seeds: ${shown(plain)}`)
    await stopCluster(without)
    meter.reset()

    const cluster = await startCluster(lab, 'with', { seeds: 2, peers: 6 }, meter)
    const seeded = await pullAll(cluster.peers, 'library/first', first)
    const ratio = meter.bodyBytes(isBlobGet) / first.bytes
    const shares = await Promise.all(cluster.seeds.map(fromOrigin))
    const part = shares.reduce((a, b) => a + b, 0) / first.bytes
    context.diagnostic(
      `6 peers with 2 seeds: ${shown(seeded)}, origin ${ratio.toFixed(3)}x, of which seeds ${part.toFixed(3)}x (${shares.map(bytes => Math.round(bytes / MIB)).join(' and ')} MiB)`,
    )
    assert(ratio <= 1.05, `the origin sent ${ratio.toFixed(3)}x`)
    await allHeld(cluster.seeds, first)

    meter.reset()
    meter.setRate(20 * MIB)
    const pulls = pullAll(cluster.peers, 'library/second', second)
    await until('a third came from the origin', () => meter.bodyBytes(isBlobGet) > second.bytes / 3, {
      everyMs: 5,
    })
    // The one that has read the most of it has the most to lose.
    const now = await Promise.all(cluster.seeds.map(fromOrigin))
    const [killed] = cluster.seeds
      .map((seed, i) => ({ seed, read: now[i]! - shares[i]! }))
      .toSorted((a, b) => b.read - a.read)
    await killed!.seed.daemon.kill('SIGKILL')
    const bereft = await pulls
    const again = meter.bodyBytes(isBlobGet) / second.bytes
    context.diagnostic(
      `a seed killed after ${Math.round(killed!.read / MIB)} MiB, origin at 20 MiB/s: ${shown(bereft)}, origin ${again.toFixed(3)}x`,
    )
    // What the seed had not passed on is read again.
    assert(again <= 1.35, `the origin sent ${again.toFixed(3)}x`)
    await stopCluster(cluster)
  })

  test('what peers cannot read themselves they get through the seeds, each of which reads its own blobs, all of them', async () => {
    const registry = await startRegistry(lab, { name: 'out-of-reach' })
    const meter = await startMeter(lab, registry.address)
    const image = noiseImage(lab.makeDir('reach'), 'reach', [9 * MIB, 8 * MIB, 7 * MIB, 6 * MIB, 5 * MIB])
    await pushImage(registry.url, 'library/reach', 'v1', image)
    const broken = await startMeter(lab, registry.address)
    broken.setFault(request => (isBlobGet(request) ? { kind: 'status', status: 503 } : undefined))
    const cluster = await startCluster(lab, 'reach', { seeds: 2, peers: 3 }, meter, broken)
    await pullAll(cluster.peers, 'library/reach', image)
    const { layers } = image.manifests[0] ?? assert.fail()
    for (const [i, own] of sharesOf(cluster.seeds, layers).entries()) {
      const expected = own.reduce((bytes, { size }) => bytes + size, 0)
      const read = await fromOrigin(cluster.seeds[i]!)
      assert(read >= expected, `a seed read ${read} of the ${expected} bytes that nobody else could read`)
    }
    const ratio = meter.bodyBytes(isBlobGet) / image.bytes
    assert(ratio <= 1.05, `the origin sent ${ratio.toFixed(3)}x`)
    await allHeld(cluster.seeds, image)
    await stopCluster(cluster)
  })

  test('a range of a cold blob is left to who reads it; then the seed brings the blob with one read at a time', async context => {
    const registry = await startRegistry(lab, { name: 'lazy-registry' })
    const meter = await startMeter(lab, registry.address)
    const peersMeter = await startMeter(lab, registry.address)
    const image = noiseImage(lab.makeDir('lazy'), 'lazy', [24 * MIB])
    await pushImage(registry.url, 'library/lazy', 'v1', image)
    const [layer] = image.manifests[0]?.layers ?? []
    assert(layer)
    const cluster = await startCluster(lab, 'lazy', { seeds: 1, peers: 2 }, meter, peersMeter)
    const [first, second] = cluster.peers
    assert(first && second)
    const read = (peer: Peer, from: number) =>
      fetchRange(blobUrl(peer.mirror, 'library/lazy', layer.digest), `bytes=${from}-${from + MIB - 1}`)
    const begun = performance.now()
    await read(first, 16 * MIB)
    const range = performance.now() - begun
    await until('the seed holds the blob', async () => {
      const held = await cluster.seeds[0]?.metric('darter_seed_calls_total', { outcome: 'held' })
      return held === 1
    })
    context.diagnostic(`a range in ${range.toFixed(0)} ms, ${meter.peakReads} reads of the seed at a time`)
    // In a hurry it has four.
    assert.equal(meter.peakReads, 1)
    // On a machine that is busy a peer may be tired of waiting for a neighbour once.
    let next = 0
    await until('a range comes from the seed', async () => {
      peersMeter.reset()
      await read(second, next++ * MIB)
      return peersMeter.bodyBytes(isBlobGet) === 0
    })
    await stopCluster(cluster)
  })

  test('seeds that hang, or may not read, hold nobody up for long', async context => {
    const htpasswd = { [ALICE.username]: ALICE.password }
    const registry = await startRegistry(lab, { name: 'private-registry', auth: { htpasswd } })
    const meter = await startMeter(lab, registry.address)
    const image = noiseImage(lab.makeDir('private'), 'private', [8 * MIB, 8 * MIB, 300])
    const authorization = basic(ALICE)
    await pushImage(registry.url, 'team/one', 'v1', image, { authorization })
    const other = noiseImage(lab.makeDir('other'), 'other', [8 * MIB])
    await pushImage(registry.url, 'team/two', 'v1', other, { authorization })

    const { scheduler, seeds, peers } = await startCluster(lab, 'private', { seeds: 2, peers: 2 }, meter)
    const pull = async (repository: string, wanted: Image): Promise<number[]> =>
      await Promise.all(
        peers.map(async peer => {
          const started = performance.now()
          const pulled = await pullWithNode(peer.mirror, repository, 'v1', { headers: { authorization } })
          assert.deepEqual(new Set(pulled.digests.keys()), allDigests(wanted))
          return (performance.now() - started) / 1000
        }),
      )
    const refused = await pull('team/one', image)
    const calls = await scheduler.metric('darter_scheduler_seed_refusals_total', { reason: 'refused' })
    context.diagnostic(`refused to the seeds ${calls} times: ${shown(refused)}`)
    assert(calls >= 2, `${calls} refusals`)
    assert(Math.max(...refused) < 3, `the pull took ${shown(refused)}`)
    assert.equal(await sum(seeds, fromOrigin), 0)

    for (const seed of seeds) process.kill(seed.daemon.pid, 'SIGSTOP')
    try {
      const hung = await pull('team/two', other)
      context.diagnostic(`with seeds that hang: ${shown(hung)}`)
      assert(Math.max(...hung) < 4, `the pull took ${shown(hung)}`)
    } finally {
      for (const seed of seeds) process.kill(seed.daemon.pid, 'SIGCONT')
    }
    await stopCluster({ scheduler, seeds, peers })
  })
})
