import type { EventQueue } from './event-queue.ts'
import { FifoPipe, type Flow } from './pipes.ts'
import type { OutsideEffect, SimPeer } from './sim-peer.ts'

/** Bytes that flow are noticed so often, ms. */
export const ALIVE_EVERY_MS = 400
/** How long the origin takes to fail, ms. */
const FAILURE_MS = 20

interface OriginRead {
  readonly peer: SimPeer
  readonly fetch: number
  readonly lease: number | undefined
  readonly to: number
  next: number
  flow: Flow | undefined
  over: boolean
}

/** A simulated origin: it sends the chunks of all reads one after another, at its own rate. */
export class SimOrigin {
  readonly #events: EventQueue
  readonly #latencyMs: number
  readonly #right: readonly Uint8Array[]
  readonly #fails: (now: number) => boolean
  readonly #onAlive: (peer: SimPeer, lease: number) => void
  readonly #pipe: FifoPipe
  readonly #reads = new Map<SimPeer, Map<number, OriginRead>>()
  #requests = 0
  #chunks = 0

  constructor(options: {
    readonly events: EventQueue
    readonly latencyMs: number
    /** How long it takes to send a chunk, ms. */
    readonly chunkMs: number
    /** The hashes of the chunks. */
    readonly right: readonly Uint8Array[]
    /** Whether it fails at this time. */
    readonly fails: (now: number) => boolean
    /** Called now and then while bytes flow to a peer under a lease. */
    readonly onAlive: (peer: SimPeer, lease: number) => void
  }) {
    const { events, chunkMs } = options
    this.#events = events
    this.#latencyMs = options.latencyMs
    this.#right = options.right
    this.#fails = options.fails
    this.#onAlive = options.onAlive
    this.#pipe = new FifoPipe(events, chunkMs)
  }

  /** How many requests there were. */
  get requests(): number {
    return this.#requests
  }

  /** How many chunks it sent. */
  get chunks(): number {
    return this.#chunks
  }

  /** A peer sends a request for a run of chunks. */
  read(peer: SimPeer, effect: OutsideEffect & { readonly type: 'fetch-origin' }): void {
    const { fetch, lease, from, to } = effect
    const read: OriginRead = { peer, fetch, lease, to, next: from, flow: undefined, over: false }
    const reads = this.#reads.get(peer) ?? new Map<number, OriginRead>()
    this.#reads.set(peer, reads.set(fetch, read))
    this.#requests++
    this.#events.after(this.#latencyMs, () => this.#send(read))
    this.#events.after(ALIVE_EVERY_MS, () => this.#sign(read))
  }

  /** A peer wants no more of one of its requests. */
  stop(peer: SimPeer, fetch: number): void {
    const read = this.#reads.get(peer)?.get(fetch)
    if (read !== undefined) this.#end(read)
  }

  /** A peer is gone. */
  left(peer: SimPeer): void {
    for (const read of this.#reads.get(peer)?.values() ?? []) this.#end(read)
  }

  #sign(read: OriginRead): void {
    const { peer, lease } = read
    if (read.over || peer.gone) return
    if (read.flow !== undefined) {
      peer.session.bytesFlowed(this.#events.now)
      if (lease !== undefined) this.#onAlive(peer, lease)
    }
    this.#events.after(ALIVE_EVERY_MS, () => this.#sign(read))
  }

  #send(read: OriginRead): void {
    if (read.over) return
    if (this.#fails(this.#events.now)) {
      this.#events.after(FAILURE_MS, () => this.#ended(read, { refused: false }))
      return
    }
    read.flow = this.#pipe.start(() => {
      const chunk = read.next++
      const last = read.next === read.to
      this.#chunks++
      read.flow = undefined
      this.#events.after(this.#latencyMs, () => {
        const through = read.peer.downlink.pass(this.#events.now)
        this.#events.after(through - this.#events.now, () => this.#arrived(read, chunk, last))
      })
      if (!last) this.#send(read)
    })
    const inMs = this.#pipe.size * this.#pipe.chunkMs + this.#latencyMs
    read.peer.expectWhole(read.next, inMs)
  }

  #arrived(read: OriginRead, chunk: number, last: boolean): void {
    const { peer } = read
    if (peer.gone || read.over) return
    const { now } = this.#events
    peer.catchUp()
    if (peer.session.chunkFromOrigin(chunk, this.#right[chunk]!, now) === 'keep') peer.keep(chunk, undefined)
    if (last) this.#ended(read, undefined)
    peer.perform()
  }

  #ended(read: OriginRead, failure: { readonly refused: boolean } | undefined): void {
    const { peer } = read
    if (read.over || peer.gone) return
    this.#end(read)
    peer.catchUp()
    peer.session.fetchEnded(read.fetch, failure, this.#events.now)
    peer.perform()
  }

  #end(read: OriginRead): void {
    read.over = true
    this.#reads.get(read.peer)?.delete(read.fetch)
    if (read.flow !== undefined) this.#pipe.stop(read.flow)
  }
}
