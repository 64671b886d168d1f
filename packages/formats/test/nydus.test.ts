import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gunzipSync, gzipSync } from 'node:zlib'
import { parseDigest } from '@darter/oci'
import fc from 'fast-check'
import { packTar } from 'modern-tar'
import type { LayerHint } from '../src/index.ts'
import { rafsOrder } from '../src/rafs.ts'
import { digestOf, fixture, planOf, SEED } from './support.ts'

/** The data blobs of the images whose bootstrap layers are here: size and sha256. */
const BLOBS = {
  'nydus-v5': { size: 5264, id: 'e5c61645b4e8f51375b288e3e0d67a4bc5df56e229716812a45f2d07d043606d' },
  'nydus-v6': { size: 9513, id: '6e698e73b81dd7e8fbf9d2bd0c191dee439bbc36424954285f4c0c185f5431ad' },
  'nydus-v5-blob': { size: 5264, id: '3cc7d71281fa4a6b38b26c6e3ee9f8d3dbcdaf7ec51493a92cb6770dc493f6e0' },
  'nydus-v6-directory': {
    size: 5934,
    id: '2aaae199b922ab96f68e84a36570bc498c043501cd55b9e04f7a2998dc44f44a',
  },
} as const

type Name = keyof typeof BLOBS
const names = Object.keys(BLOBS) as Name[]

const orderOf = (name: Name, layer: Uint8Array = fixture(`${name}.tar.gz`)) => {
  const { size, id } = BLOBS[name]
  const bootstrap = { digest: digestOf(layer), size: layer.length }
  const hint: LayerHint = { format: 'nydus', bootstrap }
  return planOf(hint, Buffer.alloc(size), [layer], parseDigest(`sha256:${id}`))
}

/** The file in a bootstrap layer, as this tar has it: one directory, one file. */
const bootstrapOf = (name: Name): Buffer => {
  const archive = gunzipSync(fixture(`${name}.tar.gz`))
  const size = Number.parseInt(archive.toString('latin1', 512 + 124, 512 + 135), 8)
  return archive.subarray(1024, 1024 + size)
}

const packed = async (name: string, data: Uint8Array) =>
  gzipSync(await packTar([{ header: { name, size: data.length }, body: data }]))

// Where the files lie is what `nydus-image check --verbose` says of these bootstraps.

test('RAFS v5: the files of the prefetch table in its order, the chunks of one file together', async () => {
  assert.deepEqual(await orderOf('nydus-v5'), [
    { from: 2481, to: 3719 }, // data/f3, which has extended attributes
    { from: 1249, to: 2481 }, // data/deep, a directory whose one file is further down
    { from: 0, to: 1249 }, // bin/app
  ])
})

test('RAFS v6: the blob’s own table, then the same', async () => {
  assert.deepEqual(await orderOf('nydus-v6'), [
    { from: 5264, to: 9513 },
    { from: 2481, to: 3719 },
    { from: 1249, to: 2481 },
    { from: 0, to: 1249 },
  ])
})

test('RAFS v6: a directory of several blocks', async () => {
  assert.deepEqual(await orderOf('nydus-v6-directory'), [
    { from: 1369, to: 5934 },
    { from: 0, to: 1350 },
  ])
})

test('RAFS v5: what the table of blobs says is to be read ahead', async () => {
  assert.deepEqual(await orderOf('nydus-v5-blob'), [{ from: 0, to: 1238 }])
})

test('nothing is known of another blob, nor from a layer that holds no bootstrap', async () => {
  const bootstrap = bootstrapOf('nydus-v6')
  assert.deepEqual(rafsOrder(bootstrap, 'f'.repeat(64), 9513), [])
  assert.deepEqual(await orderOf('nydus-v6', await packed('image/other', bootstrap)), [])
  assert.deepEqual(await orderOf('nydus-v6', Buffer.from('no archive')), [])
  assert.equal((await orderOf('nydus-v6', await packed('./image/image.boot', bootstrap))).length, 4)
})

test('a layer that unpacks to more than 64 MiB is given up', async () => {
  const large = gzipSync(
    await packTar([
      { header: { name: 'filler', size: 65 * 2 ** 20 }, body: new Uint8Array(65 * 2 ** 20) },
      { header: { name: 'image/image.boot', size: 4 }, body: new Uint8Array(4) },
    ]),
    { level: 1 },
  )
  assert.deepEqual(await orderOf('nydus-v6', large), [])
})

test('whatever was damaged in a bootstrap, its parts lie within the blob', () => {
  const bootstraps = names.map(name => ({ ...BLOBS[name], bytes: bootstrapOf(name) }))
  const damage = fc.record({
    of: fc.constantFrom(...bootstraps),
    marks: fc.array(
      fc.record({
        // Superblocks and tables lie at the front.
        at: fc.oneof(fc.nat({ max: 1500 }), fc.nat({ max: 20_000 })),
        bytes: fc.oneof(
          fc.uint8Array({ minLength: 1, maxLength: 8 }),
          fc.constantFrom(new Uint8Array(4).fill(0xff), new Uint8Array(8).fill(0x7f)),
        ),
      }),
      { maxLength: 6 },
    ),
    cut: fc.option(fc.nat({ max: 20_000 })),
  })
  fc.assert(
    fc.property(damage, ({ of: { bytes, id, size }, marks, cut }) => {
      const damaged = Buffer.from(bytes)
      for (const { at, bytes: mark } of marks)
        damaged.set(mark.subarray(0, damaged.length - at), Math.min(at, damaged.length))
      const extents = rafsOrder(damaged.subarray(0, damaged.length - (cut ?? 0)), id, size)
      assert(extents.length <= 4096)
      for (const { from, to } of extents) assert(from >= 0 && from < to && to <= size)
    }),
    { ...SEED, numRuns: 2000 },
  )
})

test('a bootstrap that names one large file again and again is left soon', () => {
  const count = 60_000
  const bytes = Buffer.alloc(4 * 2 ** 20)
  const [inodes, prefetched, blobs, inode] = [
    8192,
    8192 + count * 4,
    8192 + count * 8,
    8192 + count * 8 + 128,
  ]
  bytes.writeUInt32LE(0x52414653, 0)
  bytes.writeUInt32LE(0x500, 4)
  for (const [at, offset] of [inodes, prefetched, blobs].entries()) bytes.writeUInt32LE(offset, 32 + at * 8)
  bytes.writeUInt32LE(count, 56)
  bytes.writeUInt32LE(count, 60)
  bytes.writeUInt32LE(72, 64)
  bytes.write('a'.repeat(64), blobs + 8)
  for (let ino = 0; ino < count; ino++) {
    bytes.writeUInt32LE(inode / 8, inodes + ino * 4)
    bytes.writeUInt32LE(ino + 1, prefetched + ino * 4)
  }
  bytes.writeUInt32LE(0o100_644, inode + 60)
  const chunks = Math.floor((bytes.length - inode - 128) / 80)
  bytes.writeUInt32LE(chunks, inode + 96)
  for (let chunk = 0; chunk < chunks; chunk++) bytes.writeUInt32LE(1, inode + 128 + chunk * 80 + 32)
  const began = performance.now()
  assert.deepEqual(rafsOrder(bytes, 'a'.repeat(64), 1000), [])
  assert(performance.now() - began < 2000)
})
