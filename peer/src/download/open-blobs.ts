import type { Digest } from '@darter/oci'
import type { ChunkStore, StoredBlob } from '@darter/store'
import { LRUCache } from 'lru-cache'

const OPEN_BLOBS = 64
const OPEN_BLOB_MS = 30_000

/** A blob in the store that chunks are read from for a while. */
export interface BlobUse {
  /** Undefined when the store does not know the blob. */
  readonly stored: StoredBlob | undefined
  /** Ends this use; a second call does nothing. */
  release(): void
}

/** Handles on the blobs that neighbours ask for, chunk after chunk: each is opened once and kept for a while. */
export class OpenBlobs {
  readonly #store: ChunkStore
  readonly #handles = new LRUCache<Digest, SharedHandle>({
    max: OPEN_BLOBS,
    ttl: OPEN_BLOB_MS,
    ttlAutopurge: true,
    dispose: handle => handle.close(),
  })

  constructor(store: ChunkStore) {
    this.#store = store
  }

  /** @throws what opening the blob throws. */
  async use(blob: Digest): Promise<BlobUse> {
    const handle = this.#handle(blob)
    const release = handle.use()
    try {
      return { stored: await handle.stored, release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Forgets the handle on a blob; whoever uses it goes on. */
  close(blob: Digest): void {
    this.#handles.delete(blob)
  }

  closeAll(): void {
    this.#handles.clear()
  }

  #handle(blob: Digest): SharedHandle {
    const known = this.#handles.get(blob)
    if (known !== undefined) return known
    const opened = new SharedHandle(this.#store.find(blob), () => {
      if (this.#handles.peek(blob) === opened) this.#handles.delete(blob)
    })
    this.#handles.set(blob, opened)
    return opened
  }
}

/** A handle that stays open while chunks are read through it, though it was closed meanwhile. */
class SharedHandle {
  readonly stored: Promise<StoredBlob | undefined>
  #users = 1
  #closed = false

  /** `onVain` is called when there turns out to be nothing to read. */
  constructor(opening: Promise<StoredBlob | undefined>, onVain: () => void) {
    this.stored = opening
    opening.then(stored => {
      if (stored === undefined) onVain()
    }, onVain)
  }

  /** Counts a user; the result ends its use, once. */
  use(): () => void {
    this.#users++
    let done = false
    return () => {
      if (done) return
      done = true
      this.#leave()
    }
  }

  /** Takes no new users. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#leave()
  }

  #leave(): void {
    this.#users--
    if (this.#users > 0) return
    this.stored.then(
      stored => stored?.release(),
      // Whoever asked for it was told.
      () => {},
    )
  }
}
