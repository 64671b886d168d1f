import { DarterError, type Digest } from '@darter/oci'
import { rendezvousRanking } from '@darter/swarm'
import { type PeerMessage, type PreheatFailure, type SchedulerMessage, withoutQuery } from '@darter/wire'
import type { Outgoing } from './directory.ts'

/** Which peers something is brought to. */
export type PreheatScope =
  | { readonly kind: 'seeds' }
  | { readonly kind: 'all' }
  | { readonly kind: 'zone'; readonly zone: string }
  /** So many, always the same ones for one target as long as they are there. */
  | { readonly kind: 'some'; readonly count: number }

/** Reads `seeds`, `all`, `zone=Z` or `n=K`; undefined for anything else. */
export function parsePreheatScope(text: string): PreheatScope | undefined {
  if (text === 'seeds' || text === 'all') return { kind: text }
  if (/^zone=[ -~]{1,128}$/.test(text)) return { kind: 'zone', zone: text.slice('zone='.length) }
  const count = /^n=([1-9]\d{0,5})$/.exec(text)?.[1]
  return count === undefined ? undefined : { kind: 'some', count: Number(count) }
}

/** What is to be brought where. */
export interface PreheatRequest {
  readonly target: string
  readonly digest?: Digest
  readonly platform?: string
  /** Forgotten when the job is over. */
  readonly authorization?: string
  readonly to: string
}

/** How one peer gets on with a job. `lost`: it is gone, and may come back. */
export interface PreheatedPeer {
  readonly id: string
  readonly zone: string
  readonly state: 'asked' | 'running' | 'done' | 'failed' | 'cancelled' | 'lost'
  /** Bytes that it holds, of all that it knows of so far. */
  readonly held: number
  readonly size: number
  readonly failures: readonly PreheatFailure[]
}

/** How a job stands. */
export interface PreheatView {
  readonly id: string
  /** Without its query, in which a URL may be signed. */
  readonly target: string
  readonly platform: string | null
  readonly to: string
  /** `failed`: not every peer has everything. */
  readonly state: 'running' | 'done' | 'failed' | 'cancelled'
  /** RFC 3339. */
  readonly startedAt: string
  readonly endedAt: string | null
  /** Grows with each change. */
  readonly version: number
  readonly peers: readonly PreheatedPeer[]
}

/** No peer is of the kind that was asked for. */
export class NoSuchPeersError extends DarterError {
  readonly code = 'NO_SUCH_PEERS'

  constructor(to: string) {
    super(`no peer that is connected now is meant by ${to}`)
  }
}

/** So many jobs run that another one is refused. */
export class TooManyPreheatsError extends DarterError {
  readonly code = 'TOO_MANY_PREHEATS'

  constructor(most: number) {
    super(`${most} preheats run already; wait for one, or cancel one`)
  }
}

/** A peer that jobs can be given to. */
export interface PreheatCandidate {
  readonly id: string
  readonly zone: string
  readonly seed: boolean
}

/** What may be noted of the book's doings, for metrics. */
export interface PreheatEvents {
  /** A job is over, `ms` after its start. */
  onEnded?(state: Exclude<PreheatView['state'], 'running'>, ms: number): void
  /** A peer's part of a job is over. */
  onPeerEnded?(state: 'done' | 'failed' | 'cancelled'): void
  /** Peers told that they hold so many bytes more of what jobs bring. */
  onHeld?(bytes: number): void
}

const MAX_RUNNING = 16
/** Jobs that are over and can still be looked at, and for how long, ms. */
const MAX_ENDED = 64
const ENDED_MS = 3_600_000
/** How long a peer that left may take to come back before it counts as failed, ms. */
const LOST_MS = 60_000
/** Jobs that take longer are cancelled, ms. */
const LONGEST_MS = 86_400_000

type Order = SchedulerMessage & { type: 'preheat' }

interface Part {
  readonly id: string
  readonly zone: string
  state: PreheatedPeer['state']
  held: number
  /** The most that it has told. */
  most: number
  size: number
  failures: readonly PreheatFailure[]
  lostAt: number
  changedAt: number
}

interface Job {
  readonly id: string
  readonly target: string
  readonly platform: string | undefined
  readonly to: string
  readonly startedAt: number
  readonly startedWall: number
  readonly parts: ReadonlyMap<string, Part>
  /** Parts that are not over. */
  open: number
  /** Those whose peers are gone. */
  readonly lost: Set<Part>
  /** Undefined when the job is over: it holds the credentials. */
  order: Order | undefined
  state: PreheatView['state']
  endedAt: number
  endedWall: number | undefined
  version: number
}

/** The jobs that bring content to peers. In memory alone; each call returns what is to be sent. */
export class PreheatBook {
  readonly #jobs = new Map<string, Job>()
  readonly #newId: () => string
  readonly #wall: () => number
  readonly #events: PreheatEvents

  /** @param options.newId 32 random hex digits. @param options.wall the time of day, ms since 1970. */
  constructor(options: {
    readonly newId: () => string
    readonly wall: () => number
    readonly events?: PreheatEvents
  }) {
    this.#newId = options.newId
    this.#wall = options.wall
    this.#events = options.events ?? {}
  }

  /** Jobs at work now. */
  get running(): number {
    return [...this.#jobs.values()].filter(({ state }) => state === 'running').length
  }

  /**
   * Begins a job with those of the peers that the request means.
   * @throws {NoSuchPeersError} {@link TooManyPreheatsError}
   */
  start(
    request: PreheatRequest,
    scope: PreheatScope,
    peers: readonly PreheatCandidate[],
    now: number,
  ): { readonly id: string; readonly out: readonly Outgoing[] } {
    if (this.running >= MAX_RUNNING) throw new TooManyPreheatsError(MAX_RUNNING)
    const { to, ...content } = request
    const chosen = choose(scope, peers, content.target)
    if (chosen.length === 0) throw new NoSuchPeersError(to)
    const id = this.#newId()
    const order: Order = { type: 'preheat', job: id, ...content }
    const part = ({ id: peer, zone }: PreheatCandidate): [string, Part] => [
      peer,
      { id: peer, zone, state: 'asked', held: 0, most: 0, size: 0, failures: [], lostAt: 0, changedAt: 1 },
    ]
    this.#jobs.set(id, {
      id,
      target: withoutQuery(content.target),
      platform: content.platform,
      to,
      startedAt: now,
      startedWall: this.#wall(),
      parts: new Map(chosen.map(part)),
      open: chosen.length,
      lost: new Set(),
      order,
      state: 'running',
      endedAt: 0,
      endedWall: undefined,
      version: 1,
    })
    return { id, out: chosen.map(peer => ({ to: peer.id, message: order })) }
  }

  /** A peer said how it gets on. */
  told(from: string, message: PeerMessage & { type: 'preheat-state' }, now: number): void {
    const job = this.#jobs.get(message.job)
    const part = job?.parts.get(from)
    if (job === undefined || part === undefined || job.state !== 'running' || isOver(part)) return
    const { state, held, size, failures } = message
    Object.assign(part, { state, held, size, failures })
    if (held > part.most) this.#events.onHeld?.(held - part.most)
    part.most = Math.max(part.most, held)
    this.#changed(job, part, now)
  }

  /** A peer came (back): it is given again what it had not finished. */
  joined(id: string): Outgoing[] {
    const out: Outgoing[] = []
    for (const job of this.#jobs.values()) {
      const part = job.parts.get(id)
      if (job.order === undefined || part?.state !== 'lost') continue
      part.state = 'asked'
      job.lost.delete(part)
      part.changedAt = ++job.version
      out.push({ to: id, message: job.order })
    }
    return out
  }

  left(id: string, now: number): void {
    for (const job of this.#jobs.values()) {
      const part = job.parts.get(id)
      if (job.state !== 'running' || part === undefined || isOver(part)) continue
      part.state = 'lost'
      part.lostAt = now
      job.lost.add(part)
      part.changedAt = ++job.version
    }
  }

  /** Ends a job before its time. Peers keep what they have. False when there is no such job. */
  cancel(id: string, now: number): { readonly out: readonly Outgoing[] } | undefined {
    const job = this.#jobs.get(id)
    if (job === undefined) return undefined
    if (job.state !== 'running') return { out: [] }
    const out: Outgoing[] = []
    for (const part of job.parts.values()) {
      if (isOver(part)) continue
      if (part.state !== 'lost') out.push({ to: part.id, message: { type: 'preheat-cancel', job: id } })
      part.state = 'cancelled'
      part.changedAt = job.version + 1
      this.#events.onPeerEnded?.('cancelled')
    }
    job.version++
    this.#end(job, 'cancelled', now)
    return { out }
  }

  /** Moves time on: call about ten times a second. */
  tick(now: number): Outgoing[] {
    const out: Outgoing[] = []
    for (const job of this.#jobs.values()) {
      if (job.state !== 'running') {
        if (now - job.endedAt > ENDED_MS) this.#jobs.delete(job.id)
        continue
      }
      if (now - job.startedAt > LONGEST_MS) out.push(...(this.cancel(job.id, now)?.out ?? []))
      for (const part of job.lost) {
        if (now - part.lostAt <= LOST_MS) continue
        job.lost.delete(part)
        part.state = 'failed'
        part.failures = [
          { what: job.target, code: 'PEER_LOST', message: 'the peer left and did not come back' },
        ]
        this.#changed(job, part, now)
      }
    }
    return out
  }

  /** A job as it stands; `since`: only the peers that changed after that version. Undefined when there is no such job. */
  view(id: string, since = 0): PreheatView | undefined {
    const job = this.#jobs.get(id)
    if (job === undefined) return undefined
    const peers = [...job.parts.values()]
      .filter(({ changedAt }) => changedAt > since)
      .map(({ lostAt: _lostAt, changedAt: _changedAt, most: _most, ...part }) => part)
    const { target, platform = null, to, state, version, startedWall, endedWall } = job
    return {
      id,
      target,
      platform,
      to,
      state,
      startedAt: new Date(startedWall).toISOString(),
      endedAt: endedWall === undefined ? null : new Date(endedWall).toISOString(),
      version,
      peers,
    }
  }

  /** All jobs without their peers, the oldest first. */
  list(): Omit<PreheatView, 'peers'>[] {
    return [...this.#jobs.keys()].flatMap(id => {
      const view = this.view(id, Number.POSITIVE_INFINITY)
      if (view === undefined) return []
      const { peers: _, ...rest } = view
      return [rest]
    })
  }

  #changed(job: Job, part: Part, now: number): void {
    part.changedAt = ++job.version
    if (!isOver(part)) return
    this.#events.onPeerEnded?.(part.state)
    if (--job.open > 0) return
    const parts = [...job.parts.values()]
    this.#end(job, parts.every(({ state }) => state === 'done') ? 'done' : 'failed', now)
  }

  #end(job: Job, state: Exclude<PreheatView['state'], 'running'>, now: number): void {
    this.#events.onEnded?.(state, now - job.startedAt)
    job.state = state
    job.endedAt = now
    job.endedWall = this.#wall()
    job.order = undefined
    job.lost.clear()
    const ended = [...this.#jobs.values()].filter(other => other.state !== 'running')
    for (const oldest of ended.slice(0, Math.max(0, ended.length - MAX_ENDED))) this.#jobs.delete(oldest.id)
  }
}

function isOver(part: Part): part is Part & { state: 'done' | 'failed' | 'cancelled' } {
  const { state } = part
  return state === 'done' || state === 'failed' || state === 'cancelled'
}

function choose(
  scope: PreheatScope,
  peers: readonly PreheatCandidate[],
  target: string,
): readonly PreheatCandidate[] {
  switch (scope.kind) {
    case 'all':
      return peers
    case 'seeds':
      return peers.filter(({ seed }) => seed)
    case 'zone':
      return peers.filter(({ zone }) => zone === scope.zone)
    case 'some': {
      const ids = new Set(
        rendezvousRanking(
          peers.map(({ id }) => id),
          target,
          scope.count,
        ),
      )
      return peers.filter(({ id }) => ids.has(id))
    }
  }
}
