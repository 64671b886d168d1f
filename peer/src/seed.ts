import type { SchedulerLink } from '@darter/exchange'
import type { Digest } from '@darter/oci'
import type { Clock, Component, Logger, Metrics } from '@darter/runtime'
import type { PeerMessage, SchedulerMessage } from '@darter/wire'
import { LRUCache } from 'lru-cache'
import type { BlobReads } from './download/contract.ts'
import type { Upstreams } from './upstreams.ts'

type Call = SchedulerMessage & { type: 'seed' }
type Refusal = (PeerMessage & { type: 'seed-end' })['reason']

/** Blobs that are fetched for the cluster at the same moment. */
const MAX_AT_ONCE = 256
/** Repositories that refused this peer, and for how long they are not tried again, ms. */
const MAX_REFUSED = 1024
const REFUSED_MS = 60_000

/**
 * What makes a peer a seed: when the scheduler asks it to, it fetches a cold blob for the whole cluster, all of it, whether or not
 * anybody goes on wanting it. It reads its own upstreams alone, with its own credentials or none. What it can't read it says
 * at once, so that others do.
 */
export function createSeedRole(options: {
  readonly scheduler: SchedulerLink
  readonly upstreams: Upstreams
  readonly reads: BlobReads
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: Metrics
}): Component {
  const { scheduler, upstreams, reads, log } = options
  const running = new Map<Digest, Promise<void>>()
  const stopping = new AbortController()
  const refused = new LRUCache<string, true>({ max: MAX_REFUSED, ttl: REFUSED_MS, perf: options.clock })
  const calls = options.metrics.counter({
    name: 'seed_calls_total',
    help: 'Blobs that this seed was asked to fetch, by outcome.',
    labels: ['outcome'],
  })
  let unsubscribe: (() => void) | undefined

  const decline = (blob: Digest, reason: Refusal): void => {
    calls.inc({ outcome: reason })
    scheduler.send({ type: 'seed-end', blob, reason })
  }

  const fetch = async ({ blob, size, place }: Call): Promise<void> => {
    const { repository, kind } = place
    const upstream = upstreams.find(place.upstream)
    const name = `${place.upstream}/${repository}`
    if (upstream === undefined || refused.has(name)) return decline(blob, 'refused')
    const giveUp = new AbortController()
    const onRefused = (refusal: Error): void => {
      refused.set(name, true)
      giveUp.abort(refusal)
    }
    const signal = AbortSignal.any([stopping.signal, giveUp.signal])
    try {
      await reads.keep({ digest: blob, size, kind, upstream, repository, onRefused, signal })
      calls.inc({ outcome: 'held' })
    } catch (error) {
      if (stopping.signal.aborted) return
      const detail = error instanceof Error ? error.message : String(error)
      log.info(
        { blob, upstream: upstream.name, repository, detail },
        'as a seed this peer does not get a blob',
      )
      decline(blob, giveUp.signal.aborted ? 'refused' : 'failed')
    }
  }

  return {
    name: 'seed',
    start: async () => {
      unsubscribe = scheduler.onMessage(message => {
        if (message.type !== 'seed' || running.has(message.blob) || stopping.signal.aborted) return
        const { blob } = message
        if (running.size >= MAX_AT_ONCE) return decline(blob, 'busy')
        running.set(
          blob,
          fetch(message).finally(() => running.delete(blob)),
        )
      })
    },
    stop: async () => {
      unsubscribe?.()
      stopping.abort()
      await Promise.all(running.values())
    },
  }
}
