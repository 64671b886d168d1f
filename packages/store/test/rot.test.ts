import assert from 'node:assert/strict'
import { open, truncate, unlink } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { blobPath } from '../src/blob-file.ts'
import type { ChunkStore } from '../src/contract.ts'
import { ChunkCorruptError, ChunkMissingError } from '../src/errors.ts'
import { type SampleBlob, sampleBlob } from '../src/sample-blob.ts'
import { CHUNK, diskStore, keep, withDirectory } from './support.ts'

/** Flips one bit of a blob's data file. */
async function flip(directory: string, sample: SampleBlob, position: number): Promise<void> {
  const file = await open(blobPath(directory, sample.digest), 'r+')
  const byte = Buffer.alloc(1)
  await file.read(byte, 0, 1, position)
  byte[0]! ^= 0x10
  await file.write(byte, 0, 1, position)
  await file.close()
}

/** A directory with one complete blob of a clean earlier run. */
async function kept(directory: string, sample: SampleBlob): Promise<void> {
  const store = await diskStore(directory)
  await keep(store, sample)
  await store.close()
}

function watch(store: ChunkStore): number[] {
  const dropped: number[] = []
  store.onDropped((_, chunk) => dropped.push(chunk))
  return dropped
}

const sample = sampleBlob(4 * CHUNK, 7)

describe('a chunk that rotted on the disk', () => {
  it('is found by the first read of any part of it, told once, and can be written again', () =>
    withDirectory(async directory => {
      await kept(directory, sample)
      await flip(directory, sample, 2 * CHUNK + 5)
      const store = await diskStore(directory)
      const dropped = watch(store)
      const blob = await store.find(sample.digest)
      assert.equal(blob!.complete, true)
      const part = Buffer.alloc(10)
      const reads = await Promise.allSettled([0, 100, CHUNK - 10].map(at => blob!.readChunk(2, at, part)))
      for (const read of reads) {
        assert.ok(read.status === 'rejected' && read.reason instanceof ChunkCorruptError)
      }
      assert.deepEqual(dropped, [2])
      assert.equal(blob!.complete, false)
      await assert.rejects(blob!.readChunk(2, 0, part), ChunkMissingError)
      assert.equal(await blob!.readChunk(1, 0, part), 10, 'its neighbours are well')
      assert.equal(await blob!.writeChunk(2, sample.chunk(2), sample.hash(2)), 'stored')
      await blob!.markComplete('digest')
      const whole = Buffer.alloc(CHUNK)
      await blob!.readChunk(2, 0, whole)
      assert.ok(whole.equals(sample.chunk(2)))
      blob!.release()
      await store.close()
    }))

  it("is found while the program runs, with verify 'always'", () =>
    withDirectory(async directory => {
      const store = await diskStore(directory, { verify: 'always' })
      const blob = await store.open(sample.digest, sample.layout.size)
      await blob.writeChunk(1, sample.chunk(1), sample.hash(1))
      const middle = Buffer.alloc(1000)
      assert.equal(await blob.readChunk(1, 12_345, middle), 1000)
      assert.ok(middle.equals(sample.chunk(1).subarray(12_345, 13_345)))
      await flip(directory, sample, CHUNK)
      await assert.rejects(blob.readChunk(1, 12_345, middle), ChunkCorruptError)
      assert.equal(blob.held.has(1), false)
      blob.release()
      await store.close()
    }))

  it('is found by a scrub, which goes on to the end', () =>
    withDirectory(async directory => {
      const other = sampleBlob(2 * CHUNK, 8)
      const store = await diskStore(directory)
      await keep(store, sample)
      await keep(store, other)
      await flip(directory, sample, 0)
      await flip(directory, other, 2 * CHUNK - 1)
      const dropped = new Set<string>()
      store.onDropped((digest, chunk) => dropped.add(`${digest} ${chunk}`))
      const { signal } = new AbortController()
      const report = await store.scrub({ bytesPerSecond: 1e10, signal })
      assert.deepEqual(report, { chunks: 6, bytes: 6 * CHUNK, dropped: 2 })
      assert.deepEqual(dropped, new Set([`${sample.digest} 0`, `${other.digest} 1`]))
      assert.deepEqual(
        store.list().map(({ complete }) => complete),
        [false, false],
      )
      assert.equal((await store.scrub({ bytesPerSecond: 1e10, signal })).dropped, 0)
      await store.close()
    }))

  it('that was the last of its blob takes the blob with it', () =>
    withDirectory(async directory => {
      const tiny = sampleBlob(100, 9)
      await kept(directory, tiny)
      await flip(directory, tiny, 50)
      const store = await diskStore(directory)
      await store.scrub({ bytesPerSecond: 1e10, signal: new AbortController().signal })
      assert.deepEqual(store.list(), [])
      assert.equal(await store.find(tiny.digest), undefined)
      assert.equal(store.usage().bytes, 0)
      await store.close()
    }))
})

describe('a chunk that is checked', () => {
  it('while it is dropped and another one takes its place is not mistaken for that', () =>
    withDirectory(async directory => {
      const [before, after] = [sampleBlob(32 * CHUNK, 30), sampleBlob(32 * CHUNK, 31)]
      await kept(directory, before)
      const store = await diskStore(directory)
      const dropped = watch(store)
      const blob = await store.find(before.digest)
      const all = Array.from({ length: 32 }, (_, i) => i)
      for (const index of all) {
        const reading = blob!.readChunk(index, 10, Buffer.alloc(10)).catch((error: unknown) => error)
        await blob!.dropChunk(index)
        await blob!.writeChunk(index, after.chunk(index), after.hash(index))
        const result = await reading
        assert.ok(result === 10 || result instanceof ChunkMissingError)
      }
      assert.deepEqual(dropped, all)
      assert.equal(blob!.held.count, 32)
      blob!.release()
      await store.close()
    }))
})

describe('a data file', () => {
  it('that was cut short while it was open gives no byte that was not written', () =>
    withDirectory(async directory => {
      const store = await diskStore(directory)
      await keep(store, sample)
      const blob = await store.find(sample.digest)
      const dropped = watch(store)
      const whole = Buffer.alloc(CHUNK)
      await blob!.readChunk(3, 0, whole)
      await truncate(blobPath(directory, sample.digest), 2 * CHUNK + 10)
      await assert.rejects(blob!.readChunk(3, 0, whole), ChunkCorruptError)
      await assert.rejects(blob!.readChunk(2, 0, whole), ChunkCorruptError)
      assert.equal(await blob!.readChunk(1, 0, whole), CHUNK)
      assert.deepEqual(dropped, [3, 2])
      blob!.release()
      await store.close()
    }))

  for (const [how, damage] of [
    ['cut short', (path: string) => truncate(path, CHUNK)],
    ['deleted', (path: string) => unlink(path)],
  ] as const) {
    it(`that was ${how} while nobody used it is not believed, though its chunks were verified`, () =>
      withDirectory(async directory => {
        const store = await diskStore(directory)
        await keep(store, sample)
        const settled = await store.find(sample.digest)
        settled!.release()
        await damage(blobPath(directory, sample.digest))
        const blob = await store.find(sample.digest)
        await assert.rejects(blob!.readChunk(3, 0, Buffer.alloc(1)), ChunkCorruptError)
        await assert.rejects(blob!.readChunk(2, 7, Buffer.alloc(1)), ChunkCorruptError)
        blob!.release()
        await store.close()
      }))
  }
})

describe('a scrub', () => {
  it('goes on where it was stopped, oldest check first', () =>
    withDirectory(async directory => {
      const blobs = [sampleBlob(3 * CHUNK, 20), sampleBlob(3 * CHUNK, 21)] as const
      let store = await diskStore(directory)
      for (const blob of blobs) await keep(store, blob)
      const abort = new AbortController()
      store.onDropped(() => abort.abort(new Error('stop')))
      await flip(directory, blobs[1], CHUNK)
      await assert.rejects(store.scrub({ bytesPerSecond: 1e10, signal: abort.signal }), /stop/)
      await store.close()

      store = await diskStore(directory)
      const dropped: string[] = []
      store.onDropped((digest, chunk) => {
        dropped.push(`${blobs.findIndex(blob => blob.digest === digest)} ${chunk}`)
      })
      await flip(directory, blobs[0], 0)
      await flip(directory, blobs[1], 2 * CHUNK)
      const report = await store.scrub({ bytesPerSecond: 1e10, signal: new AbortController().signal })
      assert.deepEqual(dropped, ['1 2', '0 0'])
      assert.equal(report.chunks, 4, 'one left of the second blob, then the first one again')
      await store.close()
    }))

  it('keeps to its rate', () =>
    withDirectory(async directory => {
      const store = await diskStore(directory)
      await keep(store, sample)
      const started = performance.now()
      await store.scrub({ bytesPerSecond: 20 * CHUNK, signal: new AbortController().signal })
      assert.ok(performance.now() - started >= 195, 'four chunks at twenty a second')
      await store.close()
    }))

  it('lets its blob be evicted, and ends with the store', () =>
    withDirectory(async directory => {
      const store = await diskStore(directory)
      await keep(store, sample)
      const { signal } = new AbortController()
      const first = store.scrub({ bytesPerSecond: 1e9, signal })
      assert.equal(await store.remove(sample.digest), true)
      assert.equal((await first).dropped, 0)
      await keep(store, sample)
      const slow = assert.rejects(store.scrub({ bytesPerSecond: 1, signal }), { code: 'STORE_CLOSED' })
      await store.close()
      await slow
    }))
})
