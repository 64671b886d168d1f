import type { Digest } from '@darter/oci'
import {
  BlameBook,
  BlobSwarm,
  chunkLayout,
  createPace,
  DEFAULT_SWARM_SHAPE,
  type OriginPace,
  type Random,
  type SwarmEffect,
  type SwarmShape,
} from '@darter/swarm'
import { type Deed, LIMITS, type PeerAddress, type PeerMessage, type SchedulerMessage } from '@darter/wire'
import { type FactAnswer, FactBook } from './facts.ts'
import { SeedBook } from './seeds.ts'

/** A message that is to be sent to a peer. */
export interface Outgoing {
  readonly to: string
  readonly message: SchedulerMessage
}

/** What may be noted of the directory's doings, for logs and metrics. */
export interface DirectoryEvents {
  onBlame?(accused: string, accuser: string, blob: Digest, deed: Deed): void
  onLease?(blob: Digest, peer: string, chunks: number): void
  onLeaseLapsed?(blob: Digest, peer: string): void
  onContradiction?(blob: Digest, peer: string): void
  onSeedAsked?(blob: Digest, seed: string): void
  onSeedDeclined?(blob: Digest, seed: string, reason: SeedRefusal): void
  onRefused?(peer: string, type: PeerMessage['type'], why: string): void
}

/** Why a seed does not fetch a blob. */
export type SeedRefusal = (PeerMessage & { type: 'seed-end' })['reason']

/** Bounds of the directory. */
export interface DirectoryLimits {
  /** Blobs that one peer may take part in. */
  readonly maxBlobsPerPeer: number
}

/** Upstreams whose pace is kept. */
const MAX_PACES = 1024

export const DEFAULT_DIRECTORY_LIMITS: DirectoryLimits = { maxBlobsPerPeer: 100_000 }

interface Peer {
  readonly address: PeerAddress
  readonly blobs: Set<Digest>
}

/** How the directory stands, for operators. */
export interface DirectoryStatus {
  readonly peers: readonly {
    readonly id: string
    readonly zone: string
    readonly seed: boolean
    readonly addresses: readonly string[]
    readonly blobs: number
  }[]
  readonly blobs: readonly {
    readonly digest: Digest
    readonly size: number
    readonly members: number
    readonly wanting: number
    readonly leases: number
  }[]
}

/**
 * All swarms of a cluster in memory. Soft state: peers say everything again when they come back. Serial: each call
 * returns what is to be sent.
 */
export class SwarmDirectory {
  readonly #swarms = new Map<Digest, BlobSwarm>()
  /** Swarms in which someone wants something, or reads: only they need the time. */
  readonly #active = new Map<Digest, BlobSwarm>()
  /** How many leases there may be, by the word that peers use for an upstream. */
  readonly #paces = new Map<string, OriginPace>()
  readonly #peers = new Map<string, Peer>()
  readonly #facts = new FactBook()
  readonly #seeds = new SeedBook()
  readonly #blame = new BlameBook()
  readonly #random: Random
  readonly #shape: SwarmShape
  readonly #limits: DirectoryLimits
  readonly #events: DirectoryEvents

  constructor(options: {
    readonly random: Random
    readonly shape?: SwarmShape
    readonly limits?: DirectoryLimits
    readonly events?: DirectoryEvents
  }) {
    this.#random = options.random
    this.#shape = options.shape ?? DEFAULT_SWARM_SHAPE
    this.#limits = options.limits ?? DEFAULT_DIRECTORY_LIMITS
    this.#events = options.events ?? {}
  }

  get peers(): number {
    return this.#peers.size
  }

  get blobs(): number {
    return this.#swarms.size
  }

  /** Peers that are seeds. */
  get seeds(): number {
    return this.#seeds.size
  }

  get facts(): number {
    return this.#facts.size
  }

  /** Leases at work over all blobs. */
  get leases(): number {
    let sum = 0
    for (const swarm of this.#active.values()) sum += swarm.leases
    return sum
  }

  /** `seed`: it holds much for long, and fetches cold blobs for the others. */
  peerJoined(address: PeerAddress, seed = false): void {
    this.#peers.set(address.id, { address, blobs: new Set() })
    if (seed) this.#seeds.joined(address.id)
  }

  peerLeft(id: string, now: number): Outgoing[] {
    const peer = this.#peers.get(id)
    if (peer === undefined) return []
    this.#peers.delete(id)
    const out: Outgoing[] = []
    const orphans = this.#seeds.left(id)
    for (const blob of peer.blobs) {
      const swarm = this.#swarms.get(blob)
      if (swarm === undefined) continue
      swarm.leave(id, now)
      this.#collect(blob, swarm, out)
    }
    for (const blob of orphans) this.#askSeed(blob, now, out)
    out.push(...this.#answers(this.#facts.left(id, now)))
    return out
  }

  receive(from: string, message: PeerMessage, now: number): Outgoing[] {
    const peer = this.#peers.get(from)
    if (peer === undefined) return []
    switch (message.type) {
      case 'seed-end':
        return this.#seedEnded(from, message, now)
      case 'preheat-state':
        return []
      case 'ask':
        return this.#answers(this.#facts.ask(from, message.id, message.key, message.stale, now))
      case 'tell':
        return this.#answers(this.#facts.tell(from, message.key, message.value, message.ttlMs, now))
      case 'blame':
        if (!this.#mayBlame(peer, message.peer, message.blob)) return []
        this.#blame.add(message.peer, from, message.deed, now)
        this.#events.onBlame?.(message.peer, from, message.blob, message.deed)
        return message.deed === 'wrong-bytes' ? this.#discount(message.peer, message.blob, now) : []
      case 'join':
        return this.#join(peer, message, now)
      default:
        return this.#inSwarm(peer, message, now)
    }
  }

  /** Moves time on: call about ten times a second. */
  tick(now: number): Outgoing[] {
    const out: Outgoing[] = []
    for (const [blob, swarm] of this.#active) {
      swarm.tick(now)
      const before = out.length
      this.#collect(blob, swarm, out)
      for (const { to, message } of out.slice(before)) {
        if (message.type !== 'lease-void' || !this.#seeds.isSeed(to)) continue
        this.#seeds.declined(to, blob)
        this.#seeds.rest(to, now)
      }
    }
    for (const blob of this.#seeds.due(now)) this.#askSeed(blob, now, out)
    out.push(...this.#answers(this.#facts.tick(now)))
    this.#blame.sweep(now)
    return out
  }

  /** Every peer, its zone, and whether it is a seed. */
  members(): { readonly id: string; readonly zone: string; readonly seed: boolean }[] {
    return [...this.#peers.values()].map(({ address: { id, zone } }) => ({
      id,
      zone,
      seed: this.#seeds.isSeed(id),
    }))
  }

  status(): DirectoryStatus {
    return {
      peers: [...this.#peers.values()].map(({ address, blobs }) => ({
        ...address,
        seed: this.#seeds.isSeed(address.id),
        blobs: blobs.size,
      })),
      blobs: [...this.#swarms].map(([digest, swarm]) => ({
        digest,
        size: swarm.layout.size,
        members: swarm.members,
        wanting: swarm.wanting,
        leases: swarm.leases,
      })),
    }
  }

  #join(peer: Peer, message: PeerMessage & { type: 'join' }, now: number): Outgoing[] {
    let swarm = this.#swarms.get(message.blob)
    if (swarm !== undefined && swarm.layout.size !== message.size) {
      // Sizes come from manifests and origins; the digest will tell who is wrong, but they cannot share chunks.
      this.#events.onRefused?.(peer.address.id, 'join', 'the blob is known with another size')
      return [{ to: peer.address.id, message: { type: 'neighbours', blob: message.blob, peers: [] } }]
    }
    if (!peer.blobs.has(message.blob) && peer.blobs.size >= this.#limits.maxBlobsPerPeer) {
      this.#events.onRefused?.(peer.address.id, 'join', 'the peer announces too many blobs')
      return []
    }
    if (swarm === undefined) {
      swarm = new BlobSwarm(chunkLayout(message.size), this.#random, this.#shape)
      this.#swarms.set(message.blob, swarm)
    }
    peer.blobs.add(message.blob)
    if (message.upstream !== undefined) swarm.usePace(this.#paceOf(message.upstream, now))
    const { id, zone } = peer.address
    const seed = this.#seeds.isSeed(id)
    swarm.join(id, message.held, message.wants, now, { zone, seed })
    if (this.#blame.isShunned(id, now)) swarm.discount(id, now)
    const out: Outgoing[] = []
    this.#collect(message.blob, swarm, out)
    if (message.wants && message.place !== undefined && !seed) {
      this.#seeds.wanted(message.blob, message.place, now)
      this.#askSeed(message.blob, now, out)
    }
    return out
  }

  /** Has a seed fetch a blob that someone wants and nobody holds, unless one is at it as it should be. */
  #askSeed(blob: Digest, now: number, out: Outgoing[]): void {
    const swarm = this.#active.get(blob)
    if (swarm?.isCold !== true) return
    const call = this.#seeds.next(blob, swarm.wanting, now)
    if (call === undefined) return
    const { seed, place, background } = call
    const { size } = swarm.layout
    swarm.awaitSeed(seed, now)
    this.#events.onSeedAsked?.(blob, seed)
    out.push({ to: seed, message: { type: 'seed', blob, size, place, ...(background && { background }) } })
    this.#collect(blob, swarm, out)
  }

  #seedEnded(id: string, { blob, reason }: PeerMessage & { type: 'seed-end' }, now: number): Outgoing[] {
    const out: Outgoing[] = []
    if (!this.#seeds.declined(id, blob)) return out
    this.#events.onSeedDeclined?.(blob, id, reason)
    if (reason === 'failed') this.#seeds.rest(id, now)
    const swarm = this.#swarms.get(blob)
    if (swarm === undefined) return out
    swarm.seedFailed(id, now)
    this.#collect(blob, swarm, out)
    return out
  }

  #paceOf(upstream: string, now: number): OriginPace {
    let pace = this.#paces.get(upstream)
    if (pace === undefined) {
      if (this.#paces.size >= MAX_PACES) this.#forgetPaces(now)
      pace = createPace(this.#shape)
      this.#paces.set(upstream, pace)
    }
    return pace
  }

  /** Forgets what is not in use; all, when that is too little: those in use go on with what they have. */
  #forgetPaces(now: number): void {
    for (const [upstream, pace] of this.#paces) if (pace.isIdle(now)) this.#paces.delete(upstream)
    if (this.#paces.size >= MAX_PACES) this.#paces.clear()
  }

  /** Only those who take part in a blob's swarm can have met there. */
  #mayBlame(accuser: Peer, accused: string, blob: Digest): boolean {
    return accuser.address.id !== accused && this.#peers.has(accused) && accuser.blobs.has(blob)
  }

  /** One accuser's word counts for this blob; a peer that several accuse is discounted wherever it takes part. */
  #discount(accused: string, blob: Digest, now: number): Outgoing[] {
    const out: Outgoing[] = []
    const peer = this.#peers.get(accused)
    if (peer === undefined) return out
    const blobs = this.#blame.isShunned(accused, now) ? peer.blobs : new Set([blob])
    for (const digest of blobs) {
      const swarm = this.#swarms.get(digest)
      if (swarm === undefined) continue
      swarm.discount(accused, now)
      this.#collect(digest, swarm, out)
    }
    return out
  }

  #inSwarm(
    peer: Peer,
    message: Exclude<PeerMessage, { type: 'join' | 'ask' | 'tell' | 'blame' | 'seed-end' | 'preheat-state' }>,
    now: number,
  ): Outgoing[] {
    const swarm = this.#swarms.get(message.blob)
    if (swarm === undefined || !peer.blobs.has(message.blob)) return []
    const id = peer.address.id
    const out: Outgoing[] = []
    switch (message.type) {
      case 'held':
        swarm.held(id, message.chunks, now)
        break
      case 'dropped':
        swarm.dropped(id, message.chunks, now)
        break
      case 'leave':
        swarm.leave(id, now)
        peer.blobs.delete(message.blob)
        break
      case 'lease-demand':
        // Before it gets a lease that a seed should have.
        if (message.slots > 0 && message.background !== true && !this.#seeds.isSeed(id)) {
          if (this.#seeds.urge(message.blob)) this.#askSeed(message.blob, now, out)
        }
        swarm.leaseDemand(id, message.slots, message.from, now)
        break
      case 'lease-alive':
        swarm.leaseAlive(id, message.lease, now)
        break
      case 'lease-end':
        swarm.leaseEnd(id, message.lease, message.outcome, message, now)
        break
      case 'vouch': {
        const verdict = message.size === swarm.layout.size ? swarm.vouch(id, message.hashes) : 'malformed'
        if (verdict === 'contradicted') this.#events.onContradiction?.(message.blob, id)
        break
      }
    }
    this.#collect(message.blob, swarm, out)
    return out
  }

  /** Takes what a swarm wants said, and notes whether it is still of any use. */
  #collect(blob: Digest, swarm: BlobSwarm, out: Outgoing[]): void {
    for (const effect of swarm.takeEffects()) {
      out.push({ to: effect.to, message: this.#toMessage(blob, effect) })
    }
    if (swarm.members === 0) this.#swarms.delete(blob)
    if (swarm.wanting > 0 || swarm.leases > 0) this.#active.set(blob, swarm)
    else this.#active.delete(blob)
    if (swarm.wanting === 0) this.#seeds.forget(blob)
  }

  #toMessage(blob: Digest, effect: SwarmEffect): SchedulerMessage {
    switch (effect.type) {
      case 'neighbours': {
        const ids = effect.peers.slice(0, LIMITS.neighbours)
        return { type: 'neighbours', blob, peers: ids.flatMap(id => this.#peers.get(id)?.address ?? []) }
      }
      case 'lease':
        this.#events.onLease?.(blob, effect.to, effect.toChunk - effect.from)
        return { type: 'lease', blob, lease: effect.lease, from: effect.from, to: effect.toChunk }
      case 'lease-void':
        this.#events.onLeaseLapsed?.(blob, effect.to)
        return { type: 'lease-void', blob, lease: effect.lease }
      case 'verified':
        return { type: 'verified', blob, hashes: effect.hashes }
    }
  }

  #answers(answers: readonly FactAnswer[]): Outgoing[] {
    return answers.map(({ to, ...answer }) => ({ to, message: { type: 'answer', ...answer } }))
  }
}
