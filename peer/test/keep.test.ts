import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { seededRandom, systemClock } from '@darter/runtime'
import { createMemoryStore } from '@darter/store'
import { MIN_CHUNK_BYTES } from '@darter/swarm'
import { StoreFullError } from '../src/download/errors.ts'
import { type Deed, type ScriptedOrigin, scriptedOrigin } from './support/origin.ts'
import { readsOver } from './support/reads.ts'

const CHUNKS = 40
const random = seededRandom(1)
const BLOB = Uint8Array.from({ length: MIN_CHUNK_BYTES * CHUNKS }, () => Math.floor(random() * 256))

async function bench(source: ScriptedOrigin, quotaBytes = 1e9) {
  const store = createMemoryStore({ quotaBytes, clock: systemClock })
  const reads = await readsOver(store)
  await reads.start()
  const { origin, digest } = source
  const upstream = { name: 'scripted', hosts: [], origin, isPublic: true, hasCredentials: false }
  return {
    keep: (background: AbortSignal | undefined, signal: AbortSignal) => {
      const place = { upstream, repository: 'a/b', digest, size: BLOB.length, kind: 'blob' } as const
      return reads.keep({ ...place, background, signal })
    },
    isHeld: () => reads.isHeld(digest),
    [Symbol.asyncDispose]: async () => {
      await reads.stop(AbortSignal.timeout(1000))
      await store.close()
    },
  }
}

describe('a blob that is kept whole in the background', () => {
  const never = new AbortController().signal

  it('comes chunk by chunk to its end, each once', async () => {
    // With nine tenths there a download looks around (every 100 ms) while the origin takes its time over the next chunk.
    const late: Deed = {
      kind: 'pause',
      after: 0,
      get until() {
        return delay(300)
      },
    }
    const source = scriptedOrigin(BLOB, [
      ...Array.from({ length: CHUNKS - 3 }, (): Deed => ({ kind: 'serve' })),
      late,
    ])
    await using at = await bench(source)
    await at.keep(never, never)
    assert.ok(at.isHeld())
    assert.equal(source.sent(), BLOB.length)
    assert.equal(source.requests(), CHUNKS)
    assert.equal(source.peakReads(), 1)
  })

  it('comes in long runs once somebody waits for it', async () => {
    const source = scriptedOrigin(BLOB, [])
    await using at = await bench(source)
    const hurry = new AbortController()
    const kept = at.keep(hurry.signal, never)
    hurry.abort()
    await kept
    assert.ok(at.isHeld())
    assert.ok(source.sent() <= BLOB.length + MIN_CHUNK_BYTES)
    assert.ok(source.requests() <= 0.8 * CHUNKS, `${source.requests()} requests`)
  })

  it('ends with the signal, and where there is no room', async () => {
    const source = scriptedOrigin(BLOB, [])
    await using at = await bench(source)
    const leaving = new AbortController()
    const kept = at.keep(never, leaving.signal)
    leaving.abort(new Error('gone'))
    await assert.rejects(kept, /gone/)
    await using small = await bench(scriptedOrigin(BLOB, []), 2 * MIN_CHUNK_BYTES)
    await assert.rejects(small.keep(never, never), StoreFullError)
  })
})
