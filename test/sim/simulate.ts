import { createHash } from 'node:crypto'
import { seededRandom } from '@darter/runtime'
import {
  BlobSwarm,
  type ChunkLayout,
  DEFAULT_SWARM_SHAPE,
  type Random,
  type SwarmEffect,
} from '@darter/swarm'
import { createEventQueue, type EventQueue } from './event-queue.ts'
import { NewsBoard } from './news.ts'
import { FairPipe, SerialPipe } from './pipes.ts'
import { BLOB_MS, BORDER_RATE, boundMs, type Outcome, type Scenario } from './scenario.ts'
import { ALIVE_EVERY_MS, SimOrigin } from './sim-origin.ts'
import { type OutsideEffect, SimPeer, TICK_MS, type World } from './sim-peer.ts'

const CHUNK_BYTES = 1024 * 1024
const SWARM_TICK_MS = 100
const REPORT_EVERY_MS = 100
/** What a scheduler allows few peers, however many there are: reports come no rarer than they do anywhere. */
const SILENCE_MS = 5_000
/** A run that takes this many times the bound is over. */
const PATIENCE = 8

/** Runs the production decisions of peers and scheduler against each other in virtual time. */
export function simulate(scenario: Scenario): Outcome {
  return new Simulation(scenario).run()
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

class Simulation {
  readonly #scenario: Scenario
  readonly #layout: ChunkLayout
  readonly #events: EventQueue
  readonly #random: Random
  readonly #swarm: BlobSwarm
  readonly #peers: SimPeer[] = []
  readonly #ids: string[] = []
  readonly #byId: Map<string, SimPeer>
  readonly #origin: SimOrigin
  readonly #borders = new Map<string, SerialPipe>()
  readonly #right: readonly Uint8Array[]
  readonly #blamed = new Set<string>()
  /** The neighbours that each peer was told last. */
  readonly #lists = new Map<SimPeer, ReadonlySet<string>>()
  /** How many peers hold each number of chunks or more, for the median's progress. */
  readonly #progress: Uint32Array
  readonly #medianAt: number[] = []
  #messages = 0
  #sentChunks = 0
  #crossings = 0
  #gaveUp = 0
  #open: number

  constructor(scenario: Scenario) {
    const { chunks, latencyMs, seed, peers, liars, zones } = scenario
    this.#scenario = scenario
    this.#layout = equalChunks(chunks)
    this.#random = seededRandom(seed)
    const shape = { ...DEFAULT_SWARM_SHAPE, degree: scenario.degree ?? DEFAULT_SWARM_SHAPE.degree }
    this.#swarm = new BlobSwarm(this.#layout, this.#random, shape)
    const chunkMs = BLOB_MS / chunks
    this.#events = createEventQueue([0, latencyMs, 2 * latencyMs, chunkMs, TICK_MS, ALIVE_EVERY_MS])
    this.#right = Array.from({ length: chunks }, (_, chunk) => hashOf(`chunk ${chunk}`))
    this.#origin = new SimOrigin({
      events: this.#events,
      latencyMs,
      chunkMs: chunkMs / scenario.originRate,
      right: this.#right,
      fails: now => scenario.originFails?.(now) === true,
      onAlive: (peer, lease) => this.#toSwarm(now => this.#swarm.leaseAlive(peer.id, lease, now)),
    })
    this.#progress = new Uint32Array(chunks + 1)
    this.#open = peers
    const world = this.#world(chunkMs)
    for (let index = 0; index < peers; index++) {
      const uplink = new FairPipe(this.#events, chunkMs)
      const liar = index < Math.round(liars * peers)
      const id = `p${index}`
      this.#ids.push(id)
      this.#peers.push(new SimPeer({ index, id, zone: index % zones, liar, uplink, world }))
    }
    this.#byId = new Map(this.#peers.map(peer => [peer.id, peer]))
  }

  run(): Outcome {
    const { churn, liars, peers, schedulerDiesAt } = this.#scenario
    for (const peer of this.#peers) {
      this.#join(peer, true)
      peer.start()
    }
    this.#leaveInTheMiddle(Math.round(churn * peers), Math.round(liars * peers))
    if (schedulerDiesAt !== undefined) this.#events.after(schedulerDiesAt, () => this.#schedulerDies())
    this.#tickSwarm()
    this.#events.after(REPORT_EVERY_MS, () => this.#reportAll())
    const bound = boundMs(this.#scenario)
    this.#events.runUntil(() => this.#open === 0 || this.#events.now > bound * PATIENCE)
    return this.#outcome(bound)
  }

  #world(chunkMs: number): World {
    const { latencyMs } = this.#scenario
    return {
      events: this.#events,
      layout: this.#layout,
      random: this.#random,
      latencyMs,
      chunkMs,
      right: this.#right,
      wrong: hashOf('rubbish'),
      message: (deliver, count = 1) => {
        this.#messages += count
        this.#events.after(latencyMs, deliver)
      },
      news: new NewsBoard(this.#scenario.peers),
      peers: this.#peers,
      ids: this.#ids,
      cross: (from, to) => this.#cross(from, to, chunkMs),
      chunkSent: () => void this.#sentChunks++,
      outside: (peer, effect) => this.#act(peer, effect),
      chunkKept: (peer, chunk, from) => this.#kept(peer, chunk, from),
      completed: peer => this.#completed(peer),
      gaveUp: peer => {
        this.#gaveUp++
        if (!peer.gone) this.#open--
      },
    }
  }

  #cross(from: SimPeer, to: SimPeer, chunkMs: number): number {
    const { now } = this.#events
    if (from.zone === to.zone) return now
    const key = `${from.zone} ${to.zone}`
    let border = this.#borders.get(key)
    if (border === undefined) this.#borders.set(key, (border = new SerialPipe(chunkMs / BORDER_RATE)))
    this.#crossings++
    return border.pass(now)
  }

  // ---- peers

  #leaveInTheMiddle(leavers: number, liars: number): void {
    for (let i = 0; i < leavers; i++) {
      const peer = this.#peers[(liars + i) % this.#peers.length]!
      this.#events.after(BLOB_MS * (0.25 + 0.5 * this.#random()), () => this.#leaves(peer))
    }
  }

  #leaves(peer: SimPeer): void {
    if (peer.gone) return
    if (!peer.over) this.#open--
    peer.leave()
    this.#origin.left(peer)
    this.#toSwarm(now => this.#swarm.leave(peer.id, now))
  }

  #kept(peer: SimPeer, chunk: number, from: 'origin' | 'neighbour'): void {
    const { count } = peer.held
    if (++this.#progress[count]! === Math.ceil(this.#peers.length / 2))
      this.#medianAt[count] = this.#events.now
    if (peer.reports.holds(chunk, from, this.#events.now)) this.#report(peer)
  }

  #completed(peer: SimPeer): void {
    this.#open--
    peer.reports.clear()
    this.#join(peer, false)
    if (peer.session.verifiedHashes !== undefined || peer.liar) return
    this.#toSwarm(() => void this.#swarm.vouch(peer.id, Buffer.concat(this.#right)))
  }

  #act(peer: SimPeer, effect: OutsideEffect): void {
    switch (effect.type) {
      case 'fetch-origin':
        this.#origin.read(peer, effect)
        break
      case 'stop-origin':
        this.#origin.stop(peer, effect.fetch)
        break
      case 'lease-demand':
        this.#toSwarm(now => this.#swarm.leaseDemand(peer.id, effect.slots, effect.from, now))
        break
      case 'lease-end':
        this.#report(peer)
        this.#toSwarm(now => this.#swarm.leaseEnd(peer.id, effect.lease, effect.outcome, effect, now))
        break
      case 'blame':
        if (effect.deed !== 'wrong-bytes') break
        this.#blamed.add(effect.neighbour)
        this.#toSwarm(now => {
          this.#swarm.discount(effect.neighbour, now)
          // It would read the origin by itself from now on, which says nothing about the others.
          this.#leaves(this.#byId.get(effect.neighbour)!)
        })
        break
    }
  }

  // ---- the scheduler

  get #schedulerUp(): boolean {
    const { schedulerDiesAt } = this.#scenario
    return schedulerDiesAt === undefined || this.#events.now < schedulerDiesAt
  }

  #schedulerDies(): void {
    for (const peer of this.#peers) {
      peer.catchUp()
      peer.session.schedulerChanged(false, this.#events.now)
      peer.perform()
    }
  }

  #join(peer: SimPeer, wants: boolean): void {
    const held = peer.held.toBytes()
    this.#toSwarm(now => this.#swarm.join(peer.id, held, wants, now, { zone: String(peer.zone) }))
  }

  #reportAll(): void {
    for (const peer of this.#peers) this.#report(peer)
    this.#events.after(REPORT_EVERY_MS, () => this.#reportAll())
  }

  #report(peer: SimPeer): void {
    const chunks = peer.gone ? [] : peer.reports.take(this.#events.now, SILENCE_MS)
    if (chunks.length > 0) this.#toSwarm(now => this.#swarm.held(peer.id, chunks, now))
  }

  #toSwarm(tell: (now: number) => void): void {
    this.#messages++
    this.#events.after(this.#scenario.latencyMs, () => {
      if (!this.#schedulerUp) return
      tell(this.#events.now)
      this.#fromSwarm()
    })
  }

  #tickSwarm(): void {
    if (!this.#schedulerUp) return
    this.#swarm.tick(this.#events.now)
    this.#fromSwarm()
    this.#events.after(SWARM_TICK_MS, () => this.#tickSwarm())
  }

  #fromSwarm(): void {
    for (const effect of this.#swarm.takeEffects()) {
      this.#messages++
      this.#events.after(this.#scenario.latencyMs, () => this.#told(effect))
    }
  }

  #told(effect: SwarmEffect): void {
    const peer = this.#byId.get(effect.to)!
    if (peer.gone || peer.over) return
    peer.catchUp()
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
    peer.perform()
  }

  #relink(peer: SimPeer, wanted: ReadonlySet<string>): void {
    // A link that the other side made may be younger than the list.
    const before = this.#lists.get(peer)
    this.#lists.set(peer, wanted)
    for (const other of [...peer.links.values()]) {
      if (before?.has(other.id) === true && !wanted.has(other.id)) peer.unlink(other)
    }
    for (const id of wanted) {
      // Connecting takes a round trip.
      if (!peer.links.has(id)) {
        this.#events.after(2 * this.#scenario.latencyMs, () => peer.link(this.#byId.get(id)!))
      }
    }
  }

  // ---- what came of it

  #outcome(bound: number): Outcome {
    const { peers, chunks, seed, zones } = this.#scenario
    const counted = this.#peers.filter(peer => !peer.gone && !peer.liar)
    const times = counted.map(peer => peer.finishedAt ?? Number.POSITIVE_INFINITY).toSorted((a, b) => a - b)
    const quantile = (part: number): number => (times[Math.ceil(times.length * part) - 1] ?? 0) / bound
    const needed = counted.length * chunks
    const tenths = Array.from({ length: 10 }, (_, tenth) => Math.ceil((chunks * (tenth + 1)) / 10))
    return {
      peers,
      chunks,
      seed,
      boundSeconds: bound / 1000,
      p50Ratio: quantile(0.5),
      p99Ratio: quantile(0.99),
      lastRatio: quantile(1),
      originRatio: this.#origin.chunks / chunks,
      originRequests: this.#origin.requests,
      messagesPerPeer: this.#messages / peers,
      unfinished: this.#peers.filter(peer => !peer.gone && peer.finishedAt === undefined).length,
      gaveUp: this.#gaveUp,
      wasteRatio: (this.#sentChunks + this.#origin.chunks) / needed - 1,
      crossingRatio: zones === 1 ? 0 : this.#crossings / chunks / (zones - 1),
      medianProgressSeconds: tenths.map(count => (this.#medianAt[count] ?? Number.NaN) / 1000),
      blamed: [...this.#blamed].toSorted(),
    }
  }
}

function hashOf(text: string): Uint8Array {
  return createHash('sha256').update(text).digest()
}
