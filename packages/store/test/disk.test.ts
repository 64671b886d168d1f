import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { open, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { blobPath } from '../src/blob-file.ts'
import { StoreIoError, StoreLockedError, StoreVersionError } from '../src/errors.ts'
import { sampleBlob } from '../src/sample-blob.ts'
import { CHUNK, diskStore, keep, withDirectory } from './support.ts'

const run = promisify(execFile)
const filler = join(import.meta.dirname, 'filler.ts')

describe('a store on disk', () => {
  it('finds everything again after a clean stop, with its order', () =>
    withDirectory(async directory => {
      let wall = 1_000_000
      const clock = { now: () => performance.now(), wall: () => ++wall }
      const samples = [1, 2, 3].map(seed => sampleBlob(2 * CHUNK + seed, seed))
      const empty = sampleBlob(0, 4)
      const store = await diskStore(directory, { clock })
      await keep(store, samples[0]!)
      await keep(store, samples[1]!, [2])
      await keep(store, samples[2]!, [0, 1])
      await keep(store, empty)
      const touched = await store.find(samples[0]!.digest)
      touched!.release()
      const [list, usage] = [store.list(), store.usage()]
      assert.deepEqual(
        list.map(({ digest }) => digest),
        [samples[0], empty, samples[2], samples[1]].map(sample => sample!.digest),
      )
      await store.close()
      const again = await diskStore(directory, { clock })
      assert.deepEqual(again.list(), list)
      assert.deepEqual(again.usage(), usage)
      const blob = await again.find(samples[1]!.digest)
      assert.deepEqual([...blob!.held.indices()], [2])
      const bytes = Buffer.alloc(samples[1]!.layout.length(2))
      await blob!.readChunk(2, 0, bytes)
      assert.ok(bytes.equals(samples[1]!.chunk(2)))
      blob!.release()
      await again.close()
    }))

  it('makes the file of a new blob before its first chunk comes, and leaves none behind when none comes', () =>
    withDirectory(async directory => {
      const sample = sampleBlob(2 * CHUNK, 7)
      const path = blobPath(directory, sample.digest)
      const store = await diskStore(directory)
      const blob = await store.open(sample.digest, sample.layout.size)
      while (!existsSync(path)) await nextTurn()
      blob.release()
      while (existsSync(path)) await nextTurn()
      // Making a file takes longer in a directory that is not there yet.
      const other = sampleBlob(2 * CHUNK, 8)
      const brief = await store.open(other.digest, other.layout.size)
      brief.release()
      await store.close()
      assert.equal(existsSync(blobPath(directory, other.digest)), false)
    }))

  it('still has to compute the digest of a blob that was complete by a list in an earlier run', () =>
    withDirectory(async directory => {
      const [sample, other] = [sampleBlob(2 * CHUNK, 5), sampleBlob(2 * CHUNK, 6)]
      const store = await diskStore(directory)
      const blob = await store.open(sample.digest, sample.layout.size)
      for (const index of [0, 1]) await blob.writeChunk(index, other.chunk(index), other.hash(index))
      await blob.markComplete('list')
      blob.release()
      await store.close()
      const again = await diskStore(directory)
      assert.equal(again.info(sample.digest)?.complete, true)
      const { signal } = new AbortController()
      assert.equal((await again.scrub({ bytesPerSecond: 1e9, signal })).dropped, 2)
      assert.equal(again.info(sample.digest), undefined)
      await again.close()
    }))

  it('evicts by the order of an earlier run', () =>
    withDirectory(async directory => {
      let wall = 5
      const clock = { now: () => performance.now(), wall: () => ++wall }
      const samples = [1, 2, 3, 4].map(seed => sampleBlob(CHUNK, seed))
      const store = await diskStore(directory, { clock })
      for (const sample of samples.slice(0, 3)) await keep(store, sample)
      ;(await store.find(samples[0]!.digest))!.release()
      await store.close()
      const tight = { clock, quotaBytes: 3 * CHUNK, highWatermark: 1, lowWatermark: 0.7 }
      const again = await diskStore(directory, tight)
      await keep(again, samples[3]!)
      assert.deepEqual(
        again.list().map(({ digest }) => digest),
        [samples[3]!.digest, samples[0]!.digest],
      )
      assert.deepEqual((await dataFiles(directory)).length, 2)
      await again.close()
    }))

  it('lets nobody else look', () =>
    withDirectory(async directory => {
      const sample = sampleBlob(10, 5)
      const store = await diskStore(join(directory, 'new', 'store'))
      await keep(store, sample)
      const file = blobPath(join(directory, 'new', 'store'), sample.digest)
      assert.equal((await stat(file)).mode & 0o777, 0o600)
      for (const name of ['index.db', 'index.db-wal', 'lock.db']) {
        assert.equal((await stat(join(directory, 'new', 'store', name))).mode & 0o777, 0o600, name)
      }
      for (const shelf of [join(directory, 'new'), join(file, '..'), join(file, '..', '..')]) {
        assert.equal((await stat(shelf)).mode & 0o777, 0o700, shelf)
      }
      await store.close()
    }))

  it('takes on the disk what is held, not what is missing', () =>
    withDirectory(async directory => {
      const sample = sampleBlob(64 * CHUNK, 6)
      const store = await diskStore(directory)
      await keep(store, sample, [63])
      const { size, blocks } = await stat(blobPath(directory, sample.digest))
      assert.equal(size, 64 * CHUNK)
      assert.ok(blocks * 512 < 2 * CHUNK, `${blocks} blocks`)
      await store.close()
    }))

  it('closed while a blob is in use leaves no doubt about it', () =>
    withDirectory(async directory => {
      const sample = sampleBlob(2 * CHUNK, 13)
      const store = await diskStore(directory)
      const blob = await store.open(sample.digest, sample.layout.size)
      const writing = blob.writeChunk(1, sample.chunk(1), sample.hash(1))
      await store.close()
      assert.equal(await writing, 'stored', 'what was under way was waited for')
      blob.release()
      const again = await diskStore(directory)
      assert.deepEqual(await again.recovered, { blobs: 0, kept: 0, dropped: 0 })
      assert.equal(again.list()[0]?.heldChunks, 1)
      await again.close()
    }))

  it('leaves no file of what was removed or came to nothing', () =>
    withDirectory(async directory => {
      const store = await diskStore(directory)
      await keep(store, sampleBlob(CHUNK, 7))
      const vain = sampleBlob(CHUNK, 8)
      const blob = await store.open(vain.digest, CHUNK)
      await blob.writeChunk(0, vain.chunk(0), vain.hash(0))
      await blob.dropChunk(0)
      blob.release()
      await store.remove(sampleBlob(CHUNK, 7).digest)
      await store.close()
      assert.deepEqual(await dataFiles(directory), [])
    }))

  it('belongs to one process', () =>
    withDirectory(async directory => {
      const store = await diskStore(directory)
      await assert.rejects(diskStore(directory), StoreLockedError)
      const script = `
        import { diskStore } from ${JSON.stringify(join(import.meta.dirname, 'support.ts'))}
        await diskStore(${JSON.stringify(directory)}).catch(error => console.log(error.code))`
      const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script])
      assert.equal(stdout.trim(), 'STORE_LOCKED')
      await keep(store, sampleBlob(10, 9))
      await store.close()
      const again = await diskStore(directory)
      assert.equal(again.list().length, 1)
      await again.close()
    }))

  it('of a newer version is refused and left as it is', () =>
    withDirectory(async directory => {
      const store = await diskStore(directory)
      await keep(store, sampleBlob(10, 10))
      await store.close()
      const version = (number: number): void => {
        const db = new DatabaseSync(join(directory, 'index.db'))
        db.exec(`PRAGMA user_version = ${number}`)
        db.close()
      }
      version(99)
      await assert.rejects(diskStore(directory), StoreVersionError)
      version(1)
      const again = await diskStore(directory)
      assert.equal(again.list().length, 1)
      await again.close()
    }))

  for (const [how, content] of [
    [
      'is not a database',
      Buffer.from('this is not a database, though it is long enough to look like one'.repeat(9)),
    ],
    ['has other tables', undefined],
  ] as const) {
    it(`with an index that ${how} starts anew`, () =>
      withDirectory(async directory => {
        const store = await diskStore(directory)
        await keep(store, sampleBlob(10, 11))
        await store.close()
        const path = join(directory, 'index.db')
        if (content !== undefined) await writeFile(path, content)
        else {
          const db = new DatabaseSync(path)
          db.exec('DROP TABLE chunks; CREATE TABLE chunks (x)')
          db.close()
        }
        const again = await diskStore(directory)
        assert.deepEqual(again.list(), [])
        assert.deepEqual(await dataFiles(directory), [], 'nothing is kept that nobody can vouch for')
        await keep(again, sampleBlob(10, 11))
        assert.equal(again.list().length, 1)
        await again.close()
        assert.ok((await readdir(directory)).includes('index.db.corrupt'))
      }))
  }

  it('with a damaged page in its index starts anew', () =>
    withDirectory(async directory => {
      const store = await diskStore(directory)
      await keep(
        store,
        sampleBlob(300 * CHUNK, 12),
        Array.from({ length: 300 }, (_, i) => i),
      )
      await store.close()
      const path = join(directory, 'index.db')
      const { size } = await stat(path)
      const file = await open(path, 'r+')
      for (let page = 2; page < size / 4096; page++)
        await file.write(Buffer.alloc(64, 0xa5), 0, 64, page * 4096)
      await file.close()
      const again = await diskStore(directory)
      assert.deepEqual(again.list(), [])
      await again.close()
    }))

  it('that can not be made says so', () =>
    withDirectory(async directory => {
      await writeFile(join(directory, 'file'), '')
      await assert.rejects(diskStore(join(directory, 'file')), StoreIoError)
    }))
})

/** All data files in a store's directory. */
async function dataFiles(directory: string): Promise<string[]> {
  const found = await readdir(join(directory, 'blobs'), { recursive: true, withFileTypes: true })
  return found.filter(entry => entry.isFile()).map(({ name }) => name)
}

interface Filled {
  readonly results: string[]
  readonly right: number
  readonly heldBytes: number
  readonly evicted: number[]
  readonly dropped: number
  readonly heldAfterwards: number[]
}

/** How to mount a small disk that nobody else sees and that is gone with its last process. */
const SMALL_DISK = [
  '-rm',
  'sh',
  '-c',
  'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" "$3" "$1" ballast',
  'sh',
]
const canMount = spawnSync('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0

describe('on a full disk', () => {
  it(
    'chunks are kept at the cost of what is least recently used, then not at all',
    {
      skip: canMount
        ? false
        : 'needs to mount a tmpfs: run as root, or sysctl kernel.unprivileged_userns_clone=1',
    },
    () =>
      withDirectory(async directory => {
        const { stdout } = await run('unshare', [...SMALL_DISK, directory, process.execPath, filler])
        const filled: Filled = JSON.parse(stdout)
        assert.deepEqual(filled.evicted, [0, 1, 2], 'oldest first, all of it in the end')
        const stored = filled.results.filter(result => result === 'stored').length
        assert.ok(stored >= 3 && stored < 8, `the room was used: ${filled.results.join()}`)
        assert.equal(filled.results.at(-1), 'full')
        assert.equal(filled.right, stored)
        assert.equal(filled.heldBytes, stored * CHUNK)
        assert.equal(filled.dropped, 0)
        assert.deepEqual(filled.heldAfterwards, [stored])
      }),
  )

  it('and where files may not be large, a chunk that does not fit is not kept', () =>
    withDirectory(async directory => {
      const limit = `--fsize=${6 * CHUNK}`
      const { stdout } = await run('prlimit', [limit, process.execPath, filler, directory])
      const filled: Filled = JSON.parse(stdout)
      assert.deepEqual(filled.results, Array(8).fill('full'))
      assert.deepEqual(filled.evicted, [], 'nothing is given up when that can not help')
      assert.deepEqual(filled.heldAfterwards, [1, 1, 1])
    }))

  it('and where the index can not grow, no more is taken than it can be told of', () =>
    withDirectory(async directory => {
      const tiny = join(import.meta.dirname, 'tiny-writer.ts')
      const { stdout } = await run('prlimit', [`--fsize=${512 * 1024}`, process.execPath, tiny, directory])
      const stored = Number(stdout)
      assert.ok(stored >= 64, `${stored} blobs were taken`)
      const store = await diskStore(directory)
      await store.recovered
      const held = store.list().length
      assert.ok(held <= stored && held >= stored - 64, `${held} of ${stored} blobs are still there`)
      await store.close()
    }))
})
