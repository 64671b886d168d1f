import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Clock } from '@darter/runtime'
import fc from 'fast-check'
import type { ChunkStore, StoredBlob } from '../src/contract.ts'
import { createMemoryStore } from '../src/memory-store.ts'
import { sampleBlob } from '../src/sample-blob.ts'
import { CHUNK, diskStore, withDirectory } from './support.ts'

const SAMPLES = [0, 1, 300, CHUNK, CHUNK + 44, 2 * CHUNK, 3 * CHUNK - 7].map((size, seed) =>
  sampleBlob(size, seed),
)
const CAPACITY = { quotaBytes: 6 * CHUNK, highWatermark: 0.9, lowWatermark: 0.6, maxBlobs: 5 }

const blobs = fc.nat(SAMPLES.length - 1)
const chunks = fc.nat(2)
const step = fc.oneof(
  { arbitrary: fc.record({ kind: fc.constant('open' as const), blob: blobs }), weight: 3 },
  { arbitrary: fc.record({ kind: fc.constant('find' as const), blob: blobs }), weight: 2 },
  { arbitrary: fc.record({ kind: fc.constant('write' as const), blob: blobs, chunk: chunks }), weight: 8 },
  { arbitrary: fc.record({ kind: fc.constant('fill' as const), blob: blobs }), weight: 4 },
  {
    arbitrary: fc.record({
      kind: fc.constant('read' as const),
      blob: blobs,
      chunk: chunks,
      offset: fc.nat(CHUNK),
    }),
    weight: 3,
  },
  { arbitrary: fc.record({ kind: fc.constant('drop' as const), blob: blobs, chunk: chunks }), weight: 1 },
  { arbitrary: fc.record({ kind: fc.constant('complete' as const), blob: blobs }), weight: 3 },
  { arbitrary: fc.record({ kind: fc.constant('release' as const), blob: blobs }), weight: 6 },
  { arbitrary: fc.record({ kind: fc.constant('remove' as const), blob: blobs }), weight: 1 },
  { arbitrary: fc.record({ kind: fc.constant('scrub' as const) }), weight: 1 },
  { arbitrary: fc.record({ kind: fc.constant('restart' as const) }), weight: 1 },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** A store, its handles, and what it told; every step's outcome is a value that can be compared. */
class Subject {
  store: ChunkStore
  readonly told: string[] = []
  #handles = SAMPLES.map((): StoredBlob[] => [])
  #restart: (store: ChunkStore) => Promise<ChunkStore>

  constructor(store: ChunkStore, restart: (store: ChunkStore) => Promise<ChunkStore>) {
    this.store = store
    this.#restart = restart
    this.#listen()
  }

  async apply(step: Step): Promise<unknown> {
    if (step.kind === 'scrub') {
      return await this.store.scrub({ bytesPerSecond: 1e12, signal: new AbortController().signal })
    }
    if (step.kind === 'restart') {
      for (const blob of this.#handles.flat()) blob.release()
      this.#handles = SAMPLES.map(() => [])
      const before = this.store
      this.store = await this.#restart(before)
      if (this.store !== before) this.#listen()
      return undefined
    }
    const sample = SAMPLES[step.blob]!
    const handles = this.#handles[step.blob]!
    if (step.kind === 'remove') return await this.store.remove(sample.digest)
    if (step.kind === 'open' || step.kind === 'find') {
      const blob =
        step.kind === 'open'
          ? await this.store.open(sample.digest, sample.layout.size)
          : await this.store.find(sample.digest)
      if (blob !== undefined) handles.push(blob)
      return blob && this.#look(blob)
    }
    const blob = handles.at(-1)
    if (blob === undefined) return 'no handle'
    const write = (index: number): Promise<unknown> =>
      outcome(() => blob.writeChunk(index, sample.chunk(index), sample.hash(index)))
    switch (step.kind) {
      case 'write':
        return [await write(step.chunk), this.#look(blob)]
      case 'fill': {
        const results = []
        for (let index = 0; index < sample.layout.count; index++) results.push(await write(index))
        return [results, this.#look(blob)]
      }
      case 'read': {
        const target = Buffer.alloc(1000)
        const read = await outcome(() => blob.readChunk(step.chunk, step.offset, target))
        return typeof read === 'number' ? [read, target.subarray(0, read).toString('hex')] : read
      }
      case 'drop':
        return [await outcome(() => blob.dropChunk(step.chunk)), this.#look(blob)]
      case 'complete':
        return [await outcome(() => blob.markComplete('digest')), this.#look(blob)]
      case 'release':
        handles.pop()
        return blob.release()
    }
  }

  #look(blob: StoredBlob): unknown {
    return [blob.complete, ...blob.held.indices()]
  }

  #listen(): void {
    this.store.onDropped((digest, chunk) => this.told.push(`${digest} ${chunk}`))
    this.store.onRemoved(digest => this.told.push(digest))
  }
}

/** The result, or the code (or name) of the error. */
async function outcome(operation: () => Promise<unknown>): Promise<unknown> {
  try {
    return await operation()
  } catch (error) {
    assert.ok(error instanceof Error)
    return 'code' in error ? error.code : error.name
  }
}

/** Shows each use a time of its own, the same in both stores: it moves from step to step only. */
function stepClock(): { clock: Clock; tick(): void } {
  let wall = 0
  return { clock: { now: () => performance.now(), wall: () => wall }, tick: () => void wall++ }
}

it('a disk store does what a memory store does, step by step, restarts and all', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), steps =>
      withDirectory(async directory => {
        const { clock, tick } = stepClock()
        const open = (): Promise<ChunkStore> => diskStore(directory, { ...CAPACITY, clock })
        const disk = new Subject(await open(), async store => {
          await store.close()
          return await open()
        })
        const model = new Subject(createMemoryStore({ ...CAPACITY, clock }), async store => store)
        try {
          for (const each of steps) {
            tick()
            assert.deepEqual(await disk.apply(each), await model.apply(each), JSON.stringify(each))
            assert.deepEqual(byDigest(disk.store), byDigest(model.store))
            assert.deepEqual(disk.store.usage(), model.store.usage())
          }
          assert.deepEqual(disk.told, model.told)
        } finally {
          await disk.store.close()
        }
      }),
    ),
    { seed: 20_240_901, numRuns: 120 },
  )
})

function byDigest(store: ChunkStore): unknown {
  return store.list().toSorted((a, b) => (a.digest < b.digest ? -1 : 1))
}
