import type { ChunkSource, Exchange, Link } from '@darter/exchange'
import type { Digest } from '@darter/oci'
import { abortable, type Clock, type Logger } from '@darter/runtime'
import type { ChunkStore, StoredBlob } from '@darter/store'
import { Bitfield, chunkLayout, type Random } from '@darter/swarm'
import type { Introduction, LinkMessage, PeerAddress } from '@darter/wire'
import { OpenBlobs } from './open-blobs.ts'
import { Uploader } from './uploader.ts'

const MAX_INTERESTS_PER_LINK = 4_096
const HASH_BYTES = 32

/** What a download hears from its neighbours' links. */
export interface LinkedDownload {
  readonly stored: StoredBlob
  /** A neighbour said what it holds: `hashes` has 32 bytes for each chunk of `held`, ascending. */
  linkHolds(link: Link, held: Bitfield, hashes: Uint8Array): void
  linkHave(link: Link, chunk: number, hash: Uint8Array): void
  linkLost(link: Link, chunk: number): void
  /** A neighbour has asked someone else for a chunk. */
  linkExpects(link: Link, chunk: number): void
  /** A neighbour may be asked for a chunk now, and suggests one. */
  linkSlot(link: Link, chunk: number): void
  /** `reason`: when it did not end in order. */
  linkClosed(peerId: string, reason: Error | undefined): void
}

/** This peer among its neighbours: routes what links say, tells what is held, serves chunks. */
export interface Neighbourhood {
  /** The open link to a peer. */
  linkTo(peerId: string): Link | undefined
  /** All open links: whom to ask while no scheduler says who has what. */
  openLinks(): Iterable<Link>
  /**
   * Opens a link, or returns the open one. The attempt goes on when the signal aborts: the blob that it was for may be done, and
   * the next one is likely to be wanted from the same neighbour.
   */
  connect(peer: PeerAddress, signal: AbortSignal): Promise<Link>
  /** Says to a neighbour that this peer downloads a blob, and what it holds of it already. */
  interest(link: Link, stored: StoredBlob): void
  /** Says to a neighbour that the blob is of no interest any more. */
  leave(peerId: string, blob: Digest): void
  /** Counts a chunk as asked of a neighbour until `fetch` has settled, and tells the others that it is expected. */
  expecting<T>(blob: Digest, chunk: number, from: string, fetch: () => Promise<T>): Promise<T>
  /** Tells a neighbour that its slot is of no use, or (`want`) that slots would be again. */
  answerSlot(peerId: string, type: 'pass' | 'want', blob: Digest): void
  /** Says how soon a chunk will be whole, so that it can be offered. */
  chunkComing(blob: Digest, chunk: number, inMs: number): void
  /** It was said to come, and does not. */
  chunkMissed(blob: Digest, chunk: number): void
  /** Tells those who are interested that a chunk is held now. */
  pushHave(blob: Digest, chunk: number, hash: Uint8Array): void
  /** Tells those who are interested that a chunk is gone, or did not come. */
  pushLost(blob: Digest, chunk: number): void
  /** What a neighbour's request for a chunk is answered with. */
  readonly serve: ChunkSource
  /** A blob is gone from the store: nothing of it is on offer. */
  blobRemoved(blob: Digest): void
  close(): void
}

/** Connects links to downloads and to the store. */
export function createNeighbourhood(options: {
  readonly exchange: Pick<Exchange, 'link' | 'onLink'>
  readonly store: ChunkStore
  readonly findDownload: (blob: Digest) => LinkedDownload | undefined
  readonly downloads: () => Iterable<LinkedDownload>
  readonly clock: Clock
  readonly random: Random
  /** Chunks sent at the same moment, at most. */
  readonly maxUploads: number
  readonly log: Logger
}): Neighbourhood {
  const { exchange, store, log } = options
  const links = new Map<string, Link>()
  const interested = new Map<Digest, Set<Link>>()
  const interests = new Map<Link, Set<Digest>>()
  /** Chunks that are asked of neighbours. */
  let load = 0
  const closing = new AbortController()
  const openBlobs = new OpenBlobs(store)
  const uploader = new Uploader({
    ...options,
    blobs: openBlobs,
    send: (peerId, notice) => {
      if (links.get(peerId)?.send(notice) !== true)
        uploader.heard(peerId, { type: 'pass', blob: notice.blob })
    },
  })

  const forget = (link: Link, blob: Digest): void => {
    interests.get(link)?.delete(blob)
    const others = interested.get(blob)
    others?.delete(link)
    const last = others?.size === 0
    if (last) interested.delete(blob)
    uploader.left(blob, link.peerId, last)
  }

  const tell = (blob: Digest, message: LinkMessage, except?: string): void => {
    for (const link of interested.get(blob) ?? []) if (link.peerId !== except) link.send(message)
  }

  const onInterest = async (link: Link, message: Introduction & { type: 'interest' }): Promise<void> => {
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
      onHeld(link, download, message)
      if (download.stored.layout.size === message.size) link.send(holdsOf(download.stored))
      return
    }
    // What is not known here is not on offer either; a download of it would ask this neighbour for what it holds.
    const stored = await store.find(message.blob)
    if (stored === undefined) return
    if (stored.layout.size === message.size) {
      if (interests.get(link)?.has(message.blob) === true) {
        const theirs = Bitfield.fromBytes(stored.layout.count, message.held)
        uploader.interested(message.blob, link.peerId, theirs, stored.held)
      }
      link.send(holdsOf(stored))
    }
    stored.release()
  }

  /** A neighbour said what it holds of a blob that is downloaded here. */
  const onHeld = (
    link: Link,
    download: LinkedDownload,
    message: Introduction & { type: 'interest' | 'holds' },
  ): void => {
    const { layout, held } = download.stored
    if (layout.size !== message.size) return
    const theirs = Bitfield.fromBytes(layout.count, message.held)
    if (interests.get(link)?.has(message.blob) === true) {
      uploader.interested(message.blob, link.peerId, theirs, held)
    }
    download.linkHolds(link, theirs, message.hashes)
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
        if (download !== undefined) onHeld(link, download, message)
        return
      case 'leave':
        forget(link, message.blob)
        return
      case 'slot':
        if (download !== undefined) download.linkSlot(link, message.chunk)
        else link.send({ type: 'pass', blob: message.blob })
        return
      case 'have':
        download?.linkHave(link, message.chunk, message.hash)
        break
      case 'lost':
        download?.linkLost(link, message.chunk)
        break
      case 'expect':
        download?.linkExpects(link, message.chunk)
        break
      case 'pass':
      case 'want':
        break
    }
    uploader.heard(link.peerId, message)
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

  return {
    linkTo: peerId => links.get(peerId),
    openLinks: () => links.values(),
    connect: (peer, signal) => abortable(exchange.link(peer, { signal: closing.signal }), signal),
    interest: (link, stored) => {
      link.send({ ...holdsOf(stored), type: 'interest' })
    },
    leave: (peerId, blob) => {
      links.get(peerId)?.send({ type: 'leave', blob })
    },
    expecting: async (blob, chunk, from, fetch) => {
      load++
      tell(blob, { type: 'expect', blob, chunk, load }, from)
      try {
        return await fetch()
      } finally {
        load--
      }
    },
    answerSlot: (peerId, type, blob) => {
      links.get(peerId)?.send({ type, blob })
    },
    chunkComing: (blob, chunk, inMs) => uploader.chunkComing(blob, chunk, inMs),
    chunkMissed: (blob, chunk) => uploader.chunkLost(blob, chunk),
    pushHave: (blob, chunk, hash) => {
      tell(blob, { type: 'have', blob, chunk, load, hash })
      uploader.chunkHeld(blob, chunk)
    },
    pushLost: (blob, chunk) => {
      tell(blob, { type: 'lost', blob, chunk })
      uploader.chunkLost(blob, chunk)
    },
    serve: uploader.serve,
    blobRemoved: blob => {
      openBlobs.close(blob)
      uploader.removed(blob)
    },
    close: () => {
      closing.abort(new Error('the peer stops'))
      stopListening()
      uploader.close()
      openBlobs.closeAll()
    },
  }
}

function holdsOf(stored: StoredBlob): Introduction & { type: 'holds' } {
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
