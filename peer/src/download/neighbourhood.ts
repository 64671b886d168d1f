import type { Exchange, Link, ServedChunk } from '@darter/exchange'
import type { Digest } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import type { ChunkStore, StoredBlob } from '@darter/store'
import { Bitfield, chunkLayout } from '@darter/swarm'
import type { LinkMessage, PeerAddress } from '@darter/wire'
import { LRUCache } from 'lru-cache'

const OPEN_BLOBS = 64
const OPEN_BLOB_MS = 30_000
const MAX_INTERESTS_PER_LINK = 4_096
const HASH_BYTES = 32

/** What a download hears from its neighbours' links. */
export interface LinkedDownload {
  readonly stored: StoredBlob
  /** A neighbour said what it holds: `hashes` has 32 bytes for each chunk of `held`, ascending. */
  linkHolds(link: Link, held: Bitfield, hashes: Uint8Array): void
  linkHave(link: Link, chunk: number, hash: Uint8Array): void
  linkLost(link: Link, chunk: number): void
  /** `reason`: when it did not end in order. */
  linkClosed(peerId: string, reason: Error | undefined): void
}

/** This peer among its neighbours: routes what links say, tells what is held, serves chunks. */
export interface Neighbourhood {
  /** The open link to a peer. */
  linkTo(peerId: string): Link | undefined
  /** All open links: whom to ask while no scheduler says who has what. */
  openLinks(): Iterable<Link>
  /** Opens a link, or returns the open one. */
  connect(peer: PeerAddress, signal: AbortSignal): Promise<Link>
  /** Says to a neighbour that this peer downloads a blob, and what it holds of it already. */
  interest(link: Link, stored: StoredBlob): void
  /** Says to a neighbour that the blob is of no interest any more. */
  leave(peerId: string, blob: Digest): void
  /** Tells those who are interested that a chunk is held now. */
  pushHave(blob: Digest, chunk: number, hash: Uint8Array): void
  /** Tells those who are interested that a chunk is gone. */
  pushLost(blob: Digest, chunk: number): void
  /** What a neighbour's request for a chunk is answered with. */
  serve(blob: Digest, chunk: number): Promise<ServedChunk | 'missing' | 'busy'>
  /** Forgets the open handle on a blob. */
  closeBlob(blob: Digest): void
  close(): void
}

/** Connects links to downloads and to the store. */
export function createNeighbourhood(options: {
  readonly exchange: Pick<Exchange, 'link' | 'onLink'>
  readonly store: ChunkStore
  readonly findDownload: (blob: Digest) => LinkedDownload | undefined
  readonly downloads: () => Iterable<LinkedDownload>
  readonly log: Logger
}): Neighbourhood {
  const { exchange, store, log } = options
  const links = new Map<string, Link>()
  const interested = new Map<Digest, Set<Link>>()
  const interests = new Map<Link, Set<Digest>>()
  // Handles on blobs that neighbours ask for, chunk after chunk.
  const openBlobs = new LRUCache<Digest, SharedHandle>({
    max: OPEN_BLOBS,
    ttl: OPEN_BLOB_MS,
    ttlAutopurge: true,
    dispose: opened => opened.close(),
  })

  const forget = (link: Link, blob: Digest): void => {
    interests.get(link)?.delete(blob)
    const others = interested.get(blob)
    others?.delete(link)
    if (others?.size === 0) interested.delete(blob)
  }

  const tell = (blob: Digest, message: LinkMessage): void => {
    for (const link of interested.get(blob) ?? []) link.send(message)
  }

  const onInterest = async (link: Link, message: LinkMessage & { type: 'interest' }): Promise<void> => {
    const mine = interests.get(link)
    if (mine === undefined) return
    if (mine.size >= MAX_INTERESTS_PER_LINK) {
      log.warn({ peer: link.peerId }, 'a neighbour is interested in too many blobs; some are ignored')
      return
    }
    mine.add(message.blob)
    const others = interested.get(message.blob) ?? new Set()
    interested.set(message.blob, others.add(link))
    const download = options.findDownload(message.blob)
    if (download !== undefined) {
      if (download.stored.layout.size !== message.size) return
      download.linkHolds(link, Bitfield.fromBytes(download.stored.layout.count, message.held), message.hashes)
      link.send(holdsOf(download.stored))
      return
    }
    const stored = await store.find(message.blob)
    if (stored === undefined) return
    if (stored.layout.size === message.size) link.send(holdsOf(stored))
    stored.release()
  }

  const onMessage = (link: Link, message: LinkMessage): void => {
    if (message.type === 'interest') {
      onInterest(link, message).catch(error =>
        log.warn({ peer: link.peerId, err: error }, 'an interest failed'),
      )
      return
    }
    const download = options.findDownload(message.blob)
    switch (message.type) {
      case 'holds':
        if (download !== undefined && download.stored.layout.size === message.size) {
          download.linkHolds(
            link,
            Bitfield.fromBytes(download.stored.layout.count, message.held),
            message.hashes,
          )
        }
        break
      case 'have':
        download?.linkHave(link, message.chunk, message.hash)
        break
      case 'lost':
        download?.linkLost(link, message.chunk)
        break
      case 'leave':
        forget(link, message.blob)
        break
    }
  }

  const stopListening = exchange.onLink(link => {
    links.set(link.peerId, link)
    interests.set(link, new Set())
    link.onMessage(message => onMessage(link, message))
    link.onClose(reason => {
      for (const blob of interests.get(link) ?? []) forget(link, blob)
      interests.delete(link)
      if (links.get(link.peerId) !== link) return
      links.delete(link.peerId)
      if (reason !== undefined) log.info({ peer: link.peerId, err: reason.message }, 'a link broke')
      for (const download of options.downloads()) download.linkClosed(link.peerId, reason)
    })
  })

  const open = (blob: Digest): SharedHandle => {
    const known = openBlobs.get(blob)
    if (known !== undefined) return known
    const opened = new SharedHandle(store.find(blob), () => {
      if (openBlobs.peek(blob) === opened) openBlobs.delete(blob)
    })
    openBlobs.set(blob, opened)
    return opened
  }

  return {
    linkTo: peerId => links.get(peerId),
    openLinks: () => links.values(),
    connect: (peer, signal) => exchange.link(peer, { signal }),
    interest: (link, stored) => {
      link.send({ ...holdsOf(stored), type: 'interest' })
    },
    leave: (peerId, blob) => {
      links.get(peerId)?.send({ type: 'leave', blob })
    },
    pushHave: (blob, chunk, hash) => tell(blob, { type: 'have', blob, chunk, hash }),
    pushLost: (blob, chunk) => tell(blob, { type: 'lost', blob, chunk }),
    serve: async (blob, chunk) => {
      // Never the download's own handle: it may end while the chunk is being sent.
      const handle = open(blob)
      const release = handle.use()
      try {
        const stored = await handle.stored
        if (stored === undefined || !stored.held.has(chunk)) {
          release()
          return 'missing'
        }
        const length = stored.layout.length(chunk)
        return { length, read: (offset, target) => stored.readChunk(chunk, offset, target), release }
      } catch (error) {
        release()
        throw error
      }
    },
    closeBlob: blob => {
      openBlobs.delete(blob)
    },
    close: () => {
      stopListening()
      openBlobs.clear()
    },
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

function holdsOf(stored: StoredBlob): LinkMessage & { type: 'holds' } {
  const hashes = Buffer.allocUnsafe(stored.held.count * HASH_BYTES)
  let at = 0
  const held = new Bitfield(chunkLayout(stored.layout.size).count)
  for (const chunk of stored.held.indices()) {
    const hash = stored.chunkHash(chunk)
    if (hash === undefined) continue
    held.set(chunk)
    hashes.set(hash, at)
    at += HASH_BYTES
  }
  return {
    type: 'holds',
    blob: stored.digest,
    size: stored.layout.size,
    held: held.toBytes(),
    hashes: hashes.subarray(0, at),
  }
}
