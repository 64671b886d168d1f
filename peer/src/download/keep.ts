import type { StoredBlob } from '@darter/store'
import type { BlobSource } from './contract.ts'
import { Download } from './download.ts'
import { StoreFullError } from './errors.ts'

/**
 * Waits until all of a blob is in the store. It is a caller like those that read the blob, so that the download goes on to
 * its end, but nothing is read back. `onHeld` is told how many bytes are held, about.
 * @throws {StoreFullError} when there is no room; what the download throws; the signal's reason.
 */
export async function keepWhole(
  found: Download | StoredBlob,
  source: BlobSource,
  onHeld: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  if (!(found instanceof Download)) {
    const { size } = found.layout
    found.release()
    onHeld(size)
    return
  }
  const { digest, layout, held } = found.stored
  const reader = found.addReader({ from: 0, to: layout.size }, source)
  try {
    for (let chunk = 0; chunk < layout.count; chunk++) {
      if ((await reader.wait(chunk, signal)) === 'pass-through') throw new StoreFullError(digest)
      onHeld(Math.min(layout.size, held.count * layout.chunkBytes))
    }
  } finally {
    reader.end(held.count === layout.count)
  }
}
