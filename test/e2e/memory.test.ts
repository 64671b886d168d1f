import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { plantSparseImage, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { pullWithNode } from '../harness/clients/node.ts'
import { startPeer, upstreamAt } from '../harness/darter.ts'

const MIB = 1024 * 1024
const LIMIT = 300 * MIB

describe('memory', requirePrograms(['docker-registry']), () => {
  const lab = useLab('memory')

  test('a blob of 2 GiB to a slow client from a fast origin', async context => {
    const registry = await startRegistry(lab)
    const size = 2048 * MIB
    const digest = await plantSparseImage(registry, 'library/huge', 'v1', size)
    const peer = await startPeer(lab, { name: 'peer', upstreams: [upstreamAt(registry.address)] })
    // Far slower than the origin until a quarter has come, then as fast as it goes.
    let received = 0
    const started = performance.now()
    const pulled = await pullWithNode(peer.mirror, 'library/huge', 'v1', {
      onBytes: async count => {
        received += count
        if (received > size / 4) return
        const due = (received / (48 * MIB)) * 1000 - (performance.now() - started)
        if (due > 5) await delay(due)
      },
    })
    assert.equal(pulled.digests.get(digest), size)
    const peak = peer.peakMemory()
    context.diagnostic(
      `peak memory of the peer: ${Math.round(peak / MIB)} MiB, ${pulled.seconds.toFixed(1)} s`,
    )
    assert(peak < LIMIT, `the peer took ${Math.round(peak / MIB)} MiB`)
    // The same again from disk, to four clients at once.
    await Promise.all([1, 2, 3, 4].map(() => pullWithNode(peer.mirror, 'library/huge', 'v1')))
    const warm = peer.peakMemory()
    context.diagnostic(`after four warm pulls at once: ${Math.round(warm / MIB)} MiB`)
    assert(warm < LIMIT, `the peer took ${Math.round(warm / MIB)} MiB`)
  })
})
