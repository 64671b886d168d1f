import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Digest } from '@darter/oci'
import { ChunkMissingError } from '../errors.ts'
import { sampleBlob } from '../sample-blob.ts'
import { CHUNK, fill, open, put, sameChunk, type UsingStore } from './support.ts'

/** What a store evicts, and what it counts. */
export function room(name: string, using: UsingStore): void {
  describe(`${name}: room`, () => {
    it('is made from the high watermark down to the low one, least recently used first', () =>
      using({ quotaBytes: 10 * CHUNK, highWatermark: 0.8, lowWatermark: 0.5 }, async store => {
        const samples = [30, 31, 32, 33].map(seed => sampleBlob(2 * CHUNK, seed))
        const removed: Digest[] = []
        store.onRemoved(digest => removed.push(digest))
        for (const sample of samples) (await fill(store, sample)).release()
        assert.equal(store.usage().bytes, 8 * CHUNK, 'the high watermark itself is allowed')
        const used = await store.find(samples[0]!.digest)
        used!.release()
        const last = await open(store, sampleBlob(CHUNK, 34))
        assert.equal(await put(last, sampleBlob(CHUNK, 34), 0), 'stored')
        assert.deepEqual(removed, [samples[1]!.digest, samples[2]!.digest])
        assert.equal(store.usage().bytes, 5 * CHUNK)
        assert.deepEqual(
          store.list().map(({ digest }) => digest),
          [last.digest, samples[0]!.digest, samples[3]!.digest],
        )
        last.release()
      }))

    it('is not made at the cost of a pinned blob', () =>
      using({ quotaBytes: 4 * CHUNK, highWatermark: 1, lowWatermark: 0.25 }, async store => {
        const pinned = await fill(store, sampleBlob(2 * CHUNK, 40))
        const idle = await fill(store, sampleBlob(2 * CHUNK, 41))
        idle.release()
        const newcomer = sampleBlob(2 * CHUNK, 42)
        const blob = await open(store, newcomer)
        assert.equal(await put(blob, newcomer, 0), 'stored')
        assert.equal(await store.find(idle.digest), undefined)
        await sameChunk(pinned, 0, sampleBlob(2 * CHUNK, 40).chunk(0))
        pinned.release()
        blob.release()
      }))

    it('that can not be had costs nothing', () =>
      using({ quotaBytes: 4 * CHUNK }, async store => {
        const idleSample = sampleBlob(CHUNK / 2, 50)
        const idle = await fill(store, idleSample)
        idle.release()
        const sample = sampleBlob(5 * CHUNK, 51)
        const blob = await open(store, sample)
        const results = []
        for (const index of [0, 1, 2, 3, 4]) results.push(await put(blob, sample, index))
        assert.deepEqual(results, ['stored', 'stored', 'stored', 'stored', 'full'])
        assert.equal(blob.held.has(4), false)
        assert.equal(store.usage().bytes, 4 * CHUNK)
        await assert.rejects(blob.readChunk(4, 0, Buffer.alloc(1)), ChunkMissingError)
        const tiny = await open(store, idleSample)
        assert.equal(await put(tiny, idleSample, 0), 'full')
        await blob.dropChunk(0)
        assert.equal(await put(tiny, idleSample, 0), 'stored')
        const before = store.list().length
        tiny.release()
        assert.equal(await put(blob, sample, 4), 'stored')
        assert.equal(await put(blob, sample, 0), 'full')
        assert.equal(store.list().length, before - 1)
        blob.release()
      }))

    it('for blobs is bounded too', () =>
      using({ maxBlobs: 3 }, async store => {
        for (const seed of [60, 61, 62, 63]) (await fill(store, sampleBlob(10, seed))).release()
        assert.deepEqual(
          store.list().map(({ digest }) => digest),
          [63, 62, 61].map(seed => sampleBlob(10, seed).digest),
        )
        assert.equal(store.usage().bytes, 30)
      }))

    it('is accounted for whatever happens at once', () =>
      using({ quotaBytes: 8 * CHUNK }, async store => {
        const samples = [70, 71, 72, 73, 74].map(seed => sampleBlob(3 * CHUNK - seed, seed))
        const most: number[] = []
        await Promise.all(
          samples.flatMap((sample, turn) =>
            [0, 1, 2].map(async index => {
              const blob = await open(store, sample)
              await put(blob, sample, index)
              most.push(store.usage().bytes)
              if ((turn + index) % 3 === 0) await blob.dropChunk((index + 1) % 3)
              blob.release()
            }),
          ),
        )
        assert.ok(Math.max(...most) <= 8 * CHUNK, 'never more than the quota')
        let held = 0
        for (const { digest } of store.list()) {
          const blob = await store.find(digest)
          const sample = samples.find(other => other.digest === digest)
          for (const index of blob!.held.indices()) {
            held += sample!.layout.length(index)
            await sameChunk(blob!, index, sample!.chunk(index))
          }
          blob!.release()
        }
        assert.equal(store.usage().bytes, held)
        for (const { digest } of store.list()) assert.equal(await store.remove(digest), true)
        assert.deepEqual(store.usage(), { bytes: 0, quotaBytes: 8 * CHUNK, blobs: 0 })
      }))
  })
}
