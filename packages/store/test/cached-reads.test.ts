import assert from 'node:assert/strict'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { CachedReads, LoopTurns } from '../src/cached-reads.ts'
import { withDirectory } from './support.ts'

const HITS = 16
const PER_TURN = 4

/** A file of 256 bytes; `disk` is what its reads seem to cost. */
async function withReads(
  run: (reads: CachedReads, disk: { tookMs: number; inputs: number }) => Promise<void>,
  isNew = false,
): Promise<void> {
  await withDirectory(async directory => {
    const path = join(directory, 'file')
    await writeFile(path, Buffer.alloc(256, 7))
    const file = await open(path, 'r')
    const disk = { tookMs: 0, inputs: 0 }
    let clock = 0
    const probe = { now: () => (clock += disk.tookMs), diskInputs: () => disk.inputs }
    try {
      await run(new CachedReads(file.fd, new LoopTurns(), isNew, probe), disk)
    } finally {
      await file.close()
    }
  })
}

/** Whether a read is over before the event loop has had a turn. */
async function isOnLoop(reads: CachedReads): Promise<boolean> {
  const target = Buffer.alloc(1)
  let over = false
  const reading = reads.read(target, 0, 3).then(count => {
    over = true
    assert.equal(count, 1)
    assert.equal(target[0], 7)
  })
  // Microtasks alone: what a thread brings needs a turn.
  for (let i = 0; i < 10; i++) await Promise.resolve()
  const isHere = over
  await reading
  return isHere
}

async function hits(reads: CachedReads): Promise<void> {
  for (let i = 0; i < HITS; i++) assert.equal(await isOnLoop(reads), false)
}

describe('reads of a file', () => {
  it('are done on the event loop once enough of them needed no disk, a few for each turn of it', () =>
    withReads(async reads => {
      await hits(reads)
      for (let i = 0; i < PER_TURN; i++) assert.equal(await isOnLoop(reads), true)
      assert.equal(await isOnLoop(reads), false, 'the next one lets the loop turn')
      await new Promise(setImmediate)
      assert.equal(await isOnLoop(reads), true)
    }))

  for (const [what, change] of [
    ['that needed the disk', { tookMs: 3, inputs: 1 }],
    ['that took long', { tookMs: 50, inputs: 0 }],
  ] as const) {
    it(`are done by threads again after one ${what}`, () =>
      withReads(async (reads, disk) => {
        await hits(reads)
        Object.assign(disk, change)
        assert.equal(await isOnLoop(reads), true)
        disk.tookMs = 0
        await hits(reads)
        assert.equal(await isOnLoop(reads), true)
      }))
  }

  it('are done on the event loop from the start where the file is new, until one is slow', () =>
    withReads(async (reads, disk) => {
      assert.equal(await isOnLoop(reads), true)
      Object.assign(disk, { tookMs: 50, inputs: 1 })
      assert.equal(await isOnLoop(reads), true)
      disk.tookMs = 0
      assert.equal(await isOnLoop(reads), false)
    }, true))

  it('may be slow for want of a CPU', () =>
    withReads(async (reads, disk) => {
      disk.tookMs = 3
      await hits(reads)
      assert.equal(await isOnLoop(reads), true)
      assert.equal(await isOnLoop(reads), true)
    }))

  it('end where the file ends', () =>
    withReads(async reads => {
      for (let i = 0; i <= HITS; i++) {
        assert.equal(await reads.read(Buffer.alloc(4), 2, 255), 1)
        assert.equal(await reads.read(Buffer.alloc(4), 0, 256), 0)
      }
    }))
})
