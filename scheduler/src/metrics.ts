import type { Metrics } from '@darter/runtime'
import type { Deed, PeerMessage } from '@darter/wire'
import type { SeedRefusal, SwarmDirectory } from './directory.ts'

/** Decisions take from microseconds to tens of milliseconds. */
const DECISION_BUCKETS = [0.00001, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5]

const PREHEAT_BUCKETS = [0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400]

/** What the scheduler counts. */
export interface SchedulerMetrics {
  message(type: PeerMessage['type'], ms: number): void
  blamed(deed: Deed): void
  leased(): void
  lapsed(): void
  seedAsked(): void
  seedDeclined(reason: SeedRefusal): void
  /** `ms`: from its start. */
  preheatEnded(state: PreheatEnd, ms: number): void
  preheatPeerEnded(state: PreheatEnd): void
  /** Bytes that peers came to hold. */
  preheated(bytes: number): void
}

/** What gauges are read from. */
interface Measured {
  readonly directory: SwarmDirectory
  readonly preheats: { readonly running: number }
}

type PreheatEnd = 'done' | 'failed' | 'cancelled'

/** Registers the scheduler's metrics; the gauges ask the service, once there is one, when they are read. */
export function createSchedulerMetrics(
  metrics: Metrics,
  service: () => Measured | undefined,
): SchedulerMetrics {
  const decisions = metrics.histogram({
    name: 'scheduler_decision_seconds',
    help: 'Time to decide on one message of a peer.',
    labels: ['type'],
    buckets: DECISION_BUCKETS,
  })
  const blames = metrics.counter({
    name: 'scheduler_blames_total',
    help: 'Complaints of peers about peers, by deed.',
    labels: ['deed'],
  })
  const leases = metrics.counter({ name: 'scheduler_leases_total', help: 'Leases granted.' })
  const lapses = metrics.counter({
    name: 'scheduler_lapsed_leases_total',
    help: 'Leases that were taken back because they made no progress.',
  })
  const asked = metrics.counter({
    name: 'scheduler_seed_calls_total',
    help: 'Cold blobs that a seed was asked to fetch.',
  })
  const declined = metrics.counter({
    name: 'scheduler_seed_refusals_total',
    help: 'Blobs that a seed was asked for and did not fetch, by reason.',
    labels: ['reason'],
  })
  const preheats = metrics.histogram({
    name: 'scheduler_preheat_seconds',
    help: 'Time that preheats took, by how they ended.',
    labels: ['state'],
    buckets: PREHEAT_BUCKETS,
  })
  const preheatPeers = metrics.counter({
    name: 'scheduler_preheat_peers_total',
    help: 'Peers whose part of a preheat is over, by how it ended.',
    labels: ['state'],
  })
  const preheatBytes = metrics.counter({
    name: 'scheduler_preheat_held_bytes_total',
    help: 'Bytes that peers told they hold of what preheats bring them, with what they held before.',
  })
  const serviceGauge = (name: string, help: string, read: (of: Measured) => number): void => {
    metrics.gauge({
      name,
      help,
      collect: target => {
        const current = service()
        target.set(current === undefined ? 0 : read(current))
      },
    })
  }
  const gauge = (name: string, help: string, read: (of: SwarmDirectory) => number): void =>
    serviceGauge(name, help, ({ directory }) => read(directory))
  gauge('scheduler_peers', 'Peers that are admitted now.', of => of.peers)
  gauge('scheduler_seeds', 'Peers that are seeds, of those that are admitted now.', of => of.seeds)
  gauge('scheduler_blobs', 'Blobs that peers hold or want.', of => of.blobs)
  gauge('scheduler_leases', 'Leases at work now.', of => of.leases)
  gauge('scheduler_facts', 'Shared facts that are kept.', of => of.facts)
  serviceGauge('scheduler_preheats', 'Preheats at work now.', ({ preheats: jobs }) => jobs.running)
  return {
    message: (type, ms) => decisions.observe({ type }, ms / 1000),
    blamed: deed => blames.inc({ deed }),
    leased: () => leases.inc(),
    lapsed: () => lapses.inc(),
    seedAsked: () => asked.inc(),
    seedDeclined: reason => declined.inc({ reason }),
    preheatEnded: (state, ms) => preheats.observe({ state }, ms / 1000),
    preheatPeerEnded: state => preheatPeers.inc({ state }),
    preheated: bytes => preheatBytes.inc({}, bytes),
  }
}
