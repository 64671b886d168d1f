import { createHash } from 'node:crypto'
import {
  Bitfield,
  BlobSwarm,
  type ChunkLayout,
  DEFAULT_SWARM_SHAPE,
  DownloadSession,
  type Random,
  type SessionEffect,
  type SwarmEffect,
} from '@darter/swarm'
import { seededRandom } from '@darter/runtime'
import { createEventQueue, type EventQueue } from './event-queue.ts'
import { FairPipe, type Flow, SerialPipe } from './pipes.ts'

/** What is simulated. Times in ms of virtual time. */
export interface Scenario {
  readonly peers: number
  readonly chunks: number
  /** Neighbours of each peer; the production default when left out. */
  readonly degree?: number
  /** The origin's rate in multiples of a peer's uplink. */
  readonly originRate: number
  readonly latencyMs: number
  /** The part of the peers that leaves in the middle, 0..1. */
  readonly churn: number
  /** The part of the peers that sends wrong bytes, 0..1. */
  readonly liars: number
  readonly zones: number
  readonly seed: number
}

/** What came of it. Ratios are finish times over the bound, of the peers that stayed and are no liars. */
export interface Outcome {
  readonly peers: number
  readonly chunks: number
  readonly seed: number
  readonly boundSeconds: number
  readonly p50Ratio: number
  readonly p99Ratio: number
  readonly lastRatio: number
  /** Chunks that the origin sent, over the chunks of the blob. */
  readonly originRatio: number
  readonly originRequests: number
  readonly messagesPerPeer: number
  /** Peers that did not get the blob in time, or gave up. */
  readonly unfinished: number
  /** Chunks that neighbours sent in vain (held already, wrong, cancelled), over all that had to be sent. */
  readonly wasteRatio: number
  /** Chunks that crossed a zone border, over the chunks of the blob and the zones but one. */
  readonly crossingRatio: number
}

/** How long the blob takes over a peer's uplink (and downlink), ms. */
const BLOB_MS = 10_000
const CHUNK_BYTES = 1024 * 1024
const PEER_TICK_MS = 100
const SWARM_TICK_MS = 250
const REPORT_AT_CHUNKS = 8
const ALIVE_EVERY_MS = 400
/** What the link between two zones carries, in multiples of a peer's uplink. */
const BORDER_RATE = 4
/** A run that takes this many times the bound is over. */
const PATIENCE = 8

interface Upload {
  readonly source: Peer
  readonly target: Peer
  readonly chunk: number
  state: 'asked' | 'waiting' | 'sending' | 'sent' | 'over'
  flow: Flow | undefined
}

interface Peer {
  readonly id: string
  readonly index: number
  readonly zone: number
  readonly liar: boolean
  readonly held: Bitfield
  readonly session: DownloadSession
  readonly uplink: FairPipe
  readonly downlink: SerialPipe
  readonly links: Map<string, Peer>
  /** Chunks asked of each neighbour. */
  readonly requests: Map<string, Map<number, Upload>>
  readonly fetches: Map<number, OriginRead>
  waiting: Upload[]
  unreported: number[]
  gone: boolean
  finishedAt: number | undefined
  gaveUp: boolean
}

interface OriginRead {
  readonly fetch: number
  readonly lease: number | undefined
  readonly to: number
  next: number
  lastSign: number
  flow: Flow | undefined
}

/** A layout of `count` equal chunks, whatever production would choose for the size. */
function equalChunks(count: number): ChunkLayout {
  return {
    size: count * CHUNK_BYTES,
    chunkBytes: CHUNK_BYTES,
    count,
    offset: index => index * CHUNK_BYTES,
    length: index => (index < 0 || index >= count ? 0 : CHUNK_BYTES),
    at: offset => Math.floor(offset / CHUNK_BYTES),
  }
}

/** No peer can have the blob sooner, if it moves like water: Kumar and Ross, "Peer-assisted file distribution". */
export function boundMs(scenario: Pick<Scenario, 'peers' | 'originRate'>): number {
  const { peers, originRate } = scenario
  return BLOB_MS * Math.max(1 / originRate, 1, peers / (originRate + peers))
}

/** Runs the production decisions of peers and scheduler against each other in virtual time. */
export function simulate(scenario: Scenario): Outcome {
  return new Simulation(scenario).run()
}

class Simulation {
  readonly #scenario: Scenario
  readonly #layout: ChunkLayout
  readonly #events: EventQueue = createEventQueue()
  readonly #random: Random
  readonly #swarm: BlobSwarm
  readonly #peers: Peer[] = []
  readonly #byId = new Map<string, Peer>()
  readonly #origin: FairPipe
  readonly #borders: SerialPipe[]
  readonly #right: readonly Uint8Array[]
  readonly #wrong: Uint8Array
  #messages = 0
  #originChunks = 0
  #originRequests = 0
  #sentChunks = 0
  #crossings = 0
  #open: number

  constructor(scenario: Scenario) {
    this.#scenario = scenario
    this.#layout = equalChunks(scenario.chunks)
    this.#random = seededRandom(scenario.seed)
    const shape = { ...DEFAULT_SWARM_SHAPE, degree: scenario.degree ?? DEFAULT_SWARM_SHAPE.degree }
    this.#swarm = new BlobSwarm(this.#layout, this.#random, shape)
    const chunkMs = BLOB_MS / scenario.chunks
    this.#origin = new FairPipe(this.#events, chunkMs / scenario.originRate)
    this.#borders = Array.from({ length: scenario.zones ** 2 }, () => new SerialPipe(chunkMs / BORDER_RATE))
    this.#right = Array.from({ length: scenario.chunks }, (_, chunk) => hashOf(`chunk ${chunk}`))
    this.#wrong = hashOf('rubbish')
    this.#open = scenario.peers
    for (let index = 0; index < scenario.peers; index++) this.#addPeer(index, chunkMs)
  }

  run(): Outcome {
    const { latencyMs, churn, liars, peers } = this.#scenario
    for (const peer of this.#peers) this.#startPeer(peer)
    this.#leaveInTheMiddle(Math.round(churn * peers), Math.round(liars * peers))
    this.#tickSwarm()
    void latencyMs
    const bound = boundMs(this.#scenario)
    this.#events.runUntil(() => this.#open === 0 || this.#events.now > bound * PATIENCE)
    return this.#outcome(bound)
  }

  // ---- peers

  #addPeer(index: number, chunkMs: number): void {
    const { peers, liars, zones } = this.#scenario
    const held = new Bitfield(this.#layout.count)
    const peer: Peer = {
      id: `p${index}`,
      index,
      zone: index % zones,
      liar: index < Math.round(liars * peers),
      held,
      session: new DownloadSession({
        layout: this.#layout,
        held,
        trusted: new Bitfield(this.#layout.count),
        random: this.#random,
        now: 0,
        schedulerUp: true,
      }),
      uplink: new FairPipe(this.#events, chunkMs),
      downlink: new SerialPipe(chunkMs),
      links: new Map(),
      requests: new Map(),
      fetches: new Map(),
      waiting: [],
      unreported: [],
      gone: false,
      finishedAt: undefined,
      gaveUp: false,
    }
    this.#peers.push(peer)
    this.#byId.set(peer.id, peer)
  }

  #startPeer(peer: Peer): void {
    peer.session.readerAdded(1, 0, this.#layout.count, false, 0)
    this.#join(peer, true)
    this.#perform(peer)
    this.#events.after(this.#random() * PEER_TICK_MS, () => this.#tickPeer(peer))
  }

  #tickPeer(peer: Peer): void {
    if (peer.gone || peer.finishedAt !== undefined || peer.gaveUp) return
    const { now } = this.#events
    this.#report(peer)
    for (const read of peer.fetches.values()) {
      if (read.flow === undefined || now - read.lastSign < ALIVE_EVERY_MS) continue
      read.lastSign = now
      peer.session.bytesFlowed(now)
      const { lease } = read
      if (lease !== undefined) this.#toSwarm(at => this.#swarm.leaseAlive(peer.id, lease, at))
    }
    peer.session.tick(now)
    this.#perform(peer)
    this.#events.after(PEER_TICK_MS, () => this.#tickPeer(peer))
  }

  #leaveInTheMiddle(leavers: number, liars: number): void {
    for (let i = 0; i < leavers; i++) {
      const peer = this.#peers[(liars + i) % this.#peers.length]!
      this.#events.after(BLOB_MS * (0.25 + 0.5 * this.#random()), () => this.#leave(peer))
    }
  }

  #leave(peer: Peer): void {
    peer.gone = true
    if (!this.#isOver(peer)) this.#open--
    for (const upload of peer.waiting) upload.state = 'over'
    peer.waiting = []
    for (const neighbour of peer.links.values()) {
      this.#events.after(this.#scenario.latencyMs, () => {
        if (neighbour.gone || !neighbour.links.delete(peer.id)) return
        this.#dropRequests(neighbour, peer)
        neighbour.session.neighbourDown(peer.id, 'vanished', this.#events.now)
        this.#perform(neighbour)
      })
    }
    for (const read of peer.fetches.values()) this.#stopRead(peer, read)
    this.#toSwarm(now => this.#swarm.leave(peer.id, now))
  }

  #isOver(peer: Peer): boolean {
    return peer.finishedAt !== undefined || peer.gaveUp
  }

  // ---- what a session decides

  #perform(peer: Peer): void {
    if (peer.gone) return
    for (const effect of peer.session.takeEffects()) this.#act(peer, effect)
  }

  #act(peer: Peer, effect: SessionEffect): void {
    switch (effect.type) {
      case 'request':
        this.#request(peer, effect.neighbour, effect.chunk)
        break
      case 'cancel':
        this.#cancel(peer, effect.neighbour, effect.chunk)
        break
      case 'fetch-origin':
        this.#readOrigin(peer, effect)
        break
      case 'stop-origin': {
        const read = peer.fetches.get(effect.fetch)
        if (read !== undefined) this.#stopRead(peer, read)
        break
      }
      case 'lease-demand':
        this.#toSwarm(now => this.#swarm.leaseDemand(peer.id, effect.slots, effect.from, now))
        break
      case 'lease-end':
        this.#report(peer)
        this.#toSwarm(now => this.#swarm.leaseEnd(peer.id, effect.lease, effect.outcome, effect, now))
        break
      case 'blame':
        this.#toSwarm(now => {
          if (effect.deed === 'wrong-bytes') this.#swarm.discount(effect.neighbour, now)
        })
        break
      case 'give-up':
        if (!this.#isOver(peer)) this.#open--
        peer.gaveUp = true
        break
    }
  }

  // ---- chunks from neighbours

  #request(peer: Peer, neighbour: string, chunk: number): void {
    const source = peer.links.get(neighbour)
    if (source === undefined) {
      this.#events.after(0, () => this.#refused(peer, neighbour, chunk, 'failed'))
      return
    }
    const upload: Upload = { source, target: peer, chunk, state: 'asked', flow: undefined }
    let requests = peer.requests.get(neighbour)
    if (requests === undefined) peer.requests.set(neighbour, (requests = new Map()))
    requests.set(chunk, upload)
    this.#message(() => this.#asked(upload))
  }

  #asked(upload: Upload): void {
    const { source, target, chunk } = upload
    if (upload.state !== 'asked' || source.gone) return
    if (!source.held.has(chunk)) {
      this.#message(() => {
        if (this.#forget(upload)) this.#refused(target, source.id, chunk, 'missing')
      })
      return
    }
    upload.state = 'waiting'
    source.waiting.push(upload)
    this.#serve(source)
  }

  #refused(peer: Peer, neighbour: string, chunk: number, reason: 'missing' | 'failed'): void {
    if (peer.gone) return
    peer.session.requestFailed(neighbour, chunk, reason, this.#events.now)
    this.#perform(peer)
  }

  #serve(source: Peer): void {
    while (source.uplink.size < UPLOADS) {
      const upload = source.waiting.shift()
      if (upload === undefined) return
      upload.state = 'sending'
      upload.flow = source.uplink.start(() => this.#sent(upload))
    }
  }

  #sent(upload: Upload): void {
    const { source, target } = upload
    this.#sentChunks++
    upload.state = 'sent'
    this.#serve(source)
    const { latencyMs, zones } = this.#scenario
    let at = this.#events.now + latencyMs
    if (source.zone !== target.zone) {
      this.#crossings++
      at = this.#borders[source.zone * zones + target.zone]!.pass(at)
    }
    this.#events.after(at - this.#events.now, () => {
      const through = target.downlink.pass(this.#events.now)
      this.#events.after(through - this.#events.now, () => this.#arrived(upload))
    })
  }

  #arrived(upload: Upload): void {
    const { source, target, chunk } = upload
    if (target.gone || !this.#forget(upload)) return
    const { now } = this.#events
    const hash = source.liar ? this.#wrong : this.#right[chunk]!
    if (target.session.chunkFromNeighbour(source.id, chunk, hash, now) === 'keep') {
      this.#keep(target, chunk, source.id)
    }
    this.#perform(target)
  }

  /** The target waits for it no longer; false when it did not. */
  #forget(upload: Upload): boolean {
    const requests = upload.target.requests.get(upload.source.id)
    if (requests?.get(upload.chunk) !== upload) return false
    requests.delete(upload.chunk)
    return true
  }

  #cancel(peer: Peer, neighbour: string, chunk: number): void {
    const upload = peer.requests.get(neighbour)?.get(chunk)
    if (upload === undefined) return
    this.#forget(upload)
    this.#message(() => this.#drop(upload))
  }

  #drop(upload: Upload): void {
    const { source } = upload
    if (upload.state === 'waiting') source.waiting.splice(source.waiting.indexOf(upload), 1)
    else if (upload.state === 'sending' && upload.flow !== undefined) source.uplink.stop(upload.flow)
    if (upload.state === 'sent') return
    upload.state = 'over'
    this.#serve(source)
  }

  /** The link is gone, and what was asked over it. */
  #dropRequests(peer: Peer, source: Peer): void {
    for (const upload of peer.requests.get(source.id)?.values() ?? []) if (!source.gone) this.#drop(upload)
    peer.requests.delete(source.id)
    for (const upload of source.requests.get(peer.id)?.values() ?? []) this.#drop(upload)
  }

  #keep(peer: Peer, chunk: number, from: string | undefined): void {
    const { now } = this.#events
    peer.held.set(chunk)
    peer.session.chunkStored(
      chunk,
      from === undefined ? { kind: 'origin' } : { kind: 'neighbour', id: from },
      now,
    )
    this.#pushHave(peer, chunk)
    peer.unreported.push(chunk)
    if (peer.unreported.length >= REPORT_AT_CHUNKS) this.#report(peer)
    peer.session.readerMoved(1, peer.held.nextClear(0))
    if (peer.session.complete) this.#complete(peer)
  }

  #pushHave(peer: Peer, chunk: number): void {
    const told = [...peer.links.values()]
    this.#messages += told.length
    this.#events.after(this.#scenario.latencyMs, () => {
      const { now } = this.#events
      for (const neighbour of told) {
        if (neighbour.gone || this.#isOver(neighbour)) continue
        neighbour.session.neighbourHas(peer.id, chunk, this.#right[chunk]!)
        neighbour.session.neighboursChanged(now)
        this.#perform(neighbour)
      }
    })
  }

  #complete(peer: Peer): void {
    if (this.#isOver(peer)) return
    peer.finishedAt = this.#events.now
    this.#open--
    peer.session.stop()
    this.#perform(peer)
    peer.unreported = []
    this.#join(peer, false)
    if (peer.session.verifiedHashes === undefined && !peer.liar) {
      this.#toSwarm(() => void this.#swarm.vouch(peer.id, Buffer.concat(this.#right)))
    }
  }

  // ---- the origin

  #readOrigin(peer: Peer, effect: SessionEffect & { readonly type: 'fetch-origin' }): void {
    const { fetch, lease, from, to } = effect
    const read: OriginRead = { fetch, lease, to, next: from, lastSign: this.#events.now, flow: undefined }
    peer.fetches.set(fetch, read)
    this.#originRequests++
    this.#events.after(this.#scenario.latencyMs, () => this.#originSends(peer, read))
  }

  #originSends(peer: Peer, read: OriginRead): void {
    if (peer.fetches.get(read.fetch) !== read) return
    read.flow = this.#origin.start(() => {
      const chunk = read.next++
      const last = read.next === read.to
      this.#originChunks++
      read.flow = undefined
      this.#events.after(this.#scenario.latencyMs, () => {
        const through = peer.downlink.pass(this.#events.now)
        this.#events.after(through - this.#events.now, () => this.#fromOrigin(peer, read, chunk, last))
      })
      if (!last) this.#originSends(peer, read)
    })
  }

  #fromOrigin(peer: Peer, read: OriginRead, chunk: number, last: boolean): void {
    if (peer.gone || peer.fetches.get(read.fetch) !== read) return
    const { now } = this.#events
    if (peer.session.chunkFromOrigin(chunk, this.#right[chunk]!, now) === 'keep')
      this.#keep(peer, chunk, undefined)
    if (last) {
      peer.fetches.delete(read.fetch)
      peer.session.fetchEnded(read.fetch, undefined, now)
    }
    this.#perform(peer)
  }

  #stopRead(peer: Peer, read: OriginRead): void {
    peer.fetches.delete(read.fetch)
    if (read.flow !== undefined) this.#origin.stop(read.flow)
  }

  // ---- the scheduler

  #join(peer: Peer, wants: boolean): void {
    const held = peer.held.toBytes()
    this.#toSwarm(now => this.#swarm.join(peer.id, held, wants, now, String(peer.zone)))
  }

  #report(peer: Peer): void {
    if (peer.unreported.length === 0) return
    const chunks = peer.unreported
    peer.unreported = []
    this.#toSwarm(now => this.#swarm.held(peer.id, chunks, now))
  }

  #toSwarm(tell: (now: number) => void): void {
    this.#message(() => {
      tell(this.#events.now)
      this.#fromSwarm()
    })
  }

  #tickSwarm(): void {
    this.#swarm.tick(this.#events.now)
    this.#fromSwarm()
    this.#events.after(SWARM_TICK_MS, () => this.#tickSwarm())
  }

  #fromSwarm(): void {
    for (const effect of this.#swarm.takeEffects()) this.#message(() => this.#told(effect))
  }

  #told(effect: SwarmEffect): void {
    const peer = this.#byId.get(effect.to)!
    if (peer.gone || this.#isOver(peer)) return
    const { now } = this.#events
    switch (effect.type) {
      case 'neighbours':
        peer.session.schedulerAnswered(now)
        this.#relink(peer, new Set(effect.peers))
        break
      case 'lease':
        peer.session.leased(effect.lease, effect.from, effect.toChunk, now)
        break
      case 'lease-void':
        peer.session.leaseVoid(effect.lease, now)
        break
      case 'verified':
        peer.session.verifiedList(effect.hashes.length === 0 ? undefined : this.#right, chunk =>
          peer.held.has(chunk) ? this.#right[chunk] : undefined,
        )
        break
    }
    this.#perform(peer)
  }

  // ---- links

  #relink(peer: Peer, wanted: ReadonlySet<string>): void {
    for (const other of [...peer.links.values()]) if (!wanted.has(other.id)) this.#unlink(peer, other)
    for (const id of wanted) {
      const other = this.#byId.get(id)!
      // Connecting takes a round trip.
      if (!peer.links.has(id)) this.#events.after(2 * this.#scenario.latencyMs, () => this.#link(peer, other))
    }
  }

  #unlink(peer: Peer, other: Peer): void {
    peer.links.delete(other.id)
    this.#dropRequests(peer, other)
    peer.session.neighbourDown(other.id, undefined, this.#events.now)
    this.#message(() => {
      if (!other.links.delete(peer.id)) return
      this.#dropRequests(other, peer)
      if (this.#isOver(other) || other.gone) return
      other.session.neighbourDown(peer.id, undefined, this.#events.now)
      this.#perform(other)
    })
  }

  #link(peer: Peer, other: Peer): void {
    if (peer.gone || other.gone || peer.links.has(other.id)) return
    peer.links.set(other.id, other)
    other.links.set(peer.id, peer)
    this.#sayHeld(peer, other)
    this.#sayHeld(other, peer)
  }

  #sayHeld(from: Peer, to: Peer): void {
    const held = [...from.held.indices()]
    this.#message(() => {
      if (to.gone || this.#isOver(to) || !to.links.has(from.id)) return
      to.session.neighbourUp(from.id)
      for (const chunk of held) to.session.neighbourHas(from.id, chunk, this.#right[chunk]!)
      to.session.neighboursChanged(this.#events.now)
      this.#perform(to)
    })
  }

  #message(deliver: () => void): void {
    this.#messages++
    this.#events.after(this.#scenario.latencyMs, deliver)
  }

  // ---- what came of it

  #outcome(bound: number): Outcome {
    const { peers, chunks, seed, zones } = this.#scenario
    const counted = this.#peers.filter(peer => !peer.gone && !peer.liar)
    const times = counted.map(peer => peer.finishedAt ?? Number.POSITIVE_INFINITY).toSorted((a, b) => a - b)
    const quantile = (part: number): number => (times[Math.ceil(times.length * part) - 1] ?? 0) / bound
    const needed = counted.length * chunks
    return {
      peers,
      chunks,
      seed,
      boundSeconds: bound / 1000,
      p50Ratio: quantile(0.5),
      p99Ratio: quantile(0.99),
      lastRatio: quantile(1),
      originRatio: this.#originChunks / chunks,
      originRequests: this.#originRequests,
      messagesPerPeer: this.#messages / peers,
      unfinished: this.#peers.filter(peer => !peer.gone && peer.finishedAt === undefined).length,
      wasteRatio: (this.#sentChunks + this.#originChunks) / needed - 1,
      crossingRatio: zones === 1 ? 0 : this.#crossings / chunks / (zones - 1),
    }
  }
}

const UPLOADS = Number(process.env['UPLOADS'] ?? 1)

function hashOf(text: string): Uint8Array {
  return createHash('sha256').update(text).digest()
}
