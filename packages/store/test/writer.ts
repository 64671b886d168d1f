/**
 * A program to be killed: `node writer.ts <directory> <seed> [completeEvery]` writes blobs of four chunks for as long as
 * it lives, and prints the seed and index of each chunk once the store took it.
 */
import { sampleBlob } from '../src/sample-blob.ts'
import { CHUNK, diskStore } from './support.ts'

const [directory = '', seed = '0'] = process.argv.slice(2)
const store = await diskStore(directory)
for (let next = Number(seed); ; next++) {
  const sample = sampleBlob(4 * CHUNK - 1, next)
  const blob = await store.open(sample.digest, sample.layout.size)
  await Promise.all(
    [0, 1, 2, 3].map(async index => {
      await blob.writeChunk(index, sample.chunk(index), sample.hash(index))
      process.stdout.write(`${next} ${index}\n`)
    }),
  )
  if (next % 3 === 0) await blob.markComplete('digest')
  if (next % 3 === 1) await blob.dropChunk(0)
  blob.release()
}
