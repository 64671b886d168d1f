import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMetrics, systemClock } from '@darter/runtime'
import type { TransferConfig } from '../src/config.ts'
import { concurrency, createRateLimits } from '../src/download/rate-limits.ts'

const KIB = 1024
const MIB = 1024 * KIB
const UNLIMITED: TransferConfig = {
  uploadBytesPerSecond: 0,
  downloadBytesPerSecond: 0,
  originBytesPerSecond: 0,
  maxUploads: 32,
  maxDownloads: 16,
  progressTimeoutMs: 10_000,
}

test('without rates there is nothing to go through', async () => {
  const metrics = createMetrics({ prefix: 'darter_' })
  const limits = createRateLimits(UNLIMITED, systemClock, metrics)
  assert.deepEqual(limits, {
    upload: undefined,
    fromPeers: undefined,
    fromOrigins: undefined,
    maxUploads: 32,
    maxInFlightBytes: 64 * MIB,
    maxOriginFetches: 4,
  })
})

test('what origins send counts as received too, and waits are counted', async () => {
  const metrics = createMetrics({ prefix: 'darter_' })
  const rates = { downloadBytesPerSecond: 400 * KIB, originBytesPerSecond: 800 * KIB }
  let now = 0
  const clock = { now: () => now, wall: () => now }
  const limits = createRateLimits({ ...UNLIMITED, ...rates }, clock, metrics)
  const signal = AbortSignal.timeout(10_000)
  assert.equal(await limits.fromOrigins?.take(100 * KIB, signal), 100 * KIB)
  assert.equal(limits.fromOrigins?.holdsBack, false)
  const waiting = limits.fromPeers?.take(64 * KIB, signal)
  now = 500
  assert.equal(await waiting, 64 * KIB)
  assert.equal(limits.fromOrigins?.holdsBack, true)
  const { body } = await metrics.expose()
  assert.match(body, /^darter_rate_limit_wait_seconds_total\{limit="download"\} 0\.5$/m)
  assert.match(body, /^darter_rate_limit_wait_seconds_total\{limit="origin"\} 0$/m)
  assert.doesNotMatch(body, /limit="upload"/)
})

test('the lower the rates, the less is done at the same moment, and never nothing', () => {
  for (const { rates, expected } of [
    { rates: { uploadBytesPerSecond: 64 * KIB }, expected: { maxUploads: 2 } },
    { rates: { uploadBytesPerSecond: MIB }, expected: { maxUploads: 8 } },
    { rates: { uploadBytesPerSecond: 100 * MIB }, expected: { maxUploads: 32 } },
    { rates: { uploadBytesPerSecond: 64 * KIB, maxUploads: 1 }, expected: { maxUploads: 1 } },
    {
      rates: { downloadBytesPerSecond: MIB },
      expected: { maxInFlightBytes: 2 * MIB, maxOriginFetches: 1 },
    },
    {
      rates: { originBytesPerSecond: 3 * MIB },
      expected: { maxInFlightBytes: 64 * MIB, maxOriginFetches: 3 },
    },
    {
      rates: { downloadBytesPerSecond: 100 * MIB, originBytesPerSecond: 64 * KIB },
      expected: { maxInFlightBytes: 64 * MIB, maxOriginFetches: 1 },
    },
  ]) {
    const result = concurrency({ ...UNLIMITED, ...rates })
    assert.deepEqual({ ...result, ...expected }, result, JSON.stringify(rates))
  }
})
