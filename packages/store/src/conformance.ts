import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Digest } from '@darter/oci'
import type { Clock } from '@darter/runtime'
import type { CapacityOptions } from './capacity.ts'
import type { ChunkStore, ScrubReport, StoredBlob } from './contract.ts'
import {
  BlobIncompleteError,
  BlobSizeMismatchError,
  ChunkMissingError,
  HandleReleasedError,
  StoreClosedError,
} from './errors.ts'
import { type SampleBlob, sampleBlob } from './sample-blob.ts'

/** A store under test, and what ends it. */
export interface TestedStore {
  readonly store: ChunkStore
  /** Closes the store and deletes what it left behind. */
  dispose(): Promise<void>
}

/** Makes an empty store. */
export type MakeStore = (options: CapacityOptions & { readonly clock: Clock }) => Promise<TestedStore>

const KIB = 1024
const MIB = 1024 * KIB
/** The chunk size of all sample blobs here. */
const CHUNK = 256 * KIB

/** What every {@link ChunkStore} promises, as tests for `node:test`. */
export function storeConformance(name: string, makeStore: MakeStore): void {
  const using = async (
    options: Partial<CapacityOptions>,
    body: (store: ChunkStore) => Promise<void>,
  ): Promise<void> => {
    const { store, dispose } = await makeStore({ quotaBytes: 64 * MIB, ...options, clock: tickingClock() })
    try {
      await body(store)
    } finally {
      await dispose()
    }
  }

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

/** A clock whose every look is a millisecond later, so that no two uses are at the same time. */
function tickingClock(): Clock {
  let ticks = 0
  return { now: () => performance.now(), wall: () => 1_700_000_000_000 + ++ticks }
}

async function scrub(store: ChunkStore, bytesPerSecond = 1e9): Promise<ScrubReport> {
  return await store.scrub({ bytesPerSecond, signal: new AbortController().signal })
}

async function open(store: ChunkStore, sample: SampleBlob): Promise<StoredBlob> {
  return await store.open(sample.digest, sample.layout.size)
}

async function put(blob: StoredBlob, sample: SampleBlob, index: number): Promise<'stored' | 'full'> {
  return await blob.writeChunk(index, sample.chunk(index), sample.hash(index))
}

/** Opens a blob and writes all of it. */
async function fill(store: ChunkStore, sample: SampleBlob): Promise<StoredBlob> {
  const blob = await open(store, sample)
  for (let index = 0; index < sample.layout.count; index++) {
    assert.equal(await put(blob, sample, index), 'stored')
  }
  return blob
}

/** Asserts that the whole of a chunk reads as `expected`. */
async function sameChunk(blob: StoredBlob, index: number, expected: Uint8Array): Promise<void> {
  const bytes = Buffer.alloc(blob.layout.length(index))
  assert.equal(await blob.readChunk(index, 0, bytes), bytes.length)
  sameBytes(bytes, expected)
}

// Not deepEqual: it takes minutes to tell how two large buffers differ.
function sameBytes(found: Uint8Array, expected: Uint8Array): void {
  assert.ok(Buffer.compare(found, expected) === 0, 'the bytes differ')
}
