import assert from 'node:assert/strict'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { LoopTurns } from '../src/cached-reads.ts'
import { CachedWrites } from '../src/cached-writes.ts'
import { withDirectory } from './support.ts'

const PER_TURN = 4
const PIECE = 512 * 1024

/** An empty file; `disk.tookMs` is how long its writes seem to take. */
async function withWrites(
  run: (writes: CachedWrites, disk: { tookMs: number }, path: string) => Promise<void>,
): Promise<void> {
  await withDirectory(async directory => {
    const path = join(directory, 'file')
    const file = await open(path, 'w')
    const disk = { tookMs: 0 }
    let clock = 0
    try {
      await run(new CachedWrites(file.fd, new LoopTurns(), () => (clock += disk.tookMs)), disk, path)
    } finally {
      await file.close()
    }
  })
}

/** Whether a write is over before the event loop has had a turn. */
async function isOnLoop(writes: CachedWrites): Promise<boolean> {
  let over = false
  const writing = writes.write(Buffer.of(7), 0, 0).then(count => {
    over = true
    assert.equal(count, 1)
  })
  // Microtasks alone: what a thread brings needs a turn.
  for (let i = 0; i < 10; i++) await Promise.resolve()
  const isHere = over
  await writing
  return isHere
}

async function byThreads(writes: CachedWrites, count: number): Promise<void> {
  for (let i = 0; i < count; i++) assert.equal(await isOnLoop(writes), false, `write ${i} of ${count}`)
}

/** One write on the event loop, in a turn of its own. */
async function onLoop(writes: CachedWrites): Promise<void> {
  await new Promise(setImmediate)
  assert.equal(await isOnLoop(writes), true)
}

describe('writes of a file', () => {
  it('are done on the event loop, a few for each turn of it', () =>
    withWrites(async writes => {
      for (let i = 0; i < PER_TURN; i++) assert.equal(await isOnLoop(writes), true)
      assert.equal(await isOnLoop(writes), false, 'the next one lets the loop turn')
      await onLoop(writes)
    }))

  it('are done by threads after one that was held up, twice as many after the next', () =>
    withWrites(async (writes, disk) => {
      for (const rest of [16, 32, 64, 128, 256, 512, 1024, 1024]) {
        disk.tookMs = 11
        await onLoop(writes)
        disk.tookMs = 0
        await byThreads(writes, rest)
      }
      for (let i = 0; i < 64; i++) await onLoop(writes)
      disk.tookMs = 11
      await onLoop(writes)
      await byThreads(writes, 16)
      await onLoop(writes)
    }))

  it('write all there is, in pieces on the event loop', () =>
    withWrites(async (writes, disk, path) => {
      const bytes = Buffer.alloc(2 * PIECE + 5, 'abc')
      const counts: number[] = []
      for (let done = 0; done < bytes.length; done += counts.at(-1)!) {
        counts.push(await writes.write(bytes, done, 3 + done))
      }
      assert.deepEqual(counts, [PIECE, PIECE, 5])
      assert.ok(bytes.equals((await readFile(path)).subarray(3)))
      disk.tookMs = 11
      await writes.write(Buffer.of(0), 0, 0)
      assert.equal(await writes.write(bytes, 0, 9), bytes.length)
      assert.ok(bytes.equals((await readFile(path)).subarray(9)))
    }))
})
