import type { SchedulerLink } from '@darter/exchange'
import type { Digest } from '@darter/oci'
import { OriginAddressError, OriginStatusError } from '@darter/origin'
import type { Clock, Component, Logger, Metrics } from '@darter/runtime'
import type { ContentPlace, PeerMessage, SchedulerMessage } from '@darter/wire'
import { LRUCache } from 'lru-cache'
import { parseUrl } from './doors/url-path.ts'
import type { BlobReads, BlobSource } from './download/contract.ts'
import { isRefusal } from './download/origin-fetches.ts'
import type { Upstreams } from './upstreams.ts'
import { UrlDigestError, UrlInvalidError, UrlNotAllowedError } from './urls/errors.ts'
import type { Urls } from './urls/urls.ts'

type Call = SchedulerMessage & { type: 'seed' }
type Refusal = (PeerMessage & { type: 'seed-end' })['reason']

/** Blobs that are fetched for the cluster at the same moment. */
const MAX_AT_ONCE = 256
/** Repositories and folders of URLs that refused this peer, and for how long they are not tried again, ms. */
const MAX_REFUSED = 1024
const REFUSED_MS = 60_000

/**
 * What makes a peer a seed: when the scheduler asks it to, it fetches a cold blob for the whole cluster, all of it, whether or not
 * anybody goes on wanting it; in the background as long as nobody waits for all of it. It reads its own upstreams and the URLs that it may read alone, with its own credentials or none.
 * What it can't read it says at once, so that others do.
 */
export function createSeedRole(options: {
  readonly scheduler: SchedulerLink
  readonly upstreams: Upstreams
  readonly urls: Urls
  readonly reads: BlobReads
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: Metrics
}): Component {
  const { scheduler, upstreams, urls, reads, log } = options
  /** What is at work; `hurry`: somebody waits for it now. */
  const running = new Map<Digest, { readonly ended: Promise<void>; readonly hurry: AbortController }>()
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

  /** How this peer itself reads what it is asked for; undefined when that is not to be had there. */
  const find = async (
    { blob, size, place }: Call,
    signal: AbortSignal,
  ): Promise<(BlobSource & { readonly kind: 'blob' | 'manifest' }) | undefined> => {
    if ('upstream' in place) {
      const upstream = upstreams.find(place.upstream)
      return upstream && { upstream, repository: place.repository, kind: place.kind }
    }
    const { url } = parseUrl(place.url)
    const ask = { url, headers: {}, wanted: place.digest, via: undefined, signal }
    const { described, shared } = await urls.open(ask)
    // What this peer's own origin has there may be another version.
    if (shared?.name !== blob || described.size !== size) return undefined
    return { ...shared.source, kind: 'blob' }
  }

  const fetch = async (call: Call, background: AbortSignal): Promise<void> => {
    const { blob, size, place } = call
    const group = groupOf(place)
    if (refused.has(group)) return decline(blob, 'refused')
    const giveUp = new AbortController()
    const onRefused = (refusal: Error): void => {
      refused.set(group, true)
      giveUp.abort(refusal)
    }
    const signal = AbortSignal.any([stopping.signal, giveUp.signal])
    try {
      const source = await find(call, signal)
      if (source === undefined) return decline(blob, 'refused')
      await reads.keep({ ...source, digest: blob, size, onRefused, background, signal })
      calls.inc({ outcome: 'held' })
    } catch (error) {
      if (stopping.signal.aborted) return
      const isRefused = giveUp.signal.aborted || isMyOwnRefusal(error)
      if (isRefused && error instanceof OriginStatusError) refused.set(group, true)
      const detail = error instanceof Error ? error.message : String(error)
      log.info({ blob, place: group, detail }, 'as a seed this peer does not get a blob')
      decline(blob, isRefused ? 'refused' : 'failed')
    }
  }

  return {
    name: 'seed',
    start: async () => {
      unsubscribe = scheduler.onMessage(message => {
        if (message.type !== 'seed' || stopping.signal.aborted) return
        const { blob, background } = message
        const known = running.get(blob)
        if (known === undefined && running.size >= MAX_AT_ONCE) return decline(blob, 'busy')
        const hurry = known?.hurry ?? new AbortController()
        if (background !== true) hurry.abort()
        if (known !== undefined) return
        const ended = fetch(message, hurry.signal).finally(() => running.delete(blob))
        running.set(blob, { ended, hurry })
      })
    },
    stop: async () => {
      unsubscribe?.()
      stopping.abort()
      await Promise.all([...running.values()].map(({ ended }) => ended))
    },
  }
}

/** What is refused as a whole, most likely: a repository, or the folder of a URL. */
function groupOf(place: ContentPlace): string {
  if ('upstream' in place) return `${place.upstream}/${place.repository}`
  return (place.url.split('?', 1)[0] ?? '').replace(/[^/]*$/, '')
}

/** Whether this peer may not read a URL, or it is not there for it, however often it asks. */
function isMyOwnRefusal(error: unknown): boolean {
  if (error instanceof OriginStatusError) return isRefusal(error.status)
  const kinds = [UrlNotAllowedError, UrlInvalidError, UrlDigestError, OriginAddressError]
  return kinds.some(kind => error instanceof kind)
}
