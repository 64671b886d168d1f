import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBackoff, seededRandom } from '@darter/runtime'
import fc from 'fast-check'

test('a seed gives the same numbers each time, and another seed others', () => {
  const take = (seed: number) => Array.from({ length: 20 }, seededRandom(seed))
  assert.deepEqual(take(7), take(7))
  assert.notDeepEqual(take(7), take(8))
  for (const n of take(7)) assert.ok(n >= 0 && n < 1)
})

test('every wait is below a bound that doubles up to the largest', () => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 1, max: 60_000 }),
      (seed, baseMs, maxMs) => {
        const backoff = createBackoff({ baseMs, maxMs, random: seededRandom(seed) })
        for (let i = 0; i < 12; i++) {
          const wait = backoff.next()
          assert.ok(wait >= 0 && wait <= Math.min(maxMs, baseMs * 2 ** i))
        }
        backoff.reset()
        assert.ok(backoff.next() <= baseMs)
      },
    ),
    { seed: 1 },
  )
})

test('the bound really grows', () => {
  const backoff = createBackoff({ baseMs: 100, maxMs: 1000, random: () => 0.5 })
  assert.deepEqual(
    Array.from({ length: 6 }, () => backoff.next()),
    [50, 100, 200, 400, 500, 500],
  )
})
