import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { parseDigest } from '@darter/oci'
import { createLogger, seededRandom } from '@darter/runtime'
import { createMemoryFile, type PlainFile } from '@darter/store'
import { chunkLayout, MIN_CHUNK_BYTES } from '@darter/swarm'
import fc from 'fast-check'
import { BlobParts } from '../src/download/blob-parts.ts'
import { ownersOf, partOwner } from '../src/download/part-index.ts'
import { BLOCK_BYTES, openPartStore } from '../src/download/part-store.ts'
import { partStore } from './support/reads.ts'

const random = seededRandom(1)
const noise = (): Uint8Array =>
  Uint8Array.from({ length: MIN_CHUNK_BYTES * 5 + 1234 }, () => Math.floor(random() * 256))
const BLOB = noise()
const OTHER = noise()
const NAME = parseDigest(`sha256:${'ab'.repeat(32)}`)
const MINE = partOwner({ name: 'mine', address: 'here' }, NAME, BLOB.length)
const THEIRS = partOwner({ name: 'theirs', address: 'there' }, NAME, BLOB.length)
const ANOTHER = partOwner(
  { name: 'mine', address: 'here' },
  parseDigest(`sha256:${'cd'.repeat(32)}`),
  BLOB.length,
)

const layout = chunkLayout(BLOB.length)
const perChunk = layout.chunkBytes / BLOCK_BYTES
const blocks = Math.ceil(BLOB.length / BLOCK_BYTES)
const blockOf = (block: number, blob = BLOB): Uint8Array =>
  blob.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
const hashOf = (chunk: number, blob = BLOB): Uint8Array => {
  const from = layout.offset(chunk)
  return createHash('sha256')
    .update(blob.subarray(from, from + layout.length(chunk)))
    .digest()
}
const files = () => ({ data: createMemoryFile(), index: createMemoryFile() })

/** The blocks that are there, each of which must be the blob's. */
async function readAll(parts: BlobParts, blob = BLOB): Promise<number[]> {
  const found: number[] = []
  for (let block = 0; block < blocks; block++) {
    const [bytes] = parts.has(block) ? await parts.read(block, block + 1) : []
    if (bytes === undefined) continue
    assert.ok(Buffer.from(bytes).equals(blockOf(block, blob)), `block ${block} has wrong bytes`)
    found.push(block)
  }
  return found
}

describe('parts of chunks', () => {
  it('are kept within bounds, and what was used least recently goes first', async () => {
    const store = await partStore(10 * BLOCK_BYTES)
    const [one, other] = [new BlobParts(store, layout, MINE), new BlobParts(store, layout, THEIRS)]
    for (let block = 0; block < 5; block++) await one.keep(block, blockOf(block))
    for (let block = 0; block < 5; block++) await other.keep(perChunk + block, blockOf(perChunk + block))
    const read = await one.read(1, 9)
    assert.equal(read.length, 4)
    for (const [i, bytes] of read.entries()) assert.ok(Buffer.from(bytes).equals(blockOf(i + 1)))
    await one.keep(2 * perChunk, blockOf(2 * perChunk))
    assert.ok(!other.has(perChunk) && one.has(0) && one.has(2 * perChunk))
    assert.deepEqual(await other.read(perChunk, perChunk + 1), [])
    assert.equal(store.bytes, 6 * BLOCK_BYTES)
    one.clear()
    assert.equal(store.bytes, 0)
  })

  it('are a chunk when the last one is there', async () => {
    const parts = new BlobParts(await partStore(), layout, MINE)
    const last = layout.count - 1
    assert.ok(
      await parts.keep(last * perChunk, blockOf(last * perChunk)),
      'the last chunk is one short block',
    )
    for (let at = 0; at < perChunk; at++) {
      const block = perChunk + ((at * 5) % perChunk)
      assert.equal(await parts.keep(block, blockOf(block)), at === perChunk - 1)
      assert.ok(!(await parts.keep(block, blockOf(block))))
    }
  })

  it('that the disk damaged or lost are not there', async () => {
    const memory = createMemoryFile()
    const data: PlainFile = {
      ...memory,
      write: (position, bytes) => {
        if (position > 0) return Promise.reject(new Error('no space'))
        const wrong = Uint8Array.from(bytes)
        wrong[7]! ^= 1
        return memory.write(position, wrong)
      },
    }
    const parts = new BlobParts(await partStore(1e9, { ...files(), data }), layout, MINE)
    await parts.keep(0, blockOf(0))
    assert.ok(parts.has(0))
    assert.deepEqual(await parts.read(0, 2), [])
    assert.ok(!parts.has(0))
    const store = await partStore(1e9, { ...files(), data })
    const others = new BlobParts(store, layout, MINE)
    for (const block of [0, 1, 2]) assert.equal(await others.keep(block, blockOf(block)), false)
    assert.deepEqual([others.has(0), others.has(1), store.bytes], [true, false, BLOCK_BYTES])
  })
})

/** Which of the states that a file was in, how much of it, and where one bit is wrong. */
interface Damage {
  readonly state: number
  readonly length: number
  readonly flips: readonly number[]
}

async function damagedFile(states: readonly Buffer[], { state, length, flips }: Damage): Promise<PlainFile> {
  const whole = states[state % states.length] ?? Buffer.alloc(0)
  const bytes = Buffer.from(whole.subarray(0, Math.ceil(length * whole.length)))
  for (const flip of flips) {
    // Most of an index is empty: an entry's owner, number or sum, from somewhere on.
    let at = flip % Math.max(1, bytes.length)
    while (at < bytes.length && bytes[at] === 0) at++
    at += [0, 24, 32][flip % 3]!
    if (at < bytes.length) bytes[at]! ^= 1 << (flip % 6)
  }
  const file = createMemoryFile()
  await file.write(0, bytes)
  return file
}

const image = Buffer.alloc(4 * 1024 * 1024)

async function copyOf(file: PlainFile): Promise<Buffer> {
  return Buffer.from(image.subarray(0, await file.read(0, image)))
}

describe('parts that an earlier process left', () => {
  it('are their owner’s, with the chunks that it gave', async () => {
    const kept = files()
    const before = await partStore(1e9, kept)
    const parts = new BlobParts(before, layout, MINE)
    for (const block of [0, 3, blocks - 1]) await parts.keep(block, blockOf(block))
    for (const chunk of [1, 2]) parts.gave(chunk, hashOf(chunk))
    await before.close()

    const store = await partStore(1e9, kept)
    assert.equal(store.bytes, 3 * BLOCK_BYTES)
    const theirs = new BlobParts(store, layout, THEIRS)
    assert.deepEqual(await readAll(theirs), [])
    assert.ok(!theirs.hasGiven(1, hashOf(1)))
    const mine = new BlobParts(store, layout, MINE)
    assert.deepEqual(await readAll(mine), [0, 3, blocks - 1])
    assert.deepEqual(
      [0, 1, 2].map(chunk => mine.hasGiven(chunk, hashOf(chunk))),
      [false, true, true],
    )
    assert.ok(!mine.hasGiven(1, hashOf(2)))
    mine.clear()
    assert.equal(store.bytes, 0)
    await store.close()
    const last = await partStore(1e9, kept)
    const again = new BlobParts(last, layout, MINE)
    assert.deepEqual([await readAll(again), again.hasGiven(1, hashOf(1)), last.bytes], [[], false, 0])
  })

  it('go before what was used since, and when there may be fewer', async () => {
    const kept = files()
    const before = await partStore(10 * BLOCK_BYTES, kept)
    const [mine, theirs] = [new BlobParts(before, layout, MINE), new BlobParts(before, layout, THEIRS)]
    for (const block of [0, 1, 2, 3, 4]) await mine.keep(block, blockOf(block))
    for (const block of [0, 1, 2]) await theirs.keep(block, blockOf(block))
    await before.close()

    const store = await partStore(6 * BLOCK_BYTES, kept)
    const again = new BlobParts(store, layout, MINE)
    assert.deepEqual(await readAll(again), [0, 1, 2, 3, 4])
    assert.equal(store.bytes, 6 * BLOCK_BYTES, 'what lay behind the end is gone')
    await again.keep(5, blockOf(5))
    assert.deepEqual(await readAll(new BlobParts(store, layout, THEIRS)), [])
    assert.deepEqual(await readAll(again), [0, 1, 2, 3, 4, 5])
  })

  it('go with their blob, whoever gave them', async () => {
    const kept = files()
    const before = await partStore(1e9, kept)
    for (const owner of [MINE, THEIRS, ANOTHER]) {
      const parts = new BlobParts(before, layout, owner)
      await parts.keep(3, blockOf(3))
      parts.gave(1, hashOf(1))
    }
    await before.close()
    const store = await partStore(1e9, kept)
    store.dropLeftovers(ownersOf(NAME))
    const left = [MINE, THEIRS, ANOTHER].map(owner => {
      const parts = new BlobParts(store, layout, owner)
      return [parts.has(3), parts.hasGiven(1, hashOf(1))]
    })
    assert.deepEqual(left, [
      [false, false],
      [false, false],
      [true, true],
    ])
    assert.equal(store.bytes, BLOCK_BYTES)
  })

  it('are not taken for another’s, nor for other parts', async () => {
    for (const change of ['owner', 'number'] as const) {
      const kept = files()
      const before = await partStore(1e9, kept)
      await new BlobParts(before, layout, MINE).keep(3, blockOf(3))
      await before.close()
      const bytes = await copyOf(kept.index)
      const at = bytes.indexOf(MINE)
      if (change === 'owner') THEIRS.copy(bytes, at)
      else bytes.writeUInt32LE(4, at + MINE.length)
      await kept.index.write(0, bytes)
      const parts = new BlobParts(await partStore(1e9, kept), layout, change === 'owner' ? THEIRS : MINE)
      assert.ok(parts.has(change === 'owner' ? 3 : 4))
      assert.deepEqual(await parts.read(0, blocks), [])
      assert.deepEqual(await readAll(parts), [])
    }
  })

  it('are never wrong, whatever a crash makes of the files', async () => {
    const deed = fc.oneof(
      fc.record({ kind: fc.constant('keep'), isMine: fc.boolean(), at: fc.nat(blocks - 1) }),
      fc.record({ kind: fc.constant('gave'), isMine: fc.boolean(), at: fc.nat(layout.count - 1) }),
      fc.record({ kind: fc.constant('drop'), isMine: fc.boolean(), at: fc.nat(layout.count - 1) }),
    )
    const damage: fc.Arbitrary<Damage> = fc.record({
      state: fc.nat(),
      length: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: 1, freq: 1 }),
      flips: fc.array(fc.nat(), { maxLength: 3 }),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(deed, { minLength: 1, maxLength: 24 }),
        damage,
        damage,
        async (deeds, toData, toIndex) => {
          const kept = files()
          const store = await partStore(4 * BLOCK_BYTES, kept)
          const [mine, theirs] = [new BlobParts(store, layout, MINE), new BlobParts(store, layout, THEIRS)]
          const states: { data: Buffer[]; index: Buffer[] } = { data: [], index: [] }
          for (const { kind, isMine, at } of deeds) {
            const [parts, blob] = isMine ? [mine, BLOB] : [theirs, OTHER]
            if (kind === 'keep') await parts.keep(at, blockOf(at, blob))
            else if (kind === 'gave') parts.gave(at, hashOf(at, blob))
            else parts.drop(at)
            states.data.push(await copyOf(kept.data))
            states.index.push(await copyOf(kept.index))
          }
          const data = await damagedFile(states.data, toData)
          const index = await damagedFile(states.index, toIndex)
          const after = await partStore(4 * BLOCK_BYTES, { data, index })
          for (const [owner, blob, others] of [
            [MINE, BLOB, OTHER],
            [THEIRS, OTHER, BLOB],
          ] as const) {
            const parts = new BlobParts(after, layout, owner)
            await readAll(parts, blob)
            for (let chunk = 0; chunk < layout.count; chunk++) {
              assert.ok(!parts.hasGiven(chunk, hashOf(chunk, others)), 'it gave what others gave')
              const wasGiven = deeds.some(
                ({ kind, isMine, at }) => kind === 'gave' && at === chunk && isMine === (owner === MINE),
              )
              assert.ok(wasGiven || !parts.hasGiven(chunk, hashOf(chunk, blob)), 'it gave what it did not')
            }
          }
        },
      ),
      { numRuns: 40, seed: 5 },
    )
  })

  it('lie in two files that only their owner may read, and a foreign index is begun anew', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'darter-parts-'))
    const lines: string[] = []
    const log = createLogger({
      level: 'warn',
      name: 'test',
      destination: { write: line => void lines.push(line) },
    })
    try {
      const fill = async (): Promise<number> => {
        const store = await openPartStore(directory, 1e9, log)
        const parts = new BlobParts(store, layout, MINE)
        const found = await readAll(parts)
        for (const block of [0, 1]) await parts.keep(block, blockOf(block))
        await store.close()
        return found.length
      }
      assert.deepEqual([await fill(), await fill()], [0, 2])
      const names = await readdir(directory)
      assert.deepEqual(names.toSorted(), ['ranges.data', 'ranges.index'])
      for (const name of names) assert.equal((await stat(join(directory, name))).mode & 0o777, 0o600)
      assert.deepEqual(lines, [])
      const path = join(directory, 'ranges.index')
      await writeFile(path, Buffer.concat([Buffer.from('D'), (await readFile(path)).subarray(1)]))
      assert.deepEqual([await fill(), await fill(), lines.length], [0, 2, 1])
    } finally {
      await rm(directory, { recursive: true })
    }
  })
})
