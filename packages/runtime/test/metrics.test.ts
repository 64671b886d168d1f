import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMetrics } from '@darter/runtime'

test('metrics carry the prefix and are exposed in the text format', async () => {
  const metrics = createMetrics({ prefix: 'darter_' })
  const bytes = metrics.counter({ name: 'received_bytes_total', help: 'Bytes received.', labels: ['source'] })
  bytes.inc({ source: 'origin' }, 5)
  let size = 3
  metrics.gauge({ name: 'blobs', help: 'Blobs held.', collect: gauge => gauge.set(size) })
  metrics.histogram({ name: 'pull_seconds', help: 'Pulls.', buckets: [1, 2] }).observe(1.5)
  size = 4
  const { contentType, body } = await metrics.expose()
  assert.match(contentType, /^text\/plain; version=0\.0\.4/)
  assert.match(body, /^darter_received_bytes_total\{source="origin"\} 5$/m)
  assert.match(body, /^darter_blobs 4$/m)
  assert.match(body, /^darter_pull_seconds_bucket\{le="2"\} 1$/m)
  assert.doesNotMatch(body, /process_cpu/)
})

test('two programs in one process do not share metrics', async () => {
  const one = createMetrics({ prefix: 'darter_' })
  const two = createMetrics({ prefix: 'darter_' })
  one.counter({ name: 'pulls_total', help: 'Pulls.' }).inc()
  const counter = two.counter({ name: 'pulls_total', help: 'Pulls.' })
  counter.inc(2)
  assert.match((await one.expose()).body, /^darter_pulls_total 1$/m)
  assert.match((await two.expose()).body, /^darter_pulls_total 2$/m)
})

test('names that break the conventions are refused', () => {
  const metrics = createMetrics({ prefix: 'darter_' })
  assert.throws(() => metrics.counter({ name: 'pulls', help: 'Pulls.' }), /_total/)
  assert.throws(() => metrics.gauge({ name: 'Blobs-held', help: 'Blobs.' }), /bad metric name/)
})

test('the process’s own metrics come when they are asked for', async () => {
  const { body } = await createMetrics({ prefix: 'darter_', process: true }).expose()
  assert.match(body, /^process_resident_memory_bytes \d+/m)
  assert.match(body, /^nodejs_eventloop_lag_p99_seconds/m)
})
