import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import type { LayerHint } from '../src/index.ts'
import { fixture, planOf, SEED } from './support.ts'

const ESTARGZ: LayerHint = { format: 'estargz' }
const BY_FOOTER: LayerHint = { format: 'zstd:chunked', tables: [] }

test('eStargz: the footer, then the table of contents, then the files that were put first', async () => {
  const blob = fixture('estargz-prioritized.tgz')
  const [footer, toc, first, ...more] = await planOf(ESTARGZ, blob)
  assert.deepEqual(more, [])
  assert.deepEqual(footer, { from: blob.length - 51, to: blob.length })
  assert.equal(toc?.to, footer.from)
  assert.match(gunzipSync(blob.subarray(toc.from, toc.to)).toString(), /^stargz\.index\.json/)
  // What lies before the landmark: the two files that the image's author named, and none after them.
  assert.equal(first?.from, 0)
  const before = gunzipSync(blob.subarray(0, first.to)).toString()
  assert(before.includes('bin/app') && before.includes('etc/motd') && !before.includes('data/'))
})

test('eStargz without files that come first', async () => {
  assert.equal((await planOf(ESTARGZ, fixture('estargz.tgz'))).length, 2)
})

test('zstd:chunked: the tables where the annotations say, else where the footer says', async () => {
  const blob = fixture('zstd-chunked.zst')
  const tables = [
    { from: 7128, to: 7128 + 712 },
    { from: 7848, to: 7848 + 1640 },
  ]
  assert.deepEqual(await planOf({ format: 'zstd:chunked', tables }, blob), tables)
  assert.deepEqual(await planOf(BY_FOOTER, blob), [{ from: blob.length - 64, to: blob.length }, ...tables])
})

test('zstd:chunked as stargz-snapshotter writes it: the footer of 40 bytes, and files that come first', async () => {
  const blob = fixture('zstd-chunked-prioritized.zst')
  const [footer, toc, first, ...more] = await planOf(BY_FOOTER, blob)
  assert.deepEqual(more, [])
  assert.deepEqual(footer, { from: blob.length - 64, to: blob.length })
  assert.deepEqual(toc, { from: 7276, to: 7276 + 779 })
  const { entries } = JSON.parse(zstdDecompressSync(blob.subarray(toc.from, toc.to)).toString()) as {
    entries: { name: string; offset: number }[]
  }
  const landmark = entries.find(({ name }) => name === '.prefetch.landmark')
  assert.deepEqual(first, { from: 0, to: landmark?.offset })
})

test('a blob of another format than its annotations say costs its footer alone', async () => {
  for (const hint of [ESTARGZ, BY_FOOTER]) {
    assert.equal((await planOf(hint, Buffer.alloc(4096, 7))).length, 1)
    assert.equal((await planOf(hint, Buffer.from('x'))).length, 1)
    assert.equal((await planOf(hint, Buffer.alloc(0))).length, 0)
  }
})

test('a table that lies about itself ends the plan', async () => {
  const blob = fixture('estargz-prioritized.tgz')
  const [, toc] = await planOf(ESTARGZ, blob)
  assert(toc)
  const broken = Buffer.from(blob).fill(0xff, toc.from, toc.to)
  assert.equal((await planOf(ESTARGZ, broken)).length, 2)
  const far = Buffer.from(blob)
  far.write('ffffffffffffffff', blob.length - 51 + 16, 'latin1')
  assert.equal((await planOf(ESTARGZ, far)).length, 1)
})

test('whatever was damaged, a plan ends and stays within its blob', async () => {
  const blobs = [
    { hint: ESTARGZ, blob: fixture('estargz-prioritized.tgz') },
    { hint: BY_FOOTER, blob: fixture('zstd-chunked-prioritized.zst') },
    { hint: BY_FOOTER, blob: fixture('zstd-chunked.zst') },
  ]
  const damage = fc.record({
    of: fc.constantFrom(...blobs),
    // Counted from the end, where the footer is.
    at: fc.oneof(fc.nat({ max: 64 }), fc.nat({ max: 3000 })),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 16 }),
    cut: fc.option(fc.nat({ max: 4000 })),
  })
  await fc.assert(
    fc.asyncProperty(damage, async ({ of: { hint, blob }, at, bytes, cut }) => {
      const damaged = Buffer.from(blob)
      damaged.set(bytes.subarray(0, at), blob.length - at)
      await planOf(hint, damaged.subarray(0, damaged.length - (cut ?? 0)))
    }),
    { ...SEED, numRuns: 300 },
  )
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(ESTARGZ, BY_FOOTER),
      fc.uint8Array({ maxLength: 200 }),
      async (hint, bytes) => {
        await planOf(hint, bytes)
      },
    ),
    SEED,
  )
})
