import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Digest } from '@darter/oci'
import { BlobSizeMismatchError, ChunkMissingError } from '../errors.ts'
import { sampleBlob } from '../sample-blob.ts'
import { CHUNK, fill, MIB, open, put, sameBytes, sameChunk, type UsingStore } from './support.ts'

/** What a store holds, and how it is read back. */
export function heldChunks(name: string, using: UsingStore): void {
  describe(`${name}: what is held`, () => {
    it('is nothing at first', () =>
      using({ quotaBytes: 5 * MIB }, async store => {
        assert.deepEqual(await store.recovered, { blobs: 0, kept: 0, dropped: 0 })
        assert.deepEqual(store.list(), [])
        assert.deepEqual(store.usage(), { bytes: 0, quotaBytes: 5 * MIB, blobs: 0 })
        assert.equal(await store.find(sampleBlob(10, 1).digest), undefined)
      }))

    it('is read back whole and in parts', () =>
      using({}, async store => {
        const sample = sampleBlob(2 * CHUNK + 1000, 2)
        const blob = await fill(store, sample)
        assert.deepEqual([...blob.held.indices()], [0, 1, 2])
        for (const index of [0, 1, 2]) {
          await sameChunk(blob, index, sample.chunk(index))
          sameBytes(blob.chunkHash(index)!, sample.hash(index))
        }
        const part = Buffer.alloc(100)
        assert.equal(await blob.readChunk(1, 77_777, part), 100)
        sameBytes(part, sample.chunk(1).subarray(77_777, 77_877))
        const tail = Buffer.alloc(400, 0xee)
        assert.equal(await blob.readChunk(2, 900, tail), 100, 'a read ends with its chunk')
        sameBytes(tail.subarray(0, 100), sample.chunk(2).subarray(900))
        assert.deepEqual(
          tail.subarray(100),
          Buffer.alloc(300, 0xee),
          'nothing is written behind what was read',
        )
        assert.equal(await blob.readChunk(2, 1000, tail), 0)
        assert.equal(await blob.readChunk(2, 5000, tail), 0)
        assert.deepEqual(store.usage(), { bytes: sample.layout.size, quotaBytes: 64 * MIB, blobs: 1 })
        blob.release()
      }))

    it('is shared, live, by all handles', () =>
      using({}, async store => {
        const sample = sampleBlob(3 * CHUNK, 3)
        const [one, two] = await Promise.all([open(store, sample), open(store, sample)])
        await put(one, sample, 1)
        assert.deepEqual([...two.held.indices()], [1])
        await sameChunk(two, 1, sample.chunk(1))
        one.release()
        await put(two, sample, 0)
        const three = await store.find(sample.digest)
        assert.deepEqual([...three!.held.indices()], [0, 1])
        two.release()
        await sameChunk(three!, 0, sample.chunk(0))
        three!.release()
      }))

    it('is found again after the last release', () =>
      using({}, async store => {
        const sample = sampleBlob(3 * CHUNK, 4)
        const blob = await open(store, sample)
        await put(blob, sample, 2)
        blob.release()
        const again = await store.find(sample.digest)
        assert.equal(again!.layout.size, sample.layout.size)
        assert.deepEqual([...again!.held.indices()], [2])
        await sameChunk(again!, 2, sample.chunk(2))
        sameBytes(again!.chunkHash(2)!, sample.hash(2))
        assert.equal(again!.chunkHash(1), undefined)
        again!.release()
      }))

    it('belongs to one size', () =>
      using({}, async store => {
        const sample = sampleBlob(3 * CHUNK, 5)
        const blob = await open(store, sample)
        await assert.rejects(store.open(sample.digest, 3 * CHUNK + 1), BlobSizeMismatchError)
        await put(blob, sample, 0)
        blob.release()
        await assert.rejects(store.open(sample.digest, 2 * CHUNK), BlobSizeMismatchError)
        assert.equal(await store.remove(sample.digest), true, 'a failed open leaves no pin')
      }))

    it('is not what a caller did to its buffers later', () =>
      using({}, async store => {
        const sample = sampleBlob(CHUNK, 6)
        const blob = await open(store, sample)
        const bytes = sample.chunk(0)
        const hash = Buffer.from(sample.hash(0))
        await blob.writeChunk(0, bytes, hash)
        bytes.fill(1)
        hash.fill(1)
        await sameChunk(blob, 0, sample.chunk(0))
        sameBytes(blob.chunkHash(0)!, sample.hash(0))
        blob.release()
      }))

    it('is written once, however often and at once it comes', () =>
      using({}, async store => {
        const sample = sampleBlob(2 * CHUNK, 7)
        const [one, two] = await Promise.all([open(store, sample), open(store, sample)])
        const results = await Promise.all([put(one, sample, 0), put(two, sample, 0), put(one, sample, 0)])
        assert.deepEqual(results, ['stored', 'stored', 'stored'])
        assert.equal(await put(two, sample, 0), 'stored')
        assert.equal(store.usage().bytes, CHUNK)
        await sameChunk(one, 0, sample.chunk(0))
        one.release()
        two.release()
      }))

    it('is only what has the right shape', () =>
      using({}, async store => {
        const sample = sampleBlob(CHUNK + 5, 8)
        const blob = await open(store, sample)
        const good = sample.chunk(0)
        await assert.rejects(blob.writeChunk(0, good.subarray(1), sample.hash(0)), RangeError)
        await assert.rejects(blob.writeChunk(1, good, sample.hash(0)), RangeError)
        await assert.rejects(blob.writeChunk(2, new Uint8Array(0), sample.hash(0)), RangeError)
        await assert.rejects(blob.writeChunk(-1, new Uint8Array(0), sample.hash(0)), RangeError)
        await assert.rejects(blob.writeChunk(0, good, sample.hash(0).subarray(1)), RangeError)
        await assert.rejects(blob.readChunk(0, -1, good), RangeError)
        await assert.rejects(blob.readChunk(0, 0.5, good), RangeError)
        assert.equal(store.usage().bytes, 0)
        blob.release()
      }))

    it('is all that can be read', () =>
      using({}, async store => {
        const sample = sampleBlob(3 * CHUNK, 9)
        const blob = await open(store, sample)
        await put(blob, sample, 1)
        for (const index of [0, 2, 3, -1]) {
          await assert.rejects(blob.readChunk(index, 0, Buffer.alloc(10)), ChunkMissingError)
          assert.equal(blob.chunkHash(index), undefined)
        }
        blob.release()
      }))

    it('leaves no trace of a blob that got nothing', () =>
      using({}, async store => {
        const sample = sampleBlob(CHUNK, 10)
        const removed: Digest[] = []
        store.onRemoved(digest => removed.push(digest))
        const blob = await open(store, sample)
        assert.deepEqual(store.list(), [])
        blob.release()
        assert.equal(await store.find(sample.digest), undefined)
        const other = await store.open(sample.digest, 5)
        assert.equal(other.layout.size, 5, 'not even its size')
        other.release()
        assert.deepEqual(removed, [])
      }))
  })
}
