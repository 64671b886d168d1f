import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants, cp, open, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { blobPath } from '../src/blob-file.ts'
import type { ChunkStore } from '../src/contract.ts'
import { ChunkMissingError } from '../src/errors.ts'
import { type SampleBlob, sampleBlob } from '../src/sample-blob.ts'
import { CHUNK, diskStore, keep, withDirectory } from './support.ts'

const SEED = 1000

/** Runs the writer on a directory until it has told of `chunks` chunks, kills it, and returns what it told. */
async function killWriterAfter(directory: string, chunks: number): Promise<Map<number, Set<number>>> {
  const script = join(import.meta.dirname, 'writer.ts')
  const child = spawn(process.execPath, [script, directory, String(SEED)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  const told = new Map<number, Set<number>>()
  let left = chunks
  for await (const line of createInterface({ input: child.stdout })) {
    const [seed = 0, index = 0] = line.split(' ').map(Number)
    told.set(seed, (told.get(seed) ?? new Set()).add(index))
    if (--left === 0) child.kill('SIGKILL')
  }
  assert.deepEqual(await exited, [null, 'SIGKILL'])
  return told
}

/** Blobs that a killed writer can have begun after the last one it told of. */
const MAX_AHEAD = 200

/** Reads everything that a store claims to hold, asserts that it is right, and returns the held chunks by digest. */
async function readEverything(store: ChunkStore, samples: SampleBlob[]): Promise<Map<string, number[]>> {
  const held = new Map<string, number[]>()
  for (const { digest, heldChunks, complete } of store.list()) {
    const sample = sampleWith(digest, samples)
    assert.ok(sample, `${digest} was never written`)
    const blob = await store.find(digest)
    assert.ok(blob)
    const indices = [...blob.held.indices()]
    assert.equal(indices.length, heldChunks)
    if (complete) assert.equal(heldChunks, sample.layout.count)
    for (let index = 0; index < sample.layout.count; index++) {
      const bytes = Buffer.alloc(sample.layout.length(index))
      if (!blob.held.has(index)) {
        await assert.rejects(blob.readChunk(index, 0, bytes), ChunkMissingError)
        continue
      }
      assert.equal(await blob.readChunk(index, 0, bytes), bytes.length)
      assert.ok(bytes.equals(sample.chunk(index)), `chunk ${index} is not what was written`)
      assert.ok(Buffer.from(sample.hash(index)).equals(blob.chunkHash(index) ?? Buffer.alloc(0)))
    }
    held.set(digest, indices)
    blob.release()
  }
  return held
}

/** The sample with a digest. The writer may have been ahead of what it told, by as much as a busy machine makes of it. */
function sampleWith(digest: string, samples: SampleBlob[]): SampleBlob | undefined {
  for (let ahead = 0; ahead <= MAX_AHEAD; ahead++) {
    const found = samples.find(sample => sample.digest === digest)
    if (found !== undefined) return found
    samples.push(sampleBlob(4 * CHUNK - 1, SEED + samples.length))
  }
  return undefined
}

function samplesOf(told: ReadonlyMap<number, unknown>): SampleBlob[] {
  const last = Math.max(SEED, ...told.keys())
  return Array.from({ length: last - SEED + 1 }, (_, i) => sampleBlob(4 * CHUNK - 1, SEED + i))
}

describe('after kill -9', () => {
  for (const chunks of [1, 30, 170, 400]) {
    it(`at ${chunks} chunks everything held is right and little is lost`, () =>
      withDirectory(async directory => {
        const told = await killWriterAfter(directory, chunks)
        const samples = samplesOf(told)
        const store = await diskStore(directory)
        const report = await store.recovered
        assert.equal(report.dropped, 0, 'the kernel lost nothing')
        const held = await readEverything(store, samples)
        // Chunks come in order of blobs; a batch of 64 and a blob under way may be missing at the end.
        for (let seed = SEED; seed < SEED + Math.floor((chunks - 72) / 4); seed++) {
          const expected = [0, 1, 2, 3].filter(index => !(seed % 3 === 1 && index === 0))
          assert.deepEqual(held.get(sampleBlob(4 * CHUNK - 1, seed).digest), expected, `seed ${seed}`)
        }
        const usage = store.usage()
        await store.close()
        const again = await diskStore(directory)
        assert.deepEqual(
          await again.recovered,
          { blobs: 0, kept: 0, dropped: 0 },
          'a clean stop leaves no doubt',
        )
        assert.deepEqual(again.usage(), usage)
        assert.deepEqual(await readEverything(again, samples), held)
        await again.close()
      }))
  }

  it('again and again, a store goes on', () =>
    withDirectory(async directory => {
      let told = new Map<number, Set<number>>()
      for (const chunks of [25, 60, 110]) told = await killWriterAfter(directory, chunks)
      const store = await diskStore(directory)
      await store.recovered
      assert.ok((await readEverything(store, samplesOf(told))).size > 0)
      await store.close()
    }))
})

/**
 * Makes `to` what a power cut would leave of an open store: `from` as it is, with its unfinished write-ahead log.
 */
async function cutPower(from: string, to: string): Promise<void> {
  await cp(from, to, { recursive: true, filter: source => !source.endsWith('lock.db') })
}

async function zero(path: string, position: number, length: number): Promise<void> {
  const file = await open(path, constants.O_WRONLY)
  await file.write(Buffer.alloc(length), 0, length, position)
  await file.close()
}

/** A directory as a power cut leaves it: a complete blob, and one that was being written. */
async function cutShort(directory: string): Promise<{ path: string; done: SampleBlob; partial: SampleBlob }> {
  const done = sampleBlob(3 * CHUNK, 1)
  const partial = sampleBlob(6 * CHUNK, 2)
  const path = join(directory, 'after')
  const store = await diskStore(join(directory, 'before'))
  await keep(store, done)
  const blob = await store.open(partial.digest, partial.layout.size)
  const writing = [0, 1, 2, 3].map(index => blob.writeChunk(index, partial.chunk(index), partial.hash(index)))
  await Promise.all(writing)
  await indexed(join(directory, 'before'), 7)
  await cutPower(join(directory, 'before'), path)
  blob.release()
  await store.close()
  return { path, done, partial }
}

/** Waits until the index of an open store shows `chunks` chunks, by looking at copies of it. */
async function indexed(directory: string, chunks: number): Promise<void> {
  for (const deadline = performance.now() + 5000; ; ) {
    const copy = join(directory, '..', 'look')
    await cutPower(directory, copy)
    const db = new DatabaseSync(join(copy, 'index.db'))
    const found = Number(db.prepare('SELECT count(*) AS n FROM chunks').get()?.n)
    db.close()
    await rm(copy, { recursive: true })
    if (found === chunks) return
    assert.ok(performance.now() < deadline, `the index shows ${found} chunks, not ${chunks}`)
  }
}

describe('after a power cut', () => {
  it('chunks whose data was lost are dropped, before anybody can read them', () =>
    withDirectory(async directory => {
      const { path, done, partial } = await cutShort(directory)
      await zero(blobPath(path, partial.digest), CHUNK, CHUNK)
      await zero(blobPath(path, partial.digest), 3 * CHUNK + 5, 1)
      const store = await diskStore(path)
      const dropped: number[] = []
      store.onDropped((_, chunk) => dropped.push(chunk))
      assert.deepEqual(
        store.list().map(({ digest }) => digest),
        [done.digest],
        'what is in doubt is not listed',
      )
      const blob = await store.find(partial.digest)
      assert.deepEqual([...blob!.held.indices()], [0, 2], 'who opens it waits for the check')
      blob!.release()
      assert.deepEqual(await store.recovered, { blobs: 1, kept: 2, dropped: 2 })
      assert.deepEqual(dropped, [], 'nobody was told of them before')
      const held = await readEverything(store, [done, partial])
      assert.deepEqual(
        held,
        new Map([
          [partial.digest, [0, 2]],
          [done.digest, [0, 1, 2]],
        ]),
      )
      assert.equal(store.usage().bytes, 5 * CHUNK)
      await store.close()
    }))

  it('a blob of which nothing is left is forgotten', () =>
    withDirectory(async directory => {
      const { path, done, partial } = await cutShort(directory)
      await truncate(blobPath(path, partial.digest), 0)
      const store = await diskStore(path)
      const [opened, found] = await Promise.all([store.open(partial.digest, 77), store.find(done.digest)])
      assert.equal(opened.layout.size, 77, 'even its size')
      opened.release()
      found!.release()
      assert.deepEqual(await store.recovered, { blobs: 1, kept: 0, dropped: 4 })
      assert.deepEqual([...(await readEverything(store, [done])).keys()], [done.digest])
      await store.close()
    }))

  it('a store that is closed while it checks has the same doubts next time', () =>
    withDirectory(async directory => {
      const { path, done, partial } = await cutShort(directory)
      const first = await diskStore(path)
      await first.close()
      assert.deepEqual(await first.recovered, { blobs: 0, kept: 0, dropped: 0 })
      await zero(blobPath(path, partial.digest), 0, 10)
      const store = await diskStore(path)
      assert.deepEqual(await store.recovered, { blobs: 1, kept: 3, dropped: 1 })
      assert.deepEqual((await readEverything(store, [done, partial])).get(partial.digest), [1, 2, 3])
      await store.close()
    }))

  it('a chunk that was dropped from a blob that is believed does not come back', () =>
    withDirectory(async directory => {
      const sample = sampleBlob(3 * CHUNK, 5)
      const store = await diskStore(join(directory, 'before'))
      await keep(store, sample)
      await store.close()
      const again = await diskStore(join(directory, 'before'))
      const blob = await again.find(sample.digest)
      await blob!.dropChunk(1)
      await cutPower(join(directory, 'before'), join(directory, 'after'))
      blob!.release()
      await again.close()
      const after = await diskStore(join(directory, 'after'))
      assert.deepEqual((await readEverything(after, [sample])).get(sample.digest), [0, 2])
      await after.close()
    }))

  it('a blob in doubt can be removed', () =>
    withDirectory(async directory => {
      const { path, done, partial } = await cutShort(directory)
      const store = await diskStore(path)
      const removed: string[] = []
      store.onRemoved(digest => removed.push(digest))
      assert.equal(await store.remove(partial.digest), true)
      assert.deepEqual(removed, [], 'it was never listed')
      await store.recovered
      assert.deepEqual([...(await readEverything(store, [done])).keys()], [done.digest])
      assert.equal(store.usage().bytes, 3 * CHUNK)
      await store.close()
    }))

  it('files and rows without each other are deleted', () =>
    withDirectory(async directory => {
      const { path, done, partial } = await cutShort(directory)
      const orphan = sampleBlob(10, 99)
      await keepFile(path, orphan)
      await writeFile(join(path, 'blobs', 'notes.txt'), 'not ours')
      await rm(blobPath(path, done.digest))
      const store = await diskStore(path)
      await store.recovered
      assert.equal(await store.find(done.digest), undefined)
      assert.deepEqual([...(await readEverything(store, [partial])).keys()], [partial.digest])
      await assert.rejects(stat(blobPath(path, orphan.digest)), { code: 'ENOENT' })
      assert.ok((await readdir(join(path, 'blobs'))).includes('notes.txt'), 'other files are left alone')
      assert.equal(store.usage().bytes, 4 * CHUNK)
      await keep(store, done)
      await store.close()
    }))
})

/** Puts a data file where the store would have it, without telling the index. */
async function keepFile(directory: string, sample: SampleBlob): Promise<void> {
  const other = `${directory}-other`
  const store = await diskStore(other)
  await keep(store, sample)
  await store.close()
  const path = blobPath(other, sample.digest)
  await cp(path, blobPath(directory, sample.digest), { recursive: true })
  await rm(other, { recursive: true })
}
