import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Digest } from '@darter/oci'
import { HandleReleasedError, StoreClosedError } from '../errors.ts'
import { sampleBlob } from '../sample-blob.ts'
import { CHUNK, fill, open, put, sameChunk, scrub, type UsingStore } from './support.ts'

/** How blobs, handles and stores end. */
export function ends(name: string, using: UsingStore): void {
  describe(`${name}: ends`, () => {
    it('of a blob come by removal, unless it is pinned', () =>
      using({}, async store => {
        const sample = sampleBlob(CHUNK, 80)
        const removed: Digest[] = []
        store.onRemoved(digest => removed.push(digest))
        assert.equal(await store.remove(sample.digest), true, 'what was never there is gone')
        const blob = await fill(store, sample)
        assert.equal(await store.remove(sample.digest), false)
        blob.release()
        assert.equal(await store.remove(sample.digest), true)
        assert.deepEqual(removed, [sample.digest])
        assert.equal(store.usage().bytes, 0)
        const again = await fill(store, sample)
        await sameChunk(again, 0, sample.chunk(0))
        again.release()
      }))

    it('of a handle are its own only', () =>
      using({}, async store => {
        const sample = sampleBlob(CHUNK, 81)
        const one = await fill(store, sample)
        const two = await open(store, sample)
        one.release()
        one.release()
        assert.equal(await store.remove(sample.digest), false, 'a second release does not end another pin')
        await assert.rejects(one.readChunk(0, 0, Buffer.alloc(1)), HandleReleasedError)
        await assert.rejects(put(one, sample, 0), HandleReleasedError)
        await assert.rejects(one.dropChunk(0), HandleReleasedError)
        await assert.rejects(one.markComplete('digest'), HandleReleasedError)
        two.release()
      }))

    it('of the store are final', () =>
      using({}, async store => {
        const sample = sampleBlob(CHUNK, 82)
        const blob = await fill(store, sample)
        await store.close()
        await store.close()
        await assert.rejects(open(store, sample), StoreClosedError)
        await assert.rejects(store.find(sample.digest), StoreClosedError)
        await assert.rejects(store.remove(sample.digest), StoreClosedError)
        await assert.rejects(blob.readChunk(0, 0, Buffer.alloc(1)), StoreClosedError)
        await assert.rejects(scrub(store), StoreClosedError)
        blob.release()
      }))
  })
}
