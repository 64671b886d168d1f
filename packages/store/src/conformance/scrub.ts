import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { sampleBlob } from '../sample-blob.ts'
import { CHUNK, fill, scrub, type UsingStore } from './support.ts'

/** What a scrub finds. */
export function scrubbing(name: string, using: UsingStore): void {
  describe(`${name}: a scrub`, () => {
    it('checks everything once and uses nothing', () =>
      using({}, async store => {
        const samples = [sampleBlob(2 * CHUNK, 90), sampleBlob(CHUNK - 1, 91)]
        for (const sample of samples) (await fill(store, sample)).release()
        const before = store.list()
        assert.deepEqual(await scrub(store), { chunks: 3, bytes: 3 * CHUNK - 1, dropped: 0 })
        assert.deepEqual(store.list(), before)
      }))

    it('computes the digest of blobs that are complete by a list, and drops those that it proves wrong', () =>
      using({}, async store => {
        const [right, other] = [sampleBlob(2 * CHUNK, 93), sampleBlob(2 * CHUNK, 94)]
        const wrong = { ...other, chunk: right.chunk, hash: right.hash }
        for (const sample of [right, wrong]) {
          const blob = await fill(store, sample)
          await blob.markComplete('list')
          assert.equal(blob.complete, true)
          blob.release()
        }
        const told: unknown[] = []
        store.onRefuted(digest => void told.push(['refuted', digest]))
        store.onDropped((digest, chunk) => void told.push([digest, chunk]))
        for (const dropped of [2, 0]) {
          const report = await scrub(store)
          assert.equal(report.dropped, dropped)
          assert.equal(store.info(right.digest)?.complete, true)
          assert.equal(store.info(wrong.digest), undefined)
        }
        assert.deepEqual(told, [
          ['refuted', wrong.digest],
          [wrong.digest, 0],
          [wrong.digest, 1],
        ])
      }))

    it('stops when told to', () =>
      using({}, async store => {
        const reason = new Error('enough')
        const signal = AbortSignal.abort(reason)
        ;(await fill(store, sampleBlob(CHUNK, 92))).release()
        await assert.rejects(store.scrub({ bytesPerSecond: 1e9, signal }), error => error === reason)
        await assert.rejects(scrub(store, 0), RangeError)
      }))
  })
}
