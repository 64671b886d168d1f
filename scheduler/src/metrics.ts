import type { Metrics } from '@darter/runtime'
import type { Deed, PeerMessage } from '@darter/wire'
import type { SeedRefusal, SwarmDirectory } from './directory.ts'

/** Decisions take from microseconds to tens of milliseconds. */
const DECISION_BUCKETS = [0.00001, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5]

/** What the scheduler counts. */
export interface SchedulerMetrics {
  message(type: PeerMessage['type'], ms: number): void
  blamed(deed: Deed): void
  leased(): void
  lapsed(): void
  seedAsked(): void
  seedDeclined(reason: SeedRefusal): void
}

/** Registers the scheduler's metrics; the gauges ask the directory when they are read. */
export function createSchedulerMetrics(
  metrics: Metrics,
  directory: () => SwarmDirectory | undefined,
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
  const gauge = (name: string, help: string, read: (of: SwarmDirectory) => number): void => {
    metrics.gauge({
      name,
      help,
      collect: target => {
        const current = directory()
        target.set(current === undefined ? 0 : read(current))
      },
    })
  }
  gauge('scheduler_peers', 'Peers that are admitted now.', of => of.peers)
  gauge('scheduler_seeds', 'Peers that are seeds, of those that are admitted now.', of => of.seeds)
  gauge('scheduler_blobs', 'Blobs that peers hold or want.', of => of.blobs)
  gauge('scheduler_leases', 'Leases at work now.', of => of.leases)
  gauge('scheduler_facts', 'Shared facts that are kept.', of => of.facts)
  return {
    message: (type, ms) => decisions.observe({ type }, ms / 1000),
    blamed: deed => blames.inc({ deed }),
    leased: () => leases.inc(),
    lapsed: () => lapses.inc(),
    seedAsked: () => asked.inc(),
    seedDeclined: reason => declined.inc({ reason }),
  }
}
