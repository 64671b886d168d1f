import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Origin, OriginStatusError } from '@darter/origin'
import { createChunkBuffers, systemClock } from '@darter/runtime'
import { createMemoryStore } from '@darter/store'
import { OriginFetches } from '../src/download/origin-fetches.ts'
import { scriptedOrigin } from './support/origin.ts'

const NOW = Date.UTC(2030, 0, 1)
const inSeconds = (seconds: number) => new Date(NOW + seconds * 1000).toUTCString()

const TOLD: readonly [string | undefined, number | undefined][] = [
  [undefined, undefined],
  ['7', 7000],
  ['0', undefined],
  ['3600', 30_000],
  [inSeconds(9), 9000],
  [inSeconds(3600), 30_000],
  [inSeconds(-9), undefined],
  ['soon', undefined],
]
for (const [told, expected] of TOLD) {
  test(`an origin that says Retry-After: ${told} is left alone for ${expected} ms`, async () => {
    const { origin, digest } = scriptedOrigin(new Uint8Array(10), [])
    const busy: Origin = {
      ...origin,
      openBlob: async () => {
        const headers = told === undefined ? {} : { 'retry-after': told }
        throw new OriginStatusError('the blob', 429, headers, new Uint8Array())
      },
    }
    const store = createMemoryStore({ quotaBytes: 1e6, clock: systemClock })
    const stored = await store.open(digest, 10)
    const clock = { ...systemClock, wall: () => NOW }
    const fetches = new OriginFetches({ stored, kind: 'blob', buffers: createChunkBuffers(), clock })
    const upstream = { name: 'busy', hosts: [], origin: busy, isPublic: true, hasCredentials: false }
    fetches.sources.add({ upstream, repository: 'a/b' })
    const nothing = { keep: async () => {}, bytes: () => {}, sign: () => {} }
    const outcome = await fetches.run(1, { from: 0, to: 1 }, nothing)
    assert.ok(typeof outcome === 'object')
    assert.equal(outcome.retryAfterMs, expected)
    assert.equal(outcome.refused, false)
    stored.release()
    await store.close()
  })
}
