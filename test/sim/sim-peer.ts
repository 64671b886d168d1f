import {
  Bitfield,
  type ChunkLayout,
  DownloadSession,
  HeldReports,
  type Random,
  type SessionEffect,
  type UploadEffect,
  UploadPlan,
} from '@darter/swarm'
import { BEGUN, EXPECTED, HELD, type Listener } from './news.ts'
import type { FairPipe, Flow } from './pipes.ts'
import { SerialPipe } from './pipes.ts'
import { type LinkEnd, type Network, SimLinks } from './sim-links.ts'

/** What a session wants of the origin, or has to say to the scheduler. */
export type OutsideEffect = SessionEffect & {
  readonly type: 'fetch-origin' | 'stop-origin' | 'lease-demand' | 'lease-end' | 'blame'
}

/** What all simulated peers share. */
export interface World extends Network {
  readonly layout: ChunkLayout
  readonly random: Random
  readonly latencyMs: number
  /** How long one chunk takes over a peer's link, ms. */
  readonly chunkMs: number
  readonly right: readonly Uint8Array[]
  readonly wrong: Uint8Array
  /** The names of all peers, by their numbers. */
  readonly ids: readonly string[]
  /** Passes a chunk that left its sender at this moment over the border between two zones, if there is one; returns when it is through, ms. */
  cross(from: SimPeer, to: SimPeer): number
  chunkSent(): void
  /** What sessions want of the origin and of the scheduler. */
  outside(peer: SimPeer, effect: OutsideEffect): void
  chunkKept(peer: SimPeer, chunk: number, from: 'origin' | 'neighbour'): void
  completed(peer: SimPeer): void
  gaveUp(peer: SimPeer): void
}

/** Pieces in which a chunk arrives: its receiver notices that it will be whole soon at the end of one of them. */
const PIECES = 4
/** Time moves on for its decisions so often, ms. */
export const TICK_MS = 100
const BLOB = 'blob'

/** One peer: the production decisions, and links that take time. */
export class SimPeer implements Listener, LinkEnd {
  readonly index: number
  readonly id: string
  readonly zone: number
  readonly liar: boolean
  readonly held: Bitfield
  readonly reports = new HeldReports()
  readonly session: DownloadSession
  readonly plan: UploadPlan
  readonly uplink: FairPipe
  readonly downlink: SerialPipe
  readonly links: SimLinks<SimPeer>
  /** Chunks that are wanted of neighbours. */
  readonly #requests: { readonly source: string; readonly chunk: number }[] = []
  readonly #sending: { readonly to: string; readonly chunk: number; readonly flow: Flow }[] = []
  readonly #world: World
  gone = false
  /** It has the blob, or gave up. */
  over = false
  finishedAt: number | undefined

  constructor(options: {
    readonly index: number
    readonly id: string
    readonly zone: number
    readonly liar: boolean
    readonly uplink: FairPipe
    readonly world: World
  }) {
    const { world } = options
    const { layout, random } = world
    this.index = options.index
    this.id = options.id
    this.zone = options.zone
    this.liar = options.liar
    this.uplink = options.uplink
    this.downlink = new SerialPipe(world.chunkMs)
    this.#world = world
    this.links = new SimLinks(world, this)
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
    for (const { flow } of this.#sending) this.uplink.stop(flow)
    for (const neighbour of this.links.values()) {
      this.#world.message(() => neighbour.unlinked(this, 'vanished'))
    }
  }

  catchUp(): void {
    this.#world.news.read(this.index, this)
  }

  heardHeld(from: number, chunk: number, load: number, at: number): void {
    if (this.gone) return
    const id = this.#world.ids[from]!
    this.plan.neighbourHas(BLOB, id, chunk, load)
    if (this.over) return
    this.session.neighbourHas(id, chunk, this.#world.right[chunk]!)
    this.session.neighboursChanged(at)
  }

  heardExpected(from: number, chunk: number, load: number): void {
    if (this.gone) return
    const id = this.#world.ids[from]!
    this.plan.neighbourExpects(BLOB, id, chunk, load)
    this.session.neighbourExpects(id, chunk)
  }

  heardBegun(from: number, chunk: number): void {
    if (!this.gone) this.session.chunkBegan(this.#world.ids[from]!, chunk)
  }

  perform(): void {
    if (this.gone) return
    for (const effect of this.session.takeEffects()) this.#act(effect)
    this.#serve()
  }

  #tick(): void {
    if (this.gone) return
    this.catchUp()
    this.plan.tick(this.#now)
    if (!this.over) this.session.tick(this.#now)
    this.perform()
    this.#world.events.after(TICK_MS, () => this.#tick())
  }

  // ---- links

  /** Makes a link, both ways; each says what it holds. */
  link(other: SimPeer): void {
    if (this.gone || other.gone || this.links.has(other.id)) return
    this.#linkTo(other)
    other.#linkTo(this)
    this.#introduce(other)
    other.#introduce(this)
  }

  #linkTo(other: SimPeer): void {
    this.catchUp()
    this.links.add(other)
  }

  unlink(other: SimPeer): void {
    this.unlinked(other, undefined)
    this.#world.message(() => other.unlinked(this, undefined))
  }

  unlinked(other: SimPeer, deed: 'vanished' | undefined): void {
    if (this.gone || !this.links.has(other.id)) return
    this.catchUp()
    this.links.remove(other)
    this.plan.neighbourLeft(BLOB, other.id, this.#now)
    this.session.neighbourDown(other.id, deed, this.#now)
    this.perform()
  }

  #introduce(to: SimPeer): void {
    const held = Bitfield.fromBytes(this.held.length, this.held.toBytes())
    this.#world.message(() => {
      if (to.gone || !to.links.has(this.id)) return
      to.catchUp()
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
        this.links.say(effect.neighbour, (other, me) => other.plan.passed(BLOB, me, other.#now))
        break
      case 'want':
        this.links.say(effect.neighbour, (other, me) => other.plan.neighbourWants(BLOB, me, other.#now))
        break
      case 'unexpect':
        this.links.sayToAll((other, me) => {
          other.plan.neighbourLacks(BLOB, me, effect.chunk, other.#now)
          other.session.neighbourLost(me, effect.chunk)
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
    this.#requests.push({ source: id, chunk })
    this.links.say(id, (other, me) => other.plan.requested(BLOB, me, chunk, other.#now))
    this.links.tell(source.index, EXPECTED, chunk, this.#requests.length)
  }

  #cancel(id: string, chunk: number): void {
    if (!this.#ended(id, chunk)) return
    this.links.say(id, (source, me) => {
      const sent = source.#sending.find(sending => sending.to === me && sending.chunk === chunk)
      if (sent === undefined) source.plan.cancelled(BLOB, me, chunk, source.#now)
      else if (source.uplink.stop(sent.flow)) source.#sent(me, chunk, false)
    })
  }

  #refused(id: string, chunk: number, reason: 'missing' | 'busy' | 'failed'): void {
    if (this.gone) return
    this.catchUp()
    this.session.requestFailed(id, chunk, reason, this.#now)
    this.perform()
  }

  #ended(id: string, chunk: number): boolean {
    const index = this.#requests.findIndex(request => request.chunk === chunk && request.source === id)
    if (index < 0) return false
    this.#requests.splice(index, 1)
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
        this.links.say(to, (other, me) => {
          if (other.over) other.links.say(me, (back, them) => back.plan.passed(BLOB, them, back.#now))
          else other.session.slotOffered(me, chunk, other.#now)
        })
        break
      case 'refuse':
        this.links.say(to, (other, me) => {
          if (other.#ended(me, chunk)) other.#refused(me, chunk, effect.reason)
        })
        break
      case 'send':
        this.#send(to, chunk)
        break
    }
  }

  #send(to: string, chunk: number): void {
    const target = this.links.get(to)
    const flow = this.uplink.start(() => {
      this.catchUp()
      this.#sent(to, chunk, true)
    })
    this.#sending.push({ to, chunk, flow })
    if (target === undefined) return
    const { events, latencyMs, chunkMs } = this.#world
    events.after(latencyMs, () => this.links.post(target.index, BEGUN, chunk, 0))
    target.expectWhole(chunk, latencyMs + chunkMs * this.uplink.size)
  }

  #sent(to: string, chunk: number, whole: boolean): void {
    const index = this.#sending.findIndex(sending => sending.to === to && sending.chunk === chunk)
    if (index >= 0) this.#sending.splice(index, 1)
    this.plan.sent(BLOB, to, chunk, whole, this.#now)
    this.#serve()
    if (whole) this.#world.chunkSent()
    const target = this.links.get(to)
    if (!whole || target === undefined) return
    const { events, latencyMs } = this.#world
    const crossed = this.#world.cross(this, target)
    const { id } = this
    const hash = this.liar ? this.#world.wrong : this.#world.right[chunk]!
    events.after(crossed - events.now + latencyMs, () => {
      const through = target.downlink.pass(events.now)
      events.after(through - events.now, () => target.#arrived(id, chunk, hash))
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
      this.catchUp()
      this.plan.chunkComing(BLOB, chunk, lead - 1e-6, this.#now)
      this.#serve()
    })
  }

  #arrived(source: string, chunk: number, hash: Uint8Array): void {
    if (this.gone || !this.#ended(source, chunk)) return
    this.catchUp()
    const verdict = this.session.chunkFromNeighbour(source, chunk, hash, this.#now)
    if (verdict === 'keep') this.keep(chunk, source)
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
    this.links.tell(-1, HELD, chunk, this.#requests.length)
    this.#world.chunkKept(this, chunk, from === undefined ? 'origin' : 'neighbour')
    this.session.readerMoved(1, this.held.nextClear(0), now)
    if (!this.session.complete || this.over) return
    this.over = true
    this.finishedAt = now
    this.session.stop()
    this.perform()
    this.#world.completed(this)
  }
}
