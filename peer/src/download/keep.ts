import type { StoredBlob } from '@darter/store'
import type { BlobSource } from './contract.ts'
import { Download } from './download.ts'
import type { DownloadKeeper } from './download-contract.ts'
import { StoreFullError } from './errors.ts'

/**
 * Waits until all of a blob is in the store. It is a caller like those that read the blob, so that the download goes on to
 * its end, but nothing is read back. `onHeld` is told how many bytes are held, about. Until `background` aborts nobody waits
 * for the blob.
 * @throws {StoreFullError} when there is no room; what the download throws; the signal's reason.
 */
export async function keepWhole(
  found: Download | StoredBlob,
  source: BlobSource,
  options: {
    readonly onHeld: (bytes: number) => void
    readonly background?: AbortSignal | undefined
    readonly signal: AbortSignal
  },
): Promise<void> {
  const { onHeld, background, signal } = options
  if (!(found instanceof Download)) {
    const { size } = found.layout
    found.release()
    onHeld(size)
    return
  }
  const { digest, layout, held } = found.stored
  const keeper = background === undefined ? undefined : found.addKeeper(source)
  try {
    if (keeper !== undefined && background !== undefined) {
      const place = await inBackground(keeper, background, signal)
      if (place === 'pass-through') throw new StoreFullError(digest)
      if (place !== 'hurry') return
    }
    const reader = found.addReader({ from: 0, to: layout.size }, source)
    keeper?.end()
    try {
      for (let chunk = 0; chunk < layout.count; chunk++) {
        if ((await reader.wait(chunk, signal)) === 'pass-through') throw new StoreFullError(digest)
        onHeld(Math.min(layout.size, held.count * layout.chunkBytes))
      }
    } finally {
      reader.end(held.count === layout.count)
    }
  } finally {
    keeper?.end()
  }
}

/** How the blob came, or that somebody waits for it now. */
async function inBackground(keeper: DownloadKeeper, background: AbortSignal, signal: AbortSignal) {
  try {
    return await keeper.whole(AbortSignal.any([background, signal]))
  } catch (error) {
    if (signal.aborted || !background.aborted) throw error
    return 'hurry'
  }
}
