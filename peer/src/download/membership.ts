import { createHash } from 'node:crypto'
import { type Link, LinkProtocolError, LinkStalledError, type SchedulerLink } from '@darter/exchange'
import type { Logger } from '@darter/runtime'
import type { StoredBlob } from '@darter/store'
import { HeldReports, type LinkDeed } from '@darter/swarm'
import type { ContentPlace, PeerAddress, PeerMessage } from '@darter/wire'
import type { BlobSource, ContentKind } from './contract.ts'
import type { Neighbourhood } from './neighbourhood.ts'

const RELINK_EVERY_MS = 2_000
const HASH_BYTES = 32

/** A word for an upstream that does not tell its name, though whoever guesses the name can check it. */
function upstreamWord(name: string): string {
  return createHash('sha256').update(`darter upstream ${name}`).digest('hex').slice(0, 16)
}

/** What a neighbour did whose link ended for this reason. */
export function deedOf(reason: Error): LinkDeed {
  if (reason instanceof LinkStalledError) return 'stalled'
  return reason instanceof LinkProtocolError ? 'protocol' : 'vanished'
}

/** A download's part in its blob's swarm: what the scheduler is told, and which neighbours are linked. */
export class Membership {
  readonly #scheduler: SchedulerLink | undefined
  readonly #neighbourhood: Neighbourhood
  readonly #stored: StoredBlob
  readonly #source: () => BlobSource | undefined
  readonly #kind: ContentKind
  readonly #log: Logger
  readonly #zone: string
  readonly #onLinked: (id: string, far: boolean) => void
  readonly #stopping = new AbortController()
  readonly #reports = new HeldReports()
  #wanted = new Map<string, PeerAddress>()
  readonly #linked = new Set<string>()
  /** Neighbours that stalled: this download does not go back to them. */
  readonly #avoided = new Set<string>()
  #relinkAt = 0

  /**
   * `source` tells where the blob comes from now. `onLinked` is called for each neighbour that can be asked from now on;
   * `far`: it is in another zone than this peer.
   */
  constructor(options: {
    readonly scheduler: SchedulerLink | undefined
    readonly neighbourhood: Neighbourhood
    readonly stored: StoredBlob
    readonly source: () => BlobSource | undefined
    readonly kind: ContentKind
    readonly log: Logger
    readonly zone: string
    readonly onLinked: (id: string, far: boolean) => void
  }) {
    this.#scheduler = options.scheduler
    this.#neighbourhood = options.neighbourhood
    this.#stored = options.stored
    this.#source = options.source
    this.#kind = options.kind
    this.#log = options.log
    this.#zone = options.zone
    this.#onLinked = options.onLinked
  }

  /** Says something to the scheduler, if there is one. */
  tell(message: PeerMessage): void {
    this.#scheduler?.send(message)
  }

  /** Tells the scheduler all that is held, and whether more is wanted. */
  join(wants: boolean): void {
    const { digest, held, layout } = this.#stored
    this.#reports.clear()
    if (!wants && held.count === 0) {
      this.tell({ type: 'leave', blob: digest })
      return
    }
    const source = wants ? this.#source() : undefined
    this.tell({
      type: 'join',
      blob: digest,
      size: layout.size,
      held: held.toBytes(),
      wants,
      ...(source && { upstream: upstreamWord(source.upstream.name), ...this.#place(source) }),
    })
  }

  /** Where a seed could read the blob, as far as that may be told. */
  #place({ upstream, repository, url, content }: BlobSource): { readonly place?: ContentPlace } {
    if (url !== undefined && content !== undefined) return { place: { url, digest: content } }
    if (repository === '') return {}
    return { place: { upstream: upstream.name, repository, kind: this.#kind } }
  }

  /** A chunk is held now: neighbours hear of it at once, the scheduler soon, or later when it came from a neighbour. */
  holds(chunk: number, hash: Uint8Array, from: 'origin' | 'neighbour', now: number): void {
    this.#neighbourhood.pushHave(this.#stored.digest, chunk, hash)
    if (this.#reports.holds(chunk, from, now)) this.report(now)
  }

  /** A chunk is not held any more. */
  lost(chunk: number): void {
    this.#reports.lost(chunk)
  }

  /** Tells the scheduler what it has not been told yet, as far as it is due. */
  report(now: number): void {
    const chunks = this.#reports.take(now, this.#scheduler?.silenceMs ?? 0)
    if (chunks.length > 0) this.tell({ type: 'held', blob: this.#stored.digest, chunks })
  }

  /** Vouches for the chunk list of a blob whose digest was right. */
  vouch(): void {
    const { digest, layout } = this.#stored
    if (layout.count <= 1) return
    const hashes = Buffer.alloc(layout.count * HASH_BYTES)
    for (let chunk = 0; chunk < layout.count; chunk++) {
      hashes.set(this.#stored.chunkHash(chunk) ?? [], chunk * HASH_BYTES)
    }
    this.tell({ type: 'vouch', blob: digest, size: layout.size, hashes })
  }

  /** The scheduler's list of neighbours; returns those that are no longer on it and were unlinked. */
  neighbours(peers: readonly PeerAddress[]): string[] {
    const before = this.#wanted
    this.#wanted = new Map(peers.map(peer => [peer.id, peer]))
    // A link that the other side made may be younger than the list.
    const gone = [...this.#linked].filter(id => before.has(id) && !this.#wanted.has(id))
    for (const id of gone) this.#unlink(id)
    return gone
  }

  /** Links neighbours that are not linked (any more); not more often than every 2 s unless `atOnce`. */
  async link(now: number, atOnce: boolean): Promise<void> {
    if (!atOnce && now < this.#relinkAt) return
    this.#relinkAt = now + RELINK_EVERY_MS
    if (this.#scheduler?.connected === false) {
      for (const link of this.#neighbourhood.openLinks()) this.#linkedTo(link)
    }
    const missing = [...this.#wanted.values()].filter(
      ({ id }) => !this.#linked.has(id) && !this.#avoided.has(id),
    )
    await Promise.all(missing.map(peer => this.#linkTo(peer)))
  }

  /** A neighbour said that it takes part: it is told the same, or it would not tell what it gets later. */
  linkedBy(link: Link): void {
    this.#linkedTo(link)
  }

  /** A link broke; false when it was none of this download's. */
  linkClosed(id: string, stalled: boolean): boolean {
    if (stalled) this.#avoided.add(id)
    return this.#linked.delete(id)
  }

  /** Leaves all neighbours. */
  close(): void {
    this.#stopping.abort()
    for (const id of [...this.#linked]) this.#unlink(id)
  }

  async #linkTo(peer: PeerAddress): Promise<void> {
    try {
      const link = await this.#neighbourhood.connect(peer, this.#stopping.signal)
      if (!this.#stopping.signal.aborted) this.#linkedTo(link)
    } catch (error) {
      this.#log.debug({ peer: peer.id, err: error }, 'no link to a neighbour')
    }
  }

  #linkedTo(link: Link): void {
    if (this.#linked.has(link.peerId)) return
    this.#linked.add(link.peerId)
    const zone = this.#wanted.get(link.peerId)?.zone
    this.#onLinked(link.peerId, zone !== undefined && zone !== this.#zone)
    this.#neighbourhood.interest(link, this.#stored)
  }

  #unlink(id: string): void {
    this.#linked.delete(id)
    this.#neighbourhood.leave(id, this.#stored.digest)
  }
}
