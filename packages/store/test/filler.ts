/**
 * A program for a small disk: `node filler.ts <directory> [ballast]` fills the disk with chunks (and with ballast, behind
 * the store's back), and prints what came of it as one JSON object.
 */
import { rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sampleBlob } from '../src/sample-blob.ts'
import { CHUNK, diskStore, keep } from './support.ts'

const [directory = '', ballast] = process.argv.slice(2)
const store = await diskStore(join(directory, 'store'))
const removed: string[] = []
store.onRemoved(digest => removed.push(digest))
const old = [1, 2, 3].map(seed => sampleBlob(CHUNK, seed))
for (const sample of old) await keep(store, sample)

if (ballast !== undefined) {
  const { bavail, bsize } = await statfs(directory)
  await writeFile(join(directory, 'ballast'), Buffer.alloc(Math.max(0, bavail * bsize - CHUNK)))
}

const large = sampleBlob(8 * CHUNK, 4)
const blob = await store.open(large.digest, large.layout.size)
const results: string[] = []
for (let index = 0; index < large.layout.count; index++) {
  results.push(await blob.writeChunk(index, large.chunk(index), large.hash(index)))
}
const target = Buffer.alloc(CHUNK)
let right = 0
for (const index of blob.held.indices()) {
  await blob.readChunk(index, 0, target)
  if (target.equals(large.chunk(index))) right++
}
const { bytes } = store.usage()
blob.release()
await rm(join(directory, 'ballast'), { force: true })
await store.close()
const again = await diskStore(join(directory, 'store'))
const { dropped } = await again.recovered
process.stdout.write(
  JSON.stringify({
    results,
    right,
    heldBytes: bytes,
    evicted: removed.map(digest => old.findIndex(sample => sample.digest === digest)),
    dropped,
    heldAfterwards: again.list().map(({ heldChunks }) => heldChunks),
  }),
)
await again.close()
