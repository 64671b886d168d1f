import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TokenBucket } from '@darter/runtime'
import fc from 'fast-check'

test('over any stretch of time no more is taken than the burst and the rate allow', () => {
  const step = fc.record({ pauseMs: fc.nat({ max: 3000 }), bytes: fc.integer({ min: 1, max: 5000 }) })
  const runs = fc.property(
    fc.integer({ min: 1000, max: 1_000_000 }),
    fc.integer({ min: 1, max: 5000 }),
    fc.array(step, { maxLength: 60 }),
    (bytesPerSecond, burstBytes, steps) => {
      let now = 7
      const bucket = new TokenBucket({ bytesPerSecond, burstBytes, now })
      const taken: { readonly at: number; readonly bytes: number }[] = []
      for (const { pauseMs, bytes } of steps) {
        now += pauseMs
        if (bucket.take(bytes, now)) taken.push({ at: now, bytes })
      }
      for (const [first, { at }] of taken.entries()) {
        let sum = 0
        for (const last of taken.slice(first)) {
          sum += last.bytes
          assert.ok(sum <= burstBytes + (bytesPerSecond * (last.at - at)) / 1000 + 1e-3)
        }
      }
    },
  )
  fc.assert(runs, { seed: 1 })
})

test('bytes are there after the time that was told, and not a millisecond before', () => {
  const runs = fc.property(
    fc.integer({ min: 1, max: 10_000_000 }),
    fc.integer({ min: 1, max: 1_000_000 }),
    fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 }),
    (bytesPerSecond, burstBytes, parts) => {
      let now = 0
      const bucket = new TokenBucket({ bytesPerSecond, burstBytes, now })
      for (const part of parts) {
        const bytes = Math.max(1, Math.floor(part * burstBytes))
        const waitMs = bucket.waitMs(bytes, now)
        if (waitMs > 1) assert.equal(bucket.take(bytes, now + waitMs - 1), false)
        // A rounding error of the last bit may cost one more.
        now += waitMs
        assert.ok(bucket.take(bytes, now) || bucket.take(bytes, ++now))
      }
    },
  )
  fc.assert(runs, { seed: 1 })
})
