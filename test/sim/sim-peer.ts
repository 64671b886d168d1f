import {
  Bitfield,
  type ChunkLayout,
  DownloadSession,
  type Random,
  type SessionEffect,
  type UploadEffect,
  UploadPlan,
} from '@darter/swarm'
import type { EventQueue } from './event-queue.ts'
import type { FairPipe, Flow } from './pipes.ts'
import { SerialPipe } from './pipes.ts'

/** What a session wants of the origin, or has to say to the scheduler. */
export type OutsideEffect = SessionEffect & {
  readonly type: 'fetch-origin' | 'stop-origin' | 'lease-demand' | 'lease-end' | 'blame'
}

/** What all simulated peers share. */
export interface World {
  readonly events: EventQueue
  readonly layout: ChunkLayout
  readonly random: Random
  readonly latencyMs: number
  /** How long one chunk takes over a peer's link, ms. */
  readonly chunkMs: number
  readonly right: readonly Uint8Array[]
  readonly wrong: Uint8Array
  /** Delivers something after the latency, counted as `count` messages. */
  message(deliver: () => void, count?: number): void
  peer(id: string): SimPeer
  /** Passes a chunk that left its sender at this moment over the border between two zones, if there is one; returns when it is through, ms. */
  cross(from: SimPeer, to: SimPeer): number
  chunkSent(): void
  /** What sessions want of the origin and of the scheduler. */
  outside(peer: SimPeer, effect: OutsideEffect): void
  chunkKept(peer: SimPeer, chunk: number): void
  completed(peer: SimPeer): void
  gaveUp(peer: SimPeer): void
}

/** Pieces in which a chunk arrives: its receiver notices that it will be whole soon at the end of one of them. */
const PIECES = 4
const TICK_MS = 100
const BLOB = 'blob'

/** One peer: the production decisions, and links that take time. */
export class SimPeer {
  readonly id: string
  readonly zone: number
  readonly liar: boolean
  readonly held: Bitfield
  readonly session: DownloadSession
  readonly plan: UploadPlan
  readonly uplink: FairPipe
  readonly downlink: SerialPipe
  readonly links = new Map<string, SimPeer>()
  /** Chunks that are wanted of neighbours: the neighbour's id for each request. */
  readonly #requests = new Map<number, Set<string>>()
  readonly #sending = new Map<string, Flow>()
  readonly #world: World
  #inFlight = 0
  gone = false
  /** It has the blob, or gave up. */
  over = false
  finishedAt: number | undefined

  constructor(options: {
    readonly id: string
    readonly zone: number
    readonly liar: boolean
    readonly uplink: FairPipe
    readonly world: World
  }) {
    const { world } = options
    const { layout, random } = world
    this.id = options.id
    this.zone = options.zone
    this.liar = options.liar
    this.uplink = options.uplink
    this.downlink = new SerialPipe(world.chunkMs)
    this.#world = world
    this.held = new Bitfield(layout.count)
    const trusted = new Bitfield(layout.count)
    this.session = new DownloadSession({
      layout,
      held: this.held,
      trusted,
      random,
      now: 0,
      schedulerUp: true,
    })
    // A sender learns at once that its chunk has left.
    this.plan = new UploadPlan(random, { minUploads: 1, queueRatio: 1 })
    this.plan.open(BLOB, this.held)
  }

  get #now(): number {
    return this.#world.events.now
  }

  start(): void {
    this.session.readerAdded(1, 0, this.#world.layout.count, false, this.#now)
    this.perform()
    this.#world.events.after(this.#world.random() * TICK_MS, () => this.#tick())
  }

  leave(): void {
    this.gone = true
    for (const flow of this.#sending.values()) this.uplink.stop(flow)
    for (const neighbour of this.links.values()) {
      this.#world.message(() => neighbour.unlinked(this, 'vanished'))
    }
  }

  perform(): void {
    if (this.gone) return
    for (const effect of this.session.takeEffects()) this.#act(effect)
    this.#serve()
  }

  #tick(): void {
    if (this.gone) return
    this.plan.tick(this.#now)
    if (!this.over) this.session.tick(this.#now)
    this.perform()
    this.#world.events.after(TICK_MS, () => this.#tick())
  }

  // ---- links

  /** Makes a link, both ways; each says what it holds. */
  link(other: SimPeer): void {
    if (this.gone || other.gone || this.links.has(other.id)) return
    this.links.set(other.id, other)
    other.links.set(this.id, this)
    this.#introduce(other)
    other.#introduce(this)
  }

  unlink(other: SimPeer): void {
    this.unlinked(other, undefined)
    this.#world.message(() => other.unlinked(this, undefined))
  }

  unlinked(other: SimPeer, deed: 'vanished' | undefined): void {
    if (this.gone || !this.links.delete(other.id)) return
    this.plan.neighbourLeft(BLOB, other.id, this.#now)
    this.session.neighbourDown(other.id, deed, this.#now)
    this.perform()
  }

  #introduce(to: SimPeer): void {
    const held = Bitfield.fromBytes(this.held.length, this.held.toBytes())
    this.#world.message(() => {
      if (to.gone || !to.links.has(this.id)) return
      to.plan.neighbourUp(BLOB, this.id, held, to.#now)
      if (!to.over) {
        to.session.neighbourUp(this.id, to.zone !== this.zone)
        for (const chunk of held.indices()) to.session.neighbourHas(this.id, chunk, this.#world.right[chunk]!)
        to.session.neighboursChanged(to.#now)
      }
      to.perform()
    })
  }

  // ---- what the session decides

  #act(effect: SessionEffect): void {
    switch (effect.type) {
      case 'request':
        this.#request(effect.neighbour, effect.chunk)
        break
      case 'cancel':
        this.#cancel(effect.neighbour, effect.chunk)
        break
      case 'pass':
        this.#to(effect.neighbour, other => other.plan.passed(BLOB, this.id, other.#now))
        break
      case 'want':
        this.#to(effect.neighbour, other => other.plan.neighbourWants(BLOB, this.id, other.#now))
        break
      case 'unexpect':
        this.#toAll(undefined, other => {
          other.plan.neighbourLacks(BLOB, this.id, effect.chunk, other.#now)
          other.session.neighbourLost(this.id, effect.chunk)
        })
        break
      case 'give-up':
        this.over = true
        this.#world.gaveUp(this)
        break
      default:
        this.#world.outside(this, effect)
    }
  }

  #request(id: string, chunk: number): void {
    const source = this.links.get(id)
    if (source === undefined) {
      this.#world.events.after(0, () => this.#refused(id, chunk, 'failed'))
      return
    }
    let sources = this.#requests.get(chunk)
    if (sources === undefined) this.#requests.set(chunk, (sources = new Set()))
    sources.add(id)
    this.#inFlight++
    this.#to(id, other => other.plan.requested(BLOB, this.id, chunk, other.#now))
    const load = this.#inFlight
    this.#toAll(id, other => {
      other.plan.neighbourCovers(BLOB, this.id, chunk, load)
      other.session.neighbourExpects(this.id, chunk)
    })
  }

  #cancel(id: string, chunk: number): void {
    if (!this.#ended(id, chunk)) return
    this.#to(id, source => {
      const key = `${this.id} ${chunk}`
      const flow = source.#sending.get(key)
      if (flow === undefined) source.plan.cancelled(BLOB, this.id, chunk, source.#now)
      else if (source.uplink.stop(flow)) source.#sent(this.id, chunk, false)
    })
  }

  #refused(id: string, chunk: number, reason: 'missing' | 'busy' | 'failed'): void {
    if (this.gone) return
    this.session.requestFailed(id, chunk, reason, this.#now)
    this.perform()
  }

  #ended(id: string, chunk: number): boolean {
    const sources = this.#requests.get(chunk)
    if (sources?.delete(id) !== true) return false
    if (sources.size === 0) this.#requests.delete(chunk)
    this.#inFlight--
    return true
  }

  // ---- what the plan decides

  #serve(): void {
    for (const effect of this.plan.takeEffects()) this.#do(effect)
  }

  #do(effect: UploadEffect): void {
    const { to, chunk } = effect
    switch (effect.type) {
      case 'slot':
        this.#to(to, other => {
          if (other.over) other.#to(this.id, back => back.plan.passed(BLOB, other.id, back.#now))
          else other.session.slotOffered(this.id, chunk, other.#now)
        })
        break
      case 'refuse':
        this.#to(to, other => {
          if (other.#ended(this.id, chunk)) other.#refused(this.id, chunk, effect.reason)
        })
        break
      case 'send':
        this.#send(to, chunk)
        break
    }
  }

  #send(to: string, chunk: number): void {
    const target = this.links.get(to)
    const flow = this.uplink.start(() => this.#sent(to, chunk, true))
    this.#sending.set(`${to} ${chunk}`, flow)
    if (target === undefined) return
    const { events, latencyMs, chunkMs } = this.#world
    events.after(latencyMs, () => target.session.chunkBegan(this.id, chunk))
    target.expectWhole(chunk, latencyMs + chunkMs * this.uplink.size)
  }

  #sent(to: string, chunk: number, whole: boolean): void {
    this.#sending.delete(`${to} ${chunk}`)
    this.plan.sent(BLOB, to, chunk, whole, this.#now)
    this.#serve()
    if (whole) this.#world.chunkSent()
    const target = this.links.get(to)
    if (!whole || target === undefined) return
    const { events, latencyMs } = this.#world
    const crossed = this.#world.cross(this, target)
    events.after(crossed - this.#now + latencyMs, () => {
      const through = target.downlink.pass(events.now)
      events.after(through - events.now, () => target.#arrived(this, chunk))
    })
  }

  /** A chunk begins to come that may be whole in `inMs`. */
  expectWhole(chunk: number, inMs: number): void {
    const { events, chunkMs, latencyMs } = this.#world
    const piece = chunkMs / PIECES
    // The end of the first piece that is not too early for the plan; it would take no notice of those before.
    const lead = Math.min(PIECES - 1, Math.floor((2 * latencyMs) / piece)) * piece
    if (lead === 0) return
    const whole = Math.max(events.now + inMs, this.downlink.freeAt + chunkMs)
    events.after(whole - lead - events.now, () => {
      if (this.gone || this.held.has(chunk)) return
      this.plan.chunkComing(BLOB, chunk, lead - 1e-6, this.#now)
      this.#serve()
    })
  }

  #arrived(source: SimPeer, chunk: number): void {
    if (this.gone || !this.#ended(source.id, chunk)) return
    const hash = source.liar ? this.#world.wrong : this.#world.right[chunk]!
    const verdict = this.session.chunkFromNeighbour(source.id, chunk, hash, this.#now)
    if (verdict === 'keep') this.keep(chunk, source.id)
    else if (verdict === 'wrong' && !this.held.has(chunk)) this.plan.chunkLost(BLOB, chunk, this.#now)
    this.perform()
  }

  /** A chunk was judged worth keeping: it is held, and the neighbours hear of it. */
  keep(chunk: number, from: string | undefined): void {
    const now = this.#now
    this.held.set(chunk)
    this.session.chunkStored(
      chunk,
      from === undefined ? { kind: 'origin' } : { kind: 'neighbour', id: from },
      now,
    )
    this.plan.chunkHeld(BLOB, chunk, now)
    const load = this.#inFlight
    const hash = this.#world.right[chunk]!
    this.#toAll(undefined, other => {
      other.plan.neighbourCovers(BLOB, this.id, chunk, load)
      if (!other.over) {
        other.session.neighbourHas(this.id, chunk, hash)
        other.session.neighboursChanged(other.#now)
      }
    })
    this.#world.chunkKept(this, chunk)
    this.session.readerMoved(1, this.held.nextClear(0), now)
    if (!this.session.complete || this.over) return
    this.over = true
    this.finishedAt = now
    this.session.stop()
    this.perform()
    this.#world.completed(this)
  }

  // ---- messages

  #to(id: string, deliver: (other: SimPeer) => void): void {
    const other = this.links.get(id)
    if (other === undefined) return
    this.#world.message(() => {
      if (other.gone || !other.links.has(this.id)) return
      deliver(other)
      other.perform()
    })
  }

  #toAll(except: string | undefined, deliver: (other: SimPeer) => void): void {
    const others = [...this.links.values()]
    this.#world.message(() => {
      for (const other of others) {
        if (other.gone || other.id === except || !other.links.has(this.id)) continue
        deliver(other)
        other.perform()
      }
    }, others.length)
  }
}
