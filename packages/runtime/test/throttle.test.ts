import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { chainThrottles, createThrottle, type Throttle } from '@darter/runtime'
import fc from 'fast-check'

const forever = new AbortController().signal
const KIB = 1024

/** A throttle in a time that only `pass` moves. */
function throttleIn(t: TestContext, bytesPerSecond: number, onWait?: (ms: number) => void) {
  t.mock.timers.reset()
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let now = 0
  const clock = { now: () => now, wall: () => now }
  const throttle = createThrottle({ bytesPerSecond, clock, ...(onWait === undefined ? {} : { onWait }) })
  const pass = async (ms: number): Promise<void> => {
    for (let i = 0; i < ms; i++) {
      now++
      t.mock.timers.tick(1)
      // Those whose turn it was stand in line again.
      for (let turn = 0; turn < 4; turn++) await Promise.resolve()
    }
  }
  return { throttle, pass, now: () => now }
}

/** Takes until the signal aborts; tells how much it was given, and how often. */
function taker(throttle: Throttle, most: number, signal = forever) {
  const state = { bytes: 0, turns: 0 }
  const run = async (): Promise<void> => {
    for (;;) {
      state.bytes += await throttle.take(most, signal)
      state.turns++
    }
  }
  run().catch(error => {
    if (!signal.aborted) throw error
  })
  return state
}

test('however many take, they get the rate together, equal parts each, and a turn again and again', async t => {
  const runs = fc.asyncProperty(
    fc.integer({ min: 64 * KIB, max: 64 * KIB * KIB }),
    fc.integer({ min: 1, max: 40 }),
    async (bytesPerSecond, count) => {
      const { throttle, pass } = throttleIn(t, bytesPerSecond)
      const stopping = new AbortController()
      const takers = Array.from({ length: count }, () => taker(throttle, 256 * KIB, stopping.signal))
      await pass(1000)
      const before = takers.map(({ bytes, turns }) => ({ bytes, turns }))
      await pass(2000)
      const got = takers.map(({ bytes }, i) => bytes - (before[i]?.bytes ?? 0))
      const sum = got.reduce((all, bytes) => all + bytes, 0)
      const burst = bytesPerSecond / 4
      assert.ok(sum <= 2 * bytesPerSecond + burst + 1, `${sum} of ${2 * bytesPerSecond}`)
      assert.ok(sum >= 1.8 * bytesPerSecond, `${sum} of ${2 * bytesPerSecond}`)
      for (const [i, { turns }] of takers.entries()) assert.ok(turns - (before[i]?.turns ?? 0) >= 2)
      assert.ok(Math.max(...got) <= 1.5 * Math.min(...got), got.join(' '))
      stopping.abort()
    },
  )
  await fc.assert(runs, { seed: 1, numRuns: 25 })
})

test('the first come is the first served, whatever it wants', async t => {
  const { throttle, pass } = throttleIn(t, 4000)
  await throttle.take(1000, forever)
  const served: string[] = []
  for (const [name, most] of [
    ['a', 900],
    ['b', 1],
    ['c', 500],
  ] as const) {
    void throttle.take(most, forever).then(bytes => served.push(`${name}${bytes}`))
  }
  await pass(500)
  assert.deepEqual(served, ['a333', 'b1', 'c500'])
})

test('one that is called off leaves the line, and those behind it go on', async t => {
  const waits: number[] = []
  const { throttle, pass } = throttleIn(t, 4000, ms => waits.push(ms))
  await throttle.take(1000, forever)
  assert.equal(throttle.holdsBack, false)
  const leaving = new AbortController()
  const reason = new Error('not wanted any more')
  const first = throttle.take(1000, leaving.signal)
  const second = throttle.take(1000, forever)
  assert.equal(throttle.holdsBack, true)
  leaving.abort(reason)
  await assert.rejects(first, reason)
  await assert.rejects(throttle.take(1, leaving.signal), reason)
  await pass(249)
  assert.deepEqual(waits, [])
  await pass(1)
  assert.equal(await second, 1000)
  assert.deepEqual(waits, [250])
  await pass(999)
  assert.equal(throttle.holdsBack, true)
  await pass(1)
  assert.equal(throttle.holdsBack, false)
})

test('two limits hold together, the slower one counts, and nothing that one allowed is lost', async t => {
  const runs = fc.asyncProperty(
    fc.integer({ min: 64 * KIB, max: KIB * KIB }),
    fc.integer({ min: 64 * KIB, max: KIB * KIB }),
    fc.integer({ min: 1, max: 8 }),
    async (firstRate, secondRate, count) => {
      const { throttle: first, pass, now } = throttleIn(t, firstRate)
      const second = createThrottle({ bytesPerSecond: secondRate, clock: { now, wall: now } })
      const chain = chainThrottles(first, second)
      assert.ok(chain !== undefined)
      const stopping = new AbortController()
      const takers = Array.from({ length: count }, () => taker(chain, 64 * KIB, stopping.signal))
      await pass(3000)
      stopping.abort()
      const sum = takers.reduce((all, { bytes }) => all + bytes, 0)
      const slower = Math.min(firstRate, secondRate)
      assert.ok(sum <= 3.25 * slower + 1, `${sum} of ${3 * slower}`)
      assert.ok(sum >= 2.6 * slower, `${sum} of ${3 * slower}`)
      assert.equal(chain.holdsBack, true)
    },
  )
  await fc.assert(runs, { seed: 1, numRuns: 25 })
  const { throttle } = throttleIn(t, 4000)
  assert.equal(chainThrottles(undefined, undefined), undefined)
  assert.equal(chainThrottles(undefined, throttle), throttle)
  assert.equal(chainThrottles(throttle, undefined), throttle)
})
