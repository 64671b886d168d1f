import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { seededRandom, systemClock } from '@darter/runtime'
import { type ChunkStore, createMemoryFile, createMemoryStore } from '@darter/store'
import { chunkLayout, MIN_CHUNK_BYTES } from '@darter/swarm'
import { until } from '@darter/testing'
import fc from 'fast-check'
import { BLOCK_BYTES, type PartStore } from '../src/download/part-store.ts'
import { Prefetcher, Touched } from '../src/download/prefetch.ts'
import { type Deed, type ScriptedOrigin, scriptedOrigin } from './support/origin.ts'
import { NO_PREFETCH } from './support/rates.ts'
import { partStore, readsOver } from './support/reads.ts'

const random = seededRandom(1)
const BLOB = Uint8Array.from({ length: MIN_CHUNK_BYTES * 5 + 1234 }, () => Math.floor(random() * 256))

describe('the background', () => {
  it('waits for readers, but not for ever', async () => {
    const prefetcher = new Prefetcher({ enabled: true, bytesPerSecond: 0, threshold: 0.5 }, systemClock)
    assert.ok(prefetcher.take(1000, 0))
    const { promise, resolve } = Promise.withResolvers<void>()
    const reader = prefetcher.during(promise)
    assert.ok(!prefetcher.has(1000, 500) && !prefetcher.take(1000, 500))
    assert.ok(prefetcher.take(1000, 1000))
    assert.ok(!prefetcher.has(1000, 1500))
    resolve()
    await reader
    assert.ok(prefetcher.has(1000, 1500))
  })

  it('is due when different bytes enough were touched', () => {
    const layout = chunkLayout(BLOB.length)
    const touched = new Touched(layout)
    const prefetcher = new Prefetcher({ enabled: true, bytesPerSecond: 0, threshold: 0.5 }, systemClock)
    for (let i = 0; i < 10; i++) touched.add(1000, MIN_CHUNK_BYTES)
    assert.ok(touched.share > 0.19 && touched.share < 0.21)
    assert.ok(!prefetcher.isDue(touched))
    touched.add(0, BLOB.length)
    assert.equal(touched.share, 1)
    assert.ok(prefetcher.isDue(touched))
    assert.ok(!new Prefetcher(NO_PREFETCH, systemClock).isDue(touched))
  })
})

interface Bench extends AsyncDisposable {
  /** Reads a range, and waits after each piece for `then`, which is told how much there is; undefined when it was left half-way. */
  read(
    from: number,
    to: number,
    leaveAfter?: number,
    isOpen?: true,
    then?: (length: number) => Promise<void>,
  ): Promise<Uint8Array | undefined>
}

/** @param kept what an earlier one left, to go on with. */
async function bench(
  source: ScriptedOrigin,
  quotaBytes = 1e9,
  size = BLOB.length,
  kept?: { readonly store: ChunkStore; readonly parts: PartStore },
): Promise<Bench> {
  const store = kept?.store ?? createMemoryStore({ quotaBytes, clock: systemClock })
  const reads = await readsOver(store, undefined, undefined, kept?.parts)
  await reads.start()
  const { origin, digest } = source
  const upstream = { name: 'scripted', hosts: [], origin, isPublic: true, hasCredentials: false }
  return {
    read: async (from, to, leaveAfter = Number.POSITIVE_INFINITY, isOpen, then) => {
      const controller = new AbortController()
      const { signal } = controller
      const span = () => ({ from, to, ...(isOpen && { isOpen }) })
      const read = await reads.open({ upstream, repository: 'a/b', digest, signal, size, span })
      assert.ok(!('unsatisfiable' in read))
      const pieces: Uint8Array[] = []
      let length = 0
      for await (const piece of read.body) {
        pieces.push(Uint8Array.from(piece))
        length += piece.length
        await then?.(length)
        if (length < leaveAfter) continue
        controller.abort(new Error('hung up'))
        return undefined
      }
      return Buffer.concat(pieces)
    },
    [Symbol.asyncDispose]: async () => {
      await reads.stop(AbortSignal.timeout(1000))
      if (kept === undefined) await store.close()
    },
  }
}

const deed: fc.Arbitrary<Deed> = fc.oneof(
  fc.constant<Deed>({ kind: 'serve' }),
  fc.constant<Deed>({ kind: 'unreachable' }),
  fc.nat(BLOB.length).map((after): Deed => ({ kind: 'break', after })),
)
const range = fc
  .record({
    from: fc.nat(BLOB.length - 1),
    length: fc.integer({ min: 1, max: BLOB.length }),
    leaves: fc.option(fc.nat(600_000), { nil: undefined, freq: 3 }),
  })
  .map(({ from, length, leaves }) => ({ from, to: Math.min(BLOB.length, from + length), leaves }))

describe('reading ranges', () => {
  it('gives the right bytes to everyone, and asks for each of them about once', async () => {
    const ranges = fc.array(fc.array(range, { minLength: 1, maxLength: 6 }), { maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(ranges, async rounds => {
        const source = scriptedOrigin(BLOB, [])
        await using at = await bench(source)
        for (const round of rounds) {
          await Promise.all(
            round.map(async ({ from, to, leaves }) => {
              const got = await at.read(from, to, leaves)
              if (got !== undefined) assert.ok(Buffer.from(BLOB.subarray(from, to)).equals(got))
            }),
          )
        }
        // A read that nobody waits for any more may have brought the last piece twice.
        const aborted = rounds.flat().filter(({ leaves }) => leaves !== undefined).length
        const most = BLOB.length + rounds.flat().length * BLOCK_BYTES + aborted * 100_000
        assert.ok(source.sent() <= most, `${source.sent()} bytes of ${BLOB.length}`)
      }),
      { numRuns: 40, seed: 2 },
    )
  })

  it('asks for nothing twice when the origin is ahead of the reader, whose next chunk is in the store already', async () => {
    const goOn = Promise.withResolvers<void>()
    const source = scriptedOrigin(BLOB, [{ kind: 'pause', after: 4 * MIN_CHUNK_BYTES, until: goOn.promise }])
    const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const held = (): number => store.info(source.digest)?.heldChunks ?? 0
    await using at = await bench(source, 1e9, BLOB.length, { store, parts: await partStore() })
    const got = await at.read(0, BLOB.length - 1, undefined, undefined, async length => {
      if (length < MIN_CHUNK_BYTES) await until('the store is ahead', () => held() >= 3)
      if (length >= 3 * MIN_CHUNK_BYTES) goOn.resolve()
    })
    assert.ok(got !== undefined && Buffer.from(BLOB.subarray(0, -1)).equals(got))
    assert.equal(source.requests(), 1)
  })

  it('goes on where the origin broke off', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(deed, { maxLength: 3 }),
        fc.array(range, { maxLength: 4 }),
        async (deeds, ranges) => {
          const source = scriptedOrigin(BLOB, deeds)
          await using at = await bench(source)
          await Promise.all(
            ranges.map(async ({ from, to }) => {
              const got = await at.read(from, to)
              assert.ok(got !== undefined && Buffer.from(BLOB.subarray(from, to)).equals(got))
            }),
          )
        },
      ),
      { numRuns: 40, seed: 4 },
    )
  })

  it('reads the origin once for those who ask for all from somewhere on, and hang up', async () => {
    const blob = Buffer.alloc(40 * MIN_CHUNK_BYTES + 77, BLOB)
    const source = scriptedOrigin(blob, [])
    await using at = await bench(source, 1e9, blob.length)
    const step = 5 * MIN_CHUNK_BYTES
    const starts = Array.from({ length: Math.ceil(blob.length / step) }, (_, i) => i * step)
    await Promise.all(starts.map(from => at.read(from, blob.length, step, true)))
    const all = await at.read(1, blob.length, undefined, true)
    assert.ok(all !== undefined && blob.subarray(1).equals(all))
    assert.equal(source.sent(), blob.length)
  })

  it('asks the same origin for nothing again after a restart, and another one for all', async () => {
    const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const files = { data: createMemoryFile(), index: createMemoryFile() }
    const readAt = async (description: string): Promise<number> => {
      const source = scriptedOrigin(BLOB, [])
      const origin = { ...source.origin, description }
      const parts = await partStore(1e9, files)
      await using at = await bench({ ...source, origin }, 1e9, BLOB.length, { store, parts })
      // A part of a chunk, and a whole one besides parts of its neighbours.
      for (const [from, to] of [
        [10, 70_000],
        [2 * MIN_CHUNK_BYTES - 100, 3 * MIN_CHUNK_BYTES + 100],
      ] as const) {
        const got = await at.read(from, to)
        assert.ok(got !== undefined && Buffer.from(BLOB.subarray(from, to)).equals(got))
      }
      return source.sent()
    }
    const once = await readAt('here')
    assert.deepEqual([await readAt('here'), await readAt('there'), await readAt('here')], [0, once, 0])
  })

  it('keeps no parts of a blob that is whole, or gone from the store', async () => {
    for (const end of ['whole', 'gone'] as const) {
      const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
      const files = { data: createMemoryFile(), index: createMemoryFile() }
      const source = scriptedOrigin(BLOB, [])
      {
        await using at = await bench(source, 1e9, BLOB.length, { store, parts: await partStore(1e9, files) })
        await at.read(MIN_CHUNK_BYTES - 10, 2 * MIN_CHUNK_BYTES)
      }
      const parts = await partStore(1e9, files)
      assert.ok(parts.bytes > 0)
      await using at = await bench(source, 1e9, BLOB.length, { store, parts })
      if (end === 'whole') await at.read(0, BLOB.length)
      else assert.ok(await store.remove(source.digest))
      assert.equal(parts.bytes, 0, end)
    }
  })

  it('passes the origin’s own refusal on', async () => {
    const source = scriptedOrigin(
      BLOB,
      Array.from({ length: 20 }, (): Deed => ({ kind: 'status', status: 404 })),
    )
    await using at = await bench(source)
    await assert.rejects(at.read(5, 5000), { code: 'ORIGIN_STATUS', status: 404 })
  })

  it('works in a store that has room for nothing', async () => {
    const source = scriptedOrigin(BLOB, [])
    await using at = await bench(source, MIN_CHUNK_BYTES / 2)
    for (const [from, to] of [
      [3, 4],
      [100, BLOB.length - 1],
      [0, BLOB.length - 5],
    ] as const) {
      const got = await at.read(from, to)
      assert.ok(got !== undefined && Buffer.from(BLOB.subarray(from, to)).equals(got))
    }
  })
})
