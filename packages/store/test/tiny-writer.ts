/**
 * A program for a disk on which the index can't grow: `node tiny-writer.ts <directory>` writes tiny blobs until the store
 * takes no more, and prints how many it took.
 */
import { createHash } from 'node:crypto'
import { parseDigest } from '@darter/oci'
import { diskStore } from './support.ts'

const [directory = ''] = process.argv.slice(2)
const store = await diskStore(directory)
for (let stored = 0; ; stored++) {
  const bytes = Buffer.from(`blob ${stored}`)
  const hash = createHash('sha256').update(bytes).digest()
  const blob = await store.open(parseDigest(`sha256:${hash.toString('hex')}`), bytes.length)
  const result = await blob.writeChunk(0, bytes, hash)
  blob.release()
  if (result === 'stored') continue
  process.stdout.write(String(stored))
  break
}
// Not closed: the index could not be written.
process.exit()
