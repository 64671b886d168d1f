import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  Bitfield,
  BlobSwarm,
  chunkLayout,
  createPace,
  DEFAULT_SWARM_SHAPE,
  MIN_CHUNK_BYTES,
  type SwarmEffect,
} from '../src/index.ts'
import { seeded } from './seeded.ts'

const layout = chunkLayout(MIN_CHUNK_BYTES * 400)
const none = new Bitfield(layout.count).toBytes()
const list = (fill: number): Uint8Array => new Uint8Array(layout.count * 32).fill(fill)

function swarmOf(peers: number, zones = 1, pace = createPace(DEFAULT_SWARM_SHAPE)): BlobSwarm {
  const swarm = new BlobSwarm(layout, seeded(1), DEFAULT_SWARM_SHAPE, pace)
  for (let i = 0; i < peers; i++) {
    swarm.join(`p${i}`, none, true, 0, `z${i % zones}`)
  }
  for (let i = 0; i < peers; i++) swarm.leaseDemand(`p${i}`, 4, 0, 0)
  return swarm
}

type Effect<T extends SwarmEffect['type']> = Extract<SwarmEffect, { type: T }>

function taken<T extends SwarmEffect['type']>(swarm: BlobSwarm, type: T): Effect<T>[] {
  return swarm.takeEffects().filter((effect): effect is Effect<T> => effect.type === type)
}

describe('a blob’s swarm', () => {
  it('leases little at first, in order, to different peers of different zones', () => {
    const swarm = swarmOf(8, 2)
    for (const now of [100, 200, 300]) swarm.tick(now)
    const leases = taken(swarm, 'lease')
    assert.deepEqual(
      leases.map(({ from, toChunk }) => [from, toChunk]),
      [
        [0, 1],
        [1, 2],
        [2, 4],
        [4, 8],
      ],
    )
    assert.equal(new Set(leases.map(lease => lease.to)).size, 4)
    const zones = leases.map(({ to }) => Number(to.slice(1)) % 2)
    assert.equal(zones.filter(zone => zone === 0).length, 2)
  })

  it('gives no lease before the time that the origin asked to wait, for any blob of this upstream', () => {
    const pace = createPace(DEFAULT_SWARM_SHAPE)
    const [first, second] = [swarmOf(4, 1, pace), swarmOf(4, 1, pace)]
    const [lease] = taken(first, 'lease')
    taken(second, 'lease')
    first.leaseEnd(lease!.to, lease!.lease, 'failed', { retryAfterMs: 5_000 }, 100)
    for (const swarm of [first, second]) {
      for (let i = 0; i < 4; i++) swarm.leaseDemand(`p${i}`, 4, 0, 200)
      swarm.tick(5_099)
      assert.equal(taken(swarm, 'lease').length, 0)
    }
    first.tick(5_100)
    assert.ok(taken(first, 'lease').length > 0)
  })

  it('heeds a wish to wait for 30 s at most', () => {
    const swarm = swarmOf(1)
    for (const lease of taken(swarm, 'lease')) {
      swarm.leaseEnd('p0', lease.lease, 'failed', { retryAfterMs: 1e9 }, 0)
    }
    swarm.leaseDemand('p0', 4, 0, 0)
    swarm.tick(29_999)
    assert.equal(taken(swarm, 'lease').length, 0)
    swarm.tick(30_000)
    assert.ok(taken(swarm, 'lease').length > 0)
  })

  it('tells a crowd the verified list one after another, and only those who still want something', () => {
    const swarm = swarmOf(5_000)
    swarm.tick(0)
    swarm.takeEffects()
    assert.equal(swarm.vouch('p0', list(1)), 'accepted')
    const told = new Set(taken(swarm, 'verified').map(effect => effect.to))
    assert.ok(told.size > 0 && told.size < 10)
    swarm.join('p4999', Bitfield.full(layout.count).toBytes(), false, 0)
    for (let now = 100; now < 10_000; now += 100) {
      swarm.tick(now)
      const batch = taken(swarm, 'verified')
      assert.ok(batch.length < 500)
      for (const { to } of batch) {
        assert.ok(!told.has(to))
        told.add(to)
      }
    }
    assert.equal(told.size, 4_998, 'all but who vouched and who has it all')
  })

  it('takes a list back from all that were told it when another contradicts it, for good', () => {
    const swarm = swarmOf(100)
    swarm.vouch('p0', list(1))
    const told = taken(swarm, 'verified').map(effect => effect.to)
    assert.equal(swarm.vouch('p1', list(2)), 'contradicted')
    const taken2 = taken(swarm, 'verified')
    assert.ok(taken2.every(({ hashes }) => hashes.length === 0))
    for (const to of told) assert.ok(taken2.some(effect => effect.to === to))
    assert.equal(swarm.vouch('p2', list(1)), 'contradicted')
    swarm.tick(1_000)
    assert.equal(taken(swarm, 'verified').length, 0)
  })

  it('takes as long for a message among 20 000 as among few', () => {
    const spent = (peers: number): number => {
      const swarm = swarmOf(peers)
      swarm.takeEffects()
      const times = Array.from({ length: 7 }, (_, round) => {
        const from = performance.now()
        for (let i = 0; i < 200; i++) {
          const id = `p${(i * 7) % peers}`
          swarm.leaseDemand(id, 4, i, 10)
          swarm.held(id, [(i + round) % layout.count], 10)
          swarm.leave(id, 10)
          swarm.join(id, none, true, 10)
          swarm.takeEffects()
        }
        return performance.now() - from
      })
      return Math.min(...times)
    }
    const [few, many] = [spent(100), spent(20_000)]
    assert.ok(many < 10 * few, `${few.toFixed(1)} ms, ${many.toFixed(1)} ms`)
  })
})
