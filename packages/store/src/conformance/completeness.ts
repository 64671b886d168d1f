import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BlobIncompleteError, ChunkMissingError } from '../errors.ts'
import { sampleBlob } from '../sample-blob.ts'
import { CHUNK, fill, open, put, sameBytes, sameChunk, type UsingStore } from './support.ts'

/** When a blob is complete, and what a drop does. */
export function completeness(name: string, using: UsingStore): void {
  describe(`${name}: complete blobs`, () => {
    it('are those that were marked with every chunk held', () =>
      using({}, async store => {
        const sample = sampleBlob(2 * CHUNK, 20)
        const blob = await open(store, sample)
        await put(blob, sample, 0)
        await assert.rejects(blob.markComplete('digest'), BlobIncompleteError)
        await put(blob, sample, 1)
        assert.equal(blob.complete, false)
        await blob.markComplete('digest')
        await blob.markComplete('digest')
        assert.equal(blob.complete, true)
        blob.release()
        const [info] = store.list()
        assert.deepEqual(store.info(sample.digest), info)
        assert.equal(info!.complete, true)
        assert.equal(info!.heldChunks, 2)
        assert.equal(info!.size, 2 * CHUNK)
      }))

    it('may be empty', () =>
      using({}, async store => {
        const sample = sampleBlob(0, 21)
        const blob = await open(store, sample)
        assert.equal(blob.complete, false)
        await blob.markComplete('digest')
        blob.release()
        const again = await store.find(sample.digest)
        assert.equal(again!.complete, true)
        again!.release()
        assert.equal(await store.remove(sample.digest), true)
        assert.equal(await store.find(sample.digest), undefined)
      }))

    it('are no longer once a chunk is dropped', () =>
      using({}, async store => {
        const sample = sampleBlob(2 * CHUNK, 22)
        const dropped: unknown[] = []
        const stop = store.onDropped((...what) => dropped.push(what))
        const blob = await fill(store, sample)
        await blob.markComplete('digest')
        const hash = blob.chunkHash(1)
        await blob.dropChunk(1)
        await blob.dropChunk(1)
        await blob.dropChunk(7)
        assert.deepEqual(dropped, [[sample.digest, 1]])
        assert.equal(blob.complete, false)
        assert.equal(store.usage().bytes, CHUNK)
        await assert.rejects(blob.readChunk(1, 0, Buffer.alloc(9)), ChunkMissingError)
        assert.equal(blob.chunkHash(1), undefined)
        sameBytes(hash!, sample.hash(1))
        await assert.rejects(blob.markComplete('digest'), BlobIncompleteError)
        assert.equal(await blob.writeChunk(1, sample.chunk(0), sample.hash(0)), 'stored')
        sameBytes(hash!, sample.hash(1))
        await blob.dropChunk(1)
        dropped.pop()
        assert.equal(await put(blob, sample, 1), 'stored')
        await blob.markComplete('digest')
        await sameChunk(blob, 1, sample.chunk(1))
        stop()
        await blob.dropChunk(0)
        assert.equal(dropped.length, 1, 'nothing is told after the subscription')
        blob.release()
      }))
  })

  describe(`${name}: a drop`, () => {
    it('that comes while the chunk is written comes after it', () =>
      using({}, async store => {
        const sample = sampleBlob(CHUNK, 25)
        const blob = await open(store, sample)
        const writing = put(blob, sample, 0)
        await blob.dropChunk(0)
        assert.equal(await writing, 'stored')
        assert.equal(blob.held.has(0), false)
        assert.equal(store.usage().bytes, 0)
        blob.release()
      }))

    it('that comes while the chunk is read, with another chunk after it, mixes nothing up', () =>
      using({}, async store => {
        const sample = sampleBlob(8 * CHUNK, 26)
        const other = sampleBlob(8 * CHUNK, 27)
        const blob = await fill(store, sample)
        const dropped: number[] = []
        store.onDropped((_, chunk) => dropped.push(chunk))
        for (let index = 0; index < 8; index++) {
          const target = Buffer.alloc(CHUNK)
          const reading = blob.readChunk(index, 0, target).catch((error: unknown) => error)
          await blob.dropChunk(index)
          await blob.writeChunk(index, other.chunk(index), other.hash(index))
          if ((await reading) instanceof ChunkMissingError) continue
          assert.equal(await reading, CHUNK)
          const one = [sample, other].filter(({ chunk }) => target.equals(chunk(index)))
          assert.equal(one.length, 1, `chunk ${index} is of one piece`)
        }
        assert.deepEqual(dropped, [0, 1, 2, 3, 4, 5, 6, 7], 'nothing else was dropped')
        for (let index = 0; index < 8; index++) await sameChunk(blob, index, other.chunk(index))
        blob.release()
      }))
  })
}
