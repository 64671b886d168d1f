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
    swarm.join(`p${i}`, none, true, 0, { zone: `z${i % zones}` })
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
    const leases = taken(swarm, 'lease')
    assert.equal(leases.length, 1)
    for (const now of [500, 1000, 1500]) swarm.tick(now)
    leases.push(...taken(swarm, 'lease'))
    assert.deepEqual(
      leases.map(({ from, toChunk }) => [from, toChunk]),
      [
        [0, 2],
        [2, 4],
        [4, 8],
        [8, 13],
      ],
    )
    assert.equal(new Set(leases.map(lease => lease.to)).size, 4)
    const zones = leases.map(({ to }) => Number(to.slice(1)) % 2)
    assert.equal(zones.filter(zone => zone === 0).length, 2)
  })

  it('grants the next lease before it hears of the end of the last one, so that the origin does not idle', () => {
    const pace = createPace({ ...DEFAULT_SWARM_SHAPE, firstLeases: 1, maxLeases: 1 })
    const swarm = swarmOf(8, 1, pace)
    let most = 0
    let early = 0
    const open = new Map<number, { readonly lease: Effect<'lease'>; readonly at: number }>()
    const take = (at: number): void => {
      for (const lease of taken(swarm, 'lease')) {
        if (open.size > 0) early++
        open.set(lease.lease, { lease, at })
        most = Math.max(most, open.size)
      }
    }
    take(0)
    // The word of a first chunk takes 100 ms, that of each other 10 ms, that of the end 40 ms.
    for (let now = 0; now < 20_000; now += 10) {
      for (const { lease, at } of Array.from(open.values())) {
        const chunk = lease.from + (now - at - 100) / 10
        if (chunk >= lease.from && chunk < lease.toChunk) swarm.held(lease.to, [chunk], now)
        if (chunk === lease.toChunk + 4) {
          open.delete(lease.lease)
          swarm.leaseEnd(lease.to, lease.lease, 'done', {}, now)
          swarm.leaseDemand(lease.to, 4, 0, now)
        }
        take(now)
      }
    }
    assert.ok(early > 5, `${early}`)
    assert.ok(most <= 3, `${most}`)
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

  describe('with a seed that was asked', () => {
    const lessees = (swarm: BlobSwarm): string[] => taken(swarm, 'lease').map(lease => lease.to)

    function withSeed(): BlobSwarm {
      const swarm = new BlobSwarm(layout, seeded(1))
      for (const id of ['p0', 'p1']) swarm.join(id, none, true, 0)
      swarm.awaitSeed('seed', 0)
      for (const id of ['p0', 'p1']) swarm.leaseDemand(id, 4, 0, 1)
      return swarm
    }

    it('leases to the seed alone, and to it again between two of its leases', () => {
      const swarm = withSeed()
      swarm.tick(200)
      assert.deepEqual(lessees(swarm), [])
      swarm.join('seed', none, true, 300, { seed: true })
      swarm.leaseDemand('seed', 4, 0, 301)
      for (const now of [801, 1301, 1801]) swarm.tick(now)
      const leases = taken(swarm, 'lease')
      assert.deepEqual(
        leases.map(lease => lease.to),
        ['seed', 'seed', 'seed', 'seed'],
      )
      swarm.held('seed', [leases[0]!.from], 2000)
      swarm.leaseEnd('seed', leases[0]!.lease, 'done', {}, 2001)
      swarm.tick(2100)
      assert.deepEqual(lessees(swarm), [])
      swarm.leaseDemand('seed', 1, 0, 2101)
      assert.deepEqual(lessees(swarm), ['seed'])
    })

    it('leases to others when the seed does not come, or shows no progress, within a second', () => {
      const silent = withSeed()
      silent.tick(999)
      assert.deepEqual(lessees(silent), [])
      silent.tick(1000)
      assert.ok(lessees(silent).length > 0)

      const idle = withSeed()
      idle.join('seed', none, true, 100, { seed: true })
      idle.tick(1099)
      assert.deepEqual(lessees(idle), [])
      idle.tick(1100)
      assert.ok(lessees(idle).length > 0)
    })

    it('leases to others at once when it leaves, declines or fails, and prefers one that failed no more', () => {
      const left = withSeed()
      left.join('seed', none, true, 10, { seed: true })
      left.leave('seed', 11)
      assert.ok(lessees(left).length > 0)

      const declined = withSeed()
      declined.seedFailed('another', 5)
      assert.deepEqual(lessees(declined), [])
      declined.seedFailed('seed', 6)
      assert.ok(lessees(declined).length > 0)

      const failed = withSeed()
      failed.join('seed', none, true, 10, { seed: true })
      failed.leaseDemand('seed', 1, 0, 11)
      const [lease] = taken(failed, 'lease')
      assert.equal(lease?.to, 'seed')
      failed.leaseEnd('seed', lease.lease, 'failed', {}, 20)
      assert.ok(lessees(failed).every(id => id !== 'seed'))
    })

    it('waits for nobody with a blob of one chunk', () => {
      const one = chunkLayout(1000)
      const swarm = new BlobSwarm(one, seeded(1))
      swarm.join('p0', new Bitfield(1).toBytes(), true, 0)
      swarm.awaitSeed('seed', 0)
      swarm.leaseDemand('p0', 1, 0, 1)
      assert.deepEqual(lessees(swarm), ['p0'])
    })
  })
})
