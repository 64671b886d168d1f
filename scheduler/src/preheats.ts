import { DarterError, type Digest } from '@darter/oci'
import { type PeerMessage, type PreheatFailure, type SchedulerMessage, withoutSecrets } from '@darter/wire'
import type { Outgoing } from './directory.ts'
import {
  choosePeers,
  type PreheatCandidate,
  type PreheatRequest,
  type PreheatScope,
} from './preheat-request.ts'

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
  /** A URL without its query, in which it may be signed. */
  readonly target: string
  readonly platform: string | null
  readonly to: string
  /** `failed`: not every peer has everything. */
  readonly state: 'running' | 'done' | 'failed' | 'cancelled'
  /** RFC 3339. */
  readonly startedAt: string
  readonly endedAt: string | null
  /** Grows with each change, for as long as one scheduler runs. */
  readonly version: number
  readonly peers: readonly PreheatedPeer[]
}

/** What is kept of a job on disk: no secret, but that it had some. */
export interface PreheatRecord extends PreheatView {
  readonly digest?: Digest
  /** It came with credentials, or its URL with a query or a user: it cannot go on without. */
  readonly hadSecrets: boolean
}

/** The failure of peers whose job was at work when the scheduler was started again, and had secrets. */
export const SCHEDULER_RESTARTED = 'SCHEDULER_RESTARTED'

/** So many jobs run that another one is refused. */
export class TooManyPreheatsError extends DarterError {
  readonly code = 'TOO_MANY_PREHEATS'

  constructor(most: number) {
    super(`${most} preheats run already; wait for one, or cancel one`)
  }
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

const RESTARTED =
  'the scheduler was started again, and keeps neither credentials nor queries of URLs: start the preheat again'

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
  /** Undefined: it has not been there since the scheduler was started. */
  lostAt: number | undefined
  changedAt: number
}

interface Job {
  readonly id: string
  /** Without secrets. */
  readonly target: string
  readonly digest: Digest | undefined
  readonly platform: string | undefined
  readonly to: string
  readonly hadSecrets: boolean
  readonly startedAt: number
  readonly startedWall: number
  readonly parts: ReadonlyMap<string, Part>
  /** Parts that are not over. */
  open: number
  /** Those whose peers are gone. */
  readonly lost: Set<Part>
  /** When it was restored, or the last of the peers that it had then came back. */
  returnedAt: number
  /** Undefined when the job is over: it holds the credentials. */
  order: Order | undefined
  state: PreheatView['state']
  endedAt: number
  endedWall: number | undefined
  version: number
}

/** The jobs that bring content to peers. Pure bookkeeping: calls return what is to be sent and kept. */
export class PreheatBook {
  readonly #jobs = new Map<string, Job>()
  /** Those that the disk has otherwise, forgotten ones included. */
  readonly #unsaved = new Set<string>()
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
    const chosen = choosePeers(scope, peers, request)
    const id = this.#newId()
    const order: Order = { type: 'preheat', job: id, ...content }
    const target = withoutSecrets(content.target)
    const part = ({ id: peer, zone }: PreheatCandidate): [string, Part] => [
      peer,
      {
        id: peer,
        zone,
        state: 'asked',
        held: 0,
        most: 0,
        size: 0,
        failures: [],
        lostAt: undefined,
        changedAt: 1,
      },
    ]
    this.#jobs.set(id, {
      id,
      target,
      digest: content.digest,
      platform: content.platform,
      to,
      hadSecrets: content.authorization !== undefined || target !== content.target,
      startedAt: now,
      startedWall: this.#wall(),
      parts: new Map(chosen.map(part)),
      open: chosen.length,
      lost: new Set(),
      returnedAt: now,
      order,
      state: 'running',
      endedAt: 0,
      endedWall: undefined,
      version: 1,
    })
    this.#unsaved.add(id)
    return { id, out: chosen.map(peer => ({ to: peer.id, message: order })) }
  }

  /**
   * Takes up the jobs of the scheduler that ran before this one, before any other call. One that was at work goes on with its
   * own peers: each is given its part when it is back, and counts as failed when none of them came for a minute. One that had
   * secrets has failed.
   */
  restore(records: readonly PreheatRecord[], now: number): void {
    const ago = (time: number) => now - Math.max(0, this.#wall() - time)
    const oldestFirst = records.toSorted((a, b) => Date.parse(a.startedAt) - Date.parse(b.startedAt))
    for (const { peers, digest, platform, startedAt, endedAt, ...record } of oldestFirst) {
      const { id, target, version, hadSecrets } = record
      const parts = peers.map(peer => ({ ...peer, most: peer.held, lostAt: undefined, changedAt: version }))
      const open = record.state === 'running' ? parts.filter(part => !isOver(part)) : []
      const startedWall = Date.parse(startedAt)
      const endedWall = endedAt === null ? undefined : Date.parse(endedAt)
      const content = { target, ...(digest && { digest }), ...(platform !== null && { platform }) }
      const job: Job = {
        ...record,
        digest,
        platform: platform ?? undefined,
        startedAt: ago(startedWall),
        startedWall,
        parts: new Map(parts.map(part => [part.id, part])),
        open: open.length,
        lost: new Set(open),
        returnedAt: now,
        order: open.length === 0 ? undefined : { type: 'preheat', job: id, ...content },
        endedAt: endedWall === undefined ? 0 : ago(endedWall),
        endedWall,
      }
      this.#jobs.set(id, job)
      for (const part of open) {
        part.state = 'lost'
        if (hadSecrets) this.#fail(job, part, { code: SCHEDULER_RESTARTED, message: RESTARTED }, now)
      }
    }
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
  joined(id: string, now: number): Outgoing[] {
    const out: Outgoing[] = []
    for (const job of this.#jobs.values()) {
      const part = job.parts.get(id)
      if (job.order === undefined || part?.state !== 'lost') continue
      part.state = 'asked'
      job.lost.delete(part)
      if (part.lostAt === undefined) job.returnedAt = now
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
        if (now - job.endedAt > ENDED_MS) this.#forget(job.id)
        continue
      }
      if (now - job.startedAt > LONGEST_MS) out.push(...(this.cancel(job.id, now)?.out ?? []))
      for (const part of job.lost) {
        if (now - (part.lostAt ?? job.returnedAt) <= LOST_MS) continue
        this.#fail(job, part, { code: 'PEER_LOST', message: 'the peer left and did not come back' }, now)
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

  /** A job as it is to be kept; undefined when it is to be kept no more. */
  record(id: string): PreheatRecord | undefined {
    const view = this.view(id)
    const job = this.#jobs.get(id)
    if (view === undefined || job === undefined) return undefined
    const { digest, hadSecrets } = job
    return { ...view, ...(digest !== undefined && { digest }), hadSecrets }
  }

  /** The jobs whose records changed since this was last asked: by a start, an end, or the end of a peer's part. */
  takeUnsaved(): readonly string[] {
    const ids = [...this.#unsaved]
    this.#unsaved.clear()
    return ids
  }

  #fail(job: Job, part: Part, failure: Omit<PreheatFailure, 'what'>, now: number): void {
    job.lost.delete(part)
    part.state = 'failed'
    part.failures = [{ what: job.target, ...failure }]
    this.#changed(job, part, now)
  }

  #forget(id: string): void {
    this.#jobs.delete(id)
    this.#unsaved.add(id)
  }

  #changed(job: Job, part: Part, now: number): void {
    part.changedAt = ++job.version
    if (!isOver(part)) return
    this.#unsaved.add(job.id)
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
    this.#unsaved.add(job.id)
    const ended = [...this.#jobs.values()].filter(other => other.state !== 'running')
    for (const oldest of ended.slice(0, Math.max(0, ended.length - MAX_ENDED))) this.#forget(oldest.id)
  }
}

function isOver(part: Part): part is Part & { state: 'done' | 'failed' | 'cancelled' } {
  const { state } = part
  return state === 'done' || state === 'failed' || state === 'cancelled'
}
