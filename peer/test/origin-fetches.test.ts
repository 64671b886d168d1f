import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Digest } from '@darter/oci'
import { type Origin, OriginStatusError } from '@darter/origin'
import { type Clock, createChunkBuffers, systemClock } from '@darter/runtime'
import { createMemoryStore } from '@darter/store'
import { OriginFetches } from '../src/download/origin-fetches.ts'
import { type Deed, scriptedOrigin } from './support/origin.ts'

const NOW = Date.UTC(2030, 0, 1)
const inSeconds = (seconds: number) => new Date(NOW + seconds * 1000).toUTCString()

const CHUNK = 256 * 1024
const SIZE = 2 * CHUNK
const nothing = {
  keep: async () => {},
  coming: () => {},
  lost: () => {},
  bytes: () => {},
  sign: () => {},
}

/** Fetches of a blob into a store in memory. */
async function fetchesFrom(origin: Origin, digest: Digest, size: number, clock: Clock) {
  const store = createMemoryStore({ quotaBytes: 1e6, clock: systemClock })
  const stored = await store.open(digest, size)
  const fetches = new OriginFetches({ stored, kind: 'blob', buffers: createChunkBuffers(), clock })
  const upstream = { name: 'scripted', hosts: [], origin, isPublic: true, hasCredentials: false }
  fetches.sources.add({ upstream, repository: 'a/b' })
  return {
    fetches,
    [Symbol.asyncDispose]: async () => {
      stored.release()
      await store.close()
    },
  }
}

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
    await using at = await fetchesFrom(busy, digest, 10, { ...systemClock, wall: () => NOW })
    const outcome = await at.fetches.run(1, { from: 0, to: 1 }, nothing)
    assert.ok(typeof outcome === 'object')
    assert.equal(outcome.retryAfterMs, expected)
    assert.equal(outcome.refused, false)
  })
}

/** A clock that moves on by 10 ms at each look. */
function lookedAt(): Clock {
  let now = 0
  return { ...systemClock, now: () => (now += 10) }
}

/** Reads both chunks of a blob; what was told of them. */
async function readBoth(deeds: readonly Deed[]) {
  const { origin, digest } = scriptedOrigin(new Uint8Array(SIZE), deeds)
  await using at = await fetchesFrom(origin, digest, SIZE, lookedAt())
  const told: string[] = []
  const outcome = await at.fetches.run(
    1,
    { from: 0, to: 2 },
    {
      ...nothing,
      keep: async ({ index }) => void told.push(`${index} whole`),
      coming: (chunk, inMs) => void told.push(`${chunk} in ${Math.round(inMs)}`),
      lost: chunk => void told.push(`${chunk} lost`),
    },
  )
  return { outcome, told }
}

test('how soon a chunk will be whole is told while it comes', async () => {
  const { outcome, told } = await readBoth([])
  assert.equal(outcome, 'done')
  // Pieces of 50 000 bytes, each with one look at the clock for the sign of life and one for the forecast.
  assert.deepEqual(told.slice(0, 5), ['0 in 65', '0 in 45', '0 in 25', '0 in 5', '0 whole'])
  assert.match(told[5] ?? '', /^1 in /)
  assert.equal(told.at(-1), '1 whole')
})

test('a chunk that was coming is said to be lost when the origin breaks off', async () => {
  const { outcome, told } = await readBoth([{ kind: 'break', after: CHUNK + 150_000 }])
  assert.equal(typeof outcome, 'object')
  assert.deepEqual(
    told.filter(line => !line.includes(' in ')),
    ['0 whole', '1 lost'],
  )
})
