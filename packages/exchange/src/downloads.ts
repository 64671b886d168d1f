import { createHash, type Hash } from 'node:crypto'
import type { Digest } from '@darter/oci'
import type { ChunkBuffers } from '@darter/runtime'
import type { Refusal } from '@darter/wire'
import type { FetchedChunk, FetchOptions } from './contract.ts'
import { ChunkRefusedError, LinkProtocolError } from './errors.ts'

/** Bytes that are hashed at a time: large enough to be cheap, small enough not to hold up the loop. */
const HASH_STRIDE = 256 * 1024
/** The progress of a chunk is told again after so many bytes, or a 16th of it where that is more. */
const PROGRESS_STRIDE = 64 * 1024
const MAX_ID = 2 ** 32 - 1
/** How often a request may be said to wait: twice a second for 10 s. */
const MAX_WAITS = 20

/** The chunks that were asked for over one link and have not come yet. */
export interface Downloads {
  /** How many the other side still owes an answer for, those included that are no longer wanted. */
  readonly owed: number
  /** How many are still wanted. */
  readonly wanted: number
  /** Asks for a chunk. @throws as {@link Link.fetch} says. */
  fetch(blob: Digest, chunk: number, length: number, options: FetchOptions): Promise<FetchedChunk>
  /** @throws {LinkProtocolError} for bytes that were not asked for. */
  piece(id: number, bytes: Uint8Array): void
  /** The other side says that a request waits for its turn; false when it has said so too often, or the request has been answered meanwhile. */
  waits(id: number): boolean
  /** @throws {LinkProtocolError} */
  end(id: number): void
  /** @throws {LinkProtocolError} */
  refused(id: number, reason: Refusal): void
  /** Fails whatever is still wanted. */
  fail(error: Error): void
}

interface Download {
  readonly length: number
  /** The chunk as far as it came; nothing is allocated before its first byte. */
  bytes: Uint8Array | undefined
  filled: number
  hashed: number
  /** As far as progress was told. */
  told: number
  waits: number
  readonly hash: Hash
  readonly onProgress: FetchOptions['onProgress']
  /** Undefined once no one wants it any more. */
  settle: { resolve(chunk: FetchedChunk): void; reject(error: unknown): void } | undefined
}

/** {@link Downloads} for one link. */
export function createDownloads(options: {
  readonly peerId: string
  readonly request: (id: number, blob: Digest, chunk: number) => void
  readonly cancel: (id: number) => void
  readonly buffers: ChunkBuffers
}): Downloads {
  const { peerId, request, cancel, buffers } = options
  const downloads = new Map<number, Download>()
  let lastId = 0
  let wanted = 0

  const nextId = (): number => {
    do lastId = lastId === MAX_ID ? 1 : lastId + 1
    while (downloads.has(lastId))
    return lastId
  }
  const known = (id: number): Download => {
    const download = downloads.get(id)
    if (download === undefined) throw new LinkProtocolError(peerId, 'an answer to no request')
    return download
  }
  /** The promise's ends, of a download that is wanted no more. */
  const take = (download: Download): Download['settle'] => {
    const { settle } = download
    download.settle = undefined
    if (settle !== undefined) wanted--
    return settle
  }
  const discard = (download: Download) => {
    if (download.bytes !== undefined) buffers.give(download.bytes)
    download.bytes = undefined
  }
  const hashUpTo = (download: Download, end: number) => {
    if (download.bytes !== undefined) download.hash.update(download.bytes.subarray(download.hashed, end))
    download.hashed = end
  }

  return {
    get owed() {
      return downloads.size
    },
    get wanted() {
      return wanted
    },
    fetch: async (blob, chunk, length, { signal, onProgress }) => {
      signal.throwIfAborted()
      const { promise, resolve, reject } = Promise.withResolvers<FetchedChunk>()
      const id = nextId()
      const download: Download = {
        length,
        bytes: undefined,
        filled: 0,
        hashed: 0,
        told: 0,
        waits: 0,
        onProgress,
        hash: createHash('sha256'),
        settle: { resolve, reject },
      }
      downloads.set(id, download)
      wanted++
      const onAbort = () => {
        const settle = take(download)
        if (settle === undefined) return
        discard(download)
        cancel(id)
        settle.reject(signal.reason)
      }
      signal.addEventListener('abort', onAbort, { once: true })
      try {
        request(id, blob, chunk)
        return await promise
      } finally {
        signal.removeEventListener('abort', onAbort)
      }
    },
    piece: (id, bytes) => {
      const download = known(id)
      const end = download.filled + bytes.length
      if (end > download.length) {
        throw new LinkProtocolError(
          peerId,
          `a chunk of ${download.length} bytes was asked for, and more is coming`,
        )
      }
      if (download.settle !== undefined) {
        download.bytes ??= buffers.take(download.length)
        download.bytes.set(bytes, download.filled)
        if (end - download.hashed >= HASH_STRIDE || end === download.length) hashUpTo(download, end)
        const isNews = end - download.told >= Math.max(PROGRESS_STRIDE, download.length / 16)
        if (isNews || download.filled === 0 || end === download.length) {
          download.told = end
          download.onProgress?.(end)
        }
      }
      download.filled = end
    },
    waits: id => {
      const download = downloads.get(id)
      return download !== undefined && ++download.waits <= MAX_WAITS
    },
    end: id => {
      const download = known(id)
      downloads.delete(id)
      const settle = take(download)
      if (settle === undefined) return
      if (download.filled < download.length) {
        const error = new LinkProtocolError(
          peerId,
          `a chunk of ${download.length} bytes was asked for, ${download.filled} came`,
        )
        settle.reject(error)
        throw error
      }
      const bytes = download.bytes ?? new Uint8Array(0)
      settle.resolve({ bytes, hash: download.hash.digest(), release: () => discard(download) })
    },
    refused: (id, reason) => {
      const download = known(id)
      downloads.delete(id)
      discard(download)
      take(download)?.reject(new ChunkRefusedError(peerId, reason))
    },
    fail: error => {
      for (const download of downloads.values()) {
        discard(download)
        take(download)?.reject(error)
      }
      downloads.clear()
    },
  }
}
