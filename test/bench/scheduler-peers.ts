// A process of the scheduler bench: many peers that speak the real protocol and move no chunks. Told what to do by its
// parent, one message for each phase; see `scheduler.ts`.
import { randomBytes } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { createExchange, type Exchange, loadClusterKey, loadOrCreateIdentity } from '@darter/exchange'
import { createLogger, systemClock } from '@darter/runtime'
import { Bitfield, chunkLayout, HeldReports } from '@darter/swarm'
import { type Digest, parseDigest } from '@darter/oci'
import type { PeerMessage, SchedulerMessage } from '@darter/wire'

/** What the parent says first. */
export interface PeersOptions {
  readonly dir: string
  readonly scheduler: string
  readonly clusterKeyFile: string
  readonly count: number
  /** Loopback address of these peers, so that no process runs out of ports. */
  readonly host: string
  readonly zones: number
  readonly blob: Digest
  readonly size: number
}

/** A phase. `connect`: all peers come. `pull`: they join one swarm and report like a roll-out. `back`: all are connected again. */
export type PeersOrder =
  | { readonly phase: 'make'; readonly options: PeersOptions }
  | { readonly phase: 'connect'; readonly atOnce: number }
  | { readonly phase: 'back' }
  | {
      readonly phase: 'pull'
      /** Peers join within this time, and have everything so much later, ms. */
      readonly joinMs: number
      readonly pullMs: number
      /** Ask and demand leases meanwhile, to see how long answers take. */
      readonly probes: boolean
    }

/** What came of a phase: times in ms. */
export interface PeersReport {
  readonly connect?: readonly number[]
  readonly neighbours?: readonly number[]
  readonly lease?: readonly number[]
  readonly answer?: readonly number[]
  /** The longest time for which this process did nothing else, ms. */
  readonly longestPauseMs?: number
  readonly leasedChunks?: number
  readonly leases?: number
  /** From the end of a connection until the next one was there. */
  readonly back?: readonly number[]
  readonly lost: number
}

/** As peers do: progress under a lease is told so often. */
const ALIVE_MS = 400
/** How often a peer looks what has come from neighbours. */
const LOOK_AT_CHUNKS_MS = 1_000
/** How long one chunk takes from the origin under a lease. */
const ORIGIN_CHUNK_MS = 50
/** A probe of each kind is sent so often. */
const PROBE_MS = 25
/** How often it is looked whether all are back. */
const LOOK_MS = 200

const log = createLogger({ level: 'silent', name: 'bench' })

class BenchPeer {
  readonly exchange: Exchange
  readonly blob: Digest
  readonly #waiting = new Map<string, (message: SchedulerMessage) => void>()
  onLease: ((message: Extract<SchedulerMessage, { type: 'lease' }>) => void) | undefined
  lost = 0
  /** Times without a scheduler, ms. */
  readonly away: number[] = []
  #downAt: number | undefined

  constructor(exchange: Exchange, blob: Digest) {
    this.exchange = exchange
    this.blob = blob
    exchange.scheduler?.onMessage(message => {
      if (message.type === 'lease' && message.blob === this.blob) this.onLease?.(message)
      const about = message.type === 'answer' ? message.id : 'blob' in message ? message.blob : ''
      const key = `${message.type} ${about}`
      const waiting = this.#waiting.get(key)
      this.#waiting.delete(key)
      waiting?.(message)
    })
    exchange.scheduler?.onDown(() => {
      this.lost++
      this.#downAt = performance.now()
    })
    exchange.scheduler?.onUp(() => {
      if (this.#downAt !== undefined) this.away.push(performance.now() - this.#downAt)
      this.#downAt = undefined
    })
  }

  send(message: PeerMessage): void {
    this.exchange.scheduler?.send(message)
  }

  /** Sends a message; the time until that answer comes, ms. */
  async timed(message: PeerMessage, answer: string): Promise<number> {
    const from = performance.now()
    const come = new Promise<void>(resolve => this.#waiting.set(answer, () => resolve()))
    this.send(message)
    await come
    return performance.now() - from
  }
}

async function mapAtOnce<T, R>(
  items: readonly T[],
  atOnce: number,
  run: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await run(items[i]!)
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return results
}

class Crowd {
  readonly #options: PeersOptions
  #peers: readonly BenchPeer[] = []

  constructor(options: PeersOptions) {
    this.#options = options
  }

  /** What is the peers' own work is done before the clock starts. */
  async make(): Promise<PeersReport> {
    const options = this.#options
    const clusterKey = await loadClusterKey(options.clusterKeyFile)
    const numbers = Array.from({ length: options.count }, (_, i) => i)
    this.#peers = await mapAtOnce(numbers, 16, async i => {
      const exchange = createExchange({
        identity: await loadOrCreateIdentity(`${options.dir}/${i}.key`),
        clusterKey,
        host: options.host,
        port: 0,
        dataPort: 0,
        schedulers: [options.scheduler],
        zone: options.zones === 1 ? '' : `zone-${i % options.zones}`,
        source: async () => 'missing',
        clock: systemClock,
        random: Math.random,
        log,
      })
      return new BenchPeer(exchange, options.blob)
    })
    return { lost: 0 }
  }

  async connect(atOnce: number): Promise<PeersReport> {
    const connect = await mapAtOnce(this.#peers, atOnce, async peer => {
      const up = new Promise<void>(resolve => peer.exchange.scheduler?.onUp(resolve))
      const from = performance.now()
      await peer.exchange.start()
      await up
      return performance.now() - from
    })
    return { connect, lost: 0 }
  }

  /** The scheduler was killed: waits until all have found it again. */
  async back(): Promise<PeersReport> {
    const before = this.#peers.map(peer => peer.away.length)
    const isBack = (peer: BenchPeer, i: number) => peer.away.length > before[i]!
    const left = (): boolean => !this.#peers.every(isBack)
    while (left()) await delay(LOOK_MS)
    await delay(LOOK_MS)
    return {
      back: this.#peers.flatMap(peer => peer.away.slice(-1)),
      lost: this.#peers.reduce((sum, peer) => sum + peer.lost, 0),
    }
  }

  async pull(joinMs: number, pullMs: number, probe: boolean): Promise<PeersReport> {
    const neighbours: number[] = []
    const lease: number[] = []
    const answer: number[] = []
    const counts = { leases: 0, chunks: 0 }
    const probing = new AbortController()
    const probes = probe
      ? [this.#probe(answer, probing.signal, askProbe), this.#probe(lease, probing.signal, leaseProbe)]
      : []
    const pauses = monitorEventLoopDelay({ resolution: 10 })
    pauses.enable()
    await Promise.all(
      this.#peers.map(async (peer, i) => {
        await delay((i / this.#peers.length) * joinMs)
        neighbours.push(await this.#download(peer, pullMs, counts))
      }),
    )
    probing.abort()
    await Promise.all(probes)
    return {
      neighbours,
      lease,
      answer,
      longestPauseMs: pauses.max / 1e6,
      leasedChunks: counts.chunks,
      leases: counts.leases,
      lost: this.#peers.reduce((sum, peer) => sum + peer.lost, 0),
    }
  }

  /** Joins, reports chunks as they would come, and has everything in the end; returns how long the neighbours took. */
  async #download(
    peer: BenchPeer,
    pullMs: number,
    counts: { leases: number; chunks: number },
  ): Promise<number> {
    const { blob, size } = this.#options
    const { count } = chunkLayout(size)
    const held = new Bitfield(count)
    const reports = new HeldReports()
    const report = (): void => {
      const chunks = reports.take(performance.now(), peer.exchange.scheduler?.silenceMs ?? 0)
      if (chunks.length > 0) peer.send({ type: 'held', blob, chunks })
    }
    const keep = (chunk: number, from: 'origin' | 'neighbour'): void => {
      if (held.set(chunk) && reports.holds(chunk, from, performance.now())) report()
    }
    const demand = (): void =>
      peer.send({ type: 'lease-demand', blob, slots: 4, from: Math.min(count - 1, held.nextClear(0)) })
    const work = async (message: Extract<SchedulerMessage, { type: 'lease' }>): Promise<void> => {
      counts.leases++
      counts.chunks += message.to - message.from
      const alive = setInterval(
        () => peer.send({ type: 'lease-alive', blob, lease: message.lease }),
        ALIVE_MS,
      )
      for (let chunk = message.from; chunk < message.to; chunk++) {
        await delay(ORIGIN_CHUNK_MS)
        keep(chunk, 'origin')
      }
      clearInterval(alive)
      report()
      peer.send({ type: 'lease-end', blob, lease: message.lease, outcome: 'done' })
      demand()
    }
    peer.onLease = message => void work(message)
    const took = await peer.timed(
      { type: 'join', blob, size, held: held.toBytes(), wants: true },
      `neighbours ${blob}`,
    )
    demand()
    const from = performance.now()
    let come = 0
    // By the clock, not so long after the last time: peers that one process held up together would stay together.
    for (let at = LOOK_AT_CHUNKS_MS; at < pullMs; at += LOOK_AT_CHUNKS_MS) {
      await delay(Math.max(0, from + at - performance.now()))
      const due = Math.floor((at / pullMs) * count)
      for (; come < due; come++) keep(come, 'neighbour')
      report()
    }
    await delay(Math.max(0, from + pullMs - performance.now()))
    peer.onLease = undefined
    peer.send({ type: 'join', blob, size, held: Bitfield.full(count).toBytes(), wants: false })
    return took
  }

  async #probe(
    times: number[],
    signal: AbortSignal,
    probe: (peer: BenchPeer, number: number) => Promise<number>,
  ): Promise<void> {
    const running: Promise<unknown>[] = []
    for (let i = 0; !signal.aborted; i++) {
      const peer = this.#peers[(i * 7919) % this.#peers.length]!
      running.push(probe(peer, i).then(took => times.push(took)))
      await delay(PROBE_MS)
    }
    await Promise.race([Promise.all(running), delay(5_000)])
  }
}

/** Asks for a fact that is not known: it is the asker's to find out. */
function askProbe(peer: BenchPeer, number: number): Promise<number> {
  const key = randomBytes(8).toString('hex')
  return peer.timed({ type: 'ask', id: number, key, stale: false }, `answer ${number}`)
}

/** Asks for a lease on a blob of its own. */
async function leaseProbe(peer: BenchPeer): Promise<number> {
  const blob = parseDigest(`sha256:${randomBytes(32).toString('hex')}`)
  await peer.timed(
    { type: 'join', blob, size: 1, held: new Uint8Array(1), wants: true },
    `neighbours ${blob}`,
  )
  const took = await peer.timed({ type: 'lease-demand', blob, slots: 1, from: 0 }, `lease ${blob}`)
  peer.send({ type: 'leave', blob })
  return took
}

let crowd: Crowd | undefined
function run(what: PeersOrder): Promise<PeersReport> | undefined {
  switch (what.phase) {
    case 'make':
      crowd = new Crowd(what.options)
      return crowd.make()
    case 'connect':
      return crowd?.connect(what.atOnce)
    case 'back':
      return crowd?.back()
    case 'pull':
      return crowd?.pull(what.joinMs, what.pullMs, what.probes)
  }
}

process.on('message', (what: PeersOrder) => {
  void run(what)?.then(report => process.send?.(report))
})
process.on('disconnect', () => process.exit(0))
