import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { MAX_PAUSE_MS, OriginPace } from '../src/index.ts'
import { seeded } from './seeded.ts'

const CHUNK = 1_000_000

/**
 * Reads an origin for a while, with as many leases as the pace allows: each connection carries `perLease`, all together
 * `link`, bytes per ms. Returns the limits over time.
 */
function read(pace: OriginPace, perLease: number, link: number, ms: number, blobs = 1): number[] {
  const leases = Array.from({ length: blobs }, () => 0)
  const limits: number[] = []
  for (let i = 0; i < blobs; i++) pace.enter()
  let due = 0
  for (let now = 0; now < ms; now += 10) {
    for (let blob = 0; blob < blobs; blob++) {
      while (pace.mayGrant(leases[blob]!)) {
        leases[blob]!++
        pace.granted()
      }
    }
    const active = leases.reduce((sum, count) => sum + count, 0)
    due += 10 * Math.min(link, active * perLease)
    for (; due >= CHUNK; due -= CHUNK) {
      pace.received(CHUNK, now)
      // A run is over now and then.
      const blob = leases.findIndex(count => count > 0)
      leases[blob]!--
      pace.ended()
    }
    limits.push(pace.limit)
  }
  return limits
}

/** Grants as many leases as may be at work; returns how many are. */
function fill(pace: OriginPace, active: number): number {
  let now = active
  for (; pace.mayGrant(now); now++) pace.granted()
  return now
}

const meanOf = (numbers: readonly number[]): number =>
  numbers.reduce((sum, number) => sum + number, 0) / numbers.length

describe('the pace of an upstream', () => {
  it('starts with few, and stays with few on a thin link', () => {
    const pace = new OriginPace({ first: 4, most: 32 })
    const limits = read(pace, 12_500, 12_500, 60_000)
    assert.equal(limits[0], 4)
    assert.ok(Math.max(...limits) <= 6, `${Math.max(...limits)}`)
    assert.ok(meanOf(limits.slice(3_000)) < 4)
  })

  it('does not take the wait for the first chunks for a low rate, which more reads would raise', () => {
    const pace = new OriginPace({ first: 4, most: 32 })
    pace.enter()
    // Four reads share a link that carries a chunk in 84 ms, whoever reads it: the first one has come after 336 ms.
    let active = fill(pace, 0)
    for (let now = 336; now < 20_000; now += 84) {
      active = fill(pace, active)
      assert.ok(pace.limit <= 6, `${pace.limit} after ${now} ms`)
      pace.received(CHUNK, now)
      active--
      pace.ended()
    }
    assert.ok(pace.limit <= 4, `${pace.limit}`)
  })

  it('judges more reads that bring a little by more than one burst of chunks', () => {
    let climbed = 0
    for (let seed = 1; seed <= 40; seed++) {
      const random = seeded(seed)
      const pace = new OriginPace({ first: 4, most: 32 })
      pace.enter()
      let active = 0
      let most = 0
      let due = 0
      for (let now = 0; now < 20_000; now += 10) {
        active = fill(pace, active)
        due += 10 * 12_500
        most = Math.max(most, pace.limit)
        if (due < CHUNK || random() > 0.25) continue
        for (; due >= CHUNK; due -= CHUNK) pace.received(CHUNK, now)
        active--
        pace.ended()
      }
      if (most > 6) climbed++
    }
    assert.ok(climbed <= 4, `${climbed} of 40`)
  })

  it('climbs until a fat link is full, not beyond', () => {
    const pace = new OriginPace({ first: 4, most: 32 })
    const late = read(pace, 50_000, 800_000, 60_000).slice(2_000)
    assert.ok(meanOf(late) >= 13 && meanOf(late) <= 26, `${meanOf(late)}`)
  })

  it('does not come to rest with fewer than fill the link, though chunks are told of in bursts', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = seeded(seed)
      const pace = new OriginPace({ first: 4, most: 32 })
      pace.enter()
      let active = 0
      let sent = 0
      let told = 0
      let wouldBe = 0
      for (let now = 0; now < 120_000; now += 10) {
        active = fill(pace, active)
        // Three leave gaps.
        const rate = active >= 4 ? 100_000 : active === 3 ? 92_000 : 75_000
        sent += 10 * rate
        wouldBe += 10 * 100_000
        // Up to ten chunks at once, whenever a peer tells of them.
        if (random() > 0.25) continue
        const burst = Math.min(Math.floor((sent - told) / CHUNK), Math.ceil(random() * 10))
        for (let i = 0; i < burst; i++) {
          told += CHUNK
          pace.received(CHUNK, now)
        }
        if (burst > 0) {
          active--
          pace.ended()
        }
      }
      assert.ok(sent >= 0.985 * wouldBe, `seed ${seed}: ${(sent / wouldBe).toFixed(3)}`)
    }
  })

  it('never goes beyond its bound', () => {
    const pace = new OriginPace({ first: 4, most: 8 })
    assert.equal(Math.max(...read(pace, 50_000, 8_000_000, 30_000)), 8)
  })

  it('lets every blob have one, and shares the rest', () => {
    const pace = new OriginPace({ first: 4, most: 32 })
    for (let i = 0; i < 10; i++) pace.enter()
    assert.ok(pace.mayGrant(0))
    assert.ok(!pace.mayGrant(1))
    for (let i = 0; i < 8; i++) pace.leave()
    assert.ok(pace.mayGrant(1))
    assert.ok(!pace.mayGrant(2))
  })

  it('pauses as long as the upstream asks, within a bound, and goes on with fewer', () => {
    const pace = new OriginPace({ first: 8, most: 32 })
    pace.pause(1_000, 500)
    assert.equal(pace.pausedUntil, 1_500)
    assert.equal(pace.limit, 4)
    pace.pause(1e9, 500)
    assert.equal(pace.pausedUntil, 500 + MAX_PAUSE_MS)
    assert.equal(pace.limit, 2)
    assert.ok(!pace.isIdle(600) && pace.isIdle(500 + MAX_PAUSE_MS))
  })
})
