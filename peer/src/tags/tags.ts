import { OriginStatusError } from '@darter/origin'
import { type Clock, createSingleFlight, type Logger, withTimeout } from '@darter/runtime'
import { LRUCache } from 'lru-cache'
import type { Access } from '../access/access.ts'
import { type Caller, type CallerKey, isAnonymous } from '../access/caller.ts'
import type { Facts } from '../download/contract.ts'
import { isUpstreamDown, type UpstreamHealth, UpstreamTimeoutError } from '../upstream-health.ts'
import { ACCEPTS_ALL, acceptedTypes } from './accept.ts'
import type { Catalog, Place, TagRecord } from './catalog.ts'
import { contentFact, formatTag, parseTagRecord, repositoryFact, tagFactKey } from './facts.ts'

/** What a tag stands for. */
export interface ResolvedTag extends TagRecord {
  /** True when the upstream is down and this is what it said last. */
  readonly stale: boolean
}

/** What tags stand for: the upstream's word, remembered for a short time; its last word while it is down. */
export interface Tags {
  /**
   * Resolves a tag for a caller, who has then proved that it may read the repository.
   * @param accept - which manifests the caller takes ({@link acceptMask}).
   * @throws {OriginStatusError} the upstream's own refusal; a 404 is final;
   * @throws whatever kept the upstream from answering, when nothing is known that the caller may read.
   */
  resolve(caller: Caller, tag: string, accept: number, signal: AbortSignal): Promise<ResolvedTag>
  /** The tag was changed through this peer: it must be asked about again. */
  forget(place: Place, tag: string): void
}

const MAX_REMEMBERED = 8192

/** {@link Tags} over a catalog that keeps the last known state. */
export function createTags(options: {
  readonly catalog: Catalog
  readonly access: Access
  readonly facts: Facts
  readonly health: UpstreamHealth
  readonly callerKey: CallerKey
  readonly clock: Clock
  readonly log: Logger
  /** How long a resolved tag is used without asking, in ms; 0: always ask. */
  readonly ttlMs: number
  /** Answers that are everyone's are shared in the cluster. */
  readonly share: boolean
  /** How long an answer that is everyone's shows the cluster that the repository is open, in ms. */
  readonly accessTtlMs: number
  /** How long the upstream may take to answer, in ms. */
  readonly askTimeoutMs?: number
}): Tags {
  const { catalog, access, facts, health, callerKey, clock, log, ttlMs, share, accessTtlMs } = options
  const { askTimeoutMs = 10_000 } = options
  const remembered = new LRUCache<string, TagRecord & { readonly name: string }>({
    max: MAX_REMEMBERED,
    ttl: Math.max(1, ttlMs),
    perf: clock,
  })
  const flights = createSingleFlight<string, TagRecord>()

  const placeOf = (caller: Caller): Place => ({
    upstream: caller.upstream.name,
    repository: caller.repository,
  })
  const nameOf = (place: Place, tag: string) => `${place.upstream}|${place.repository}|${tag}`

  const head = async (
    caller: Caller,
    tag: string,
    accept: number,
    signal: AbortSignal,
  ): Promise<TagRecord> => {
    const { upstream, repository, authorization, via } = caller
    using deadline = withTimeout(
      signal,
      askTimeoutMs,
      () => new UpstreamTimeoutError(upstream.name, askTimeoutMs),
    )
    try {
      const { digest, size, mediaType } = await upstream.origin.headManifest(tag, {
        repository,
        authorization,
        via,
        accept: acceptedTypes(accept),
        signal: deadline.signal,
      })
      health.note(upstream, undefined)
      return { digest, size, mediaType }
    } catch (error) {
      if (!signal.aborted) health.note(upstream, error)
      throw error
    }
  }

  const find = async (
    caller: Caller,
    tag: string,
    accept: number,
    signal: AbortSignal,
  ): Promise<TagRecord> => {
    if (!share || !isAnonymous(caller)) return head(caller, tag, accept, signal)
    let own: TagRecord | undefined
    const value = await facts.resolve(
      tagFactKey(placeOf(caller), tag, accept),
      async () => {
        own = await head(caller, tag, accept, signal)
        return { value: formatTag(own), ttlMs }
      },
      signal,
    )
    const told = value === undefined ? undefined : parseTagRecord(value)
    return own ?? told ?? head(caller, tag, accept, signal)
  }

  const ask = async (
    caller: Caller,
    tag: string,
    accept: number,
    signal: AbortSignal,
  ): Promise<TagRecord> => {
    const place = placeOf(caller)
    try {
      const record = await find(caller, tag, accept, signal)
      const open = isAnonymous(caller)
      access.accepted(caller)
      catalog.setTag(place, tag, accept, record, open)
      if (open) {
        const content = contentFact(place, record.digest, record, accessTtlMs)
        facts.publish(new Map([repositoryFact(place, accessTtlMs), content]))
      }
      if (ttlMs > 0)
        remembered.set(callerKey(caller, tag, String(accept)), { ...record, name: nameOf(place, tag) })
      return record
    } catch (error) {
      if (!signal.aborted) access.refused(caller, error)
      if (error instanceof OriginStatusError && error.status === 404) catalog.dropTag(place, tag)
      throw error
    }
  }

  const lastKnown = async (
    caller: Caller,
    tag: string,
    accept: number,
    signal: AbortSignal,
  ): Promise<TagRecord | undefined> => {
    const place = placeOf(caller)
    const own = access.wasAccepted(caller) ? catalog.tag(place, tag, accept) : undefined
    if (own !== undefined || !share) return own
    for (const mask of new Set([accept, ACCEPTS_ALL])) {
      const value = await facts.lastKnown(tagFactKey(place, tag, mask), signal)
      const told = value === undefined ? undefined : parseTagRecord(value)
      if (told === undefined) continue
      catalog.setTag(place, tag, mask, told, true)
      return told
    }
    return undefined
  }

  return {
    resolve: async (caller, tag, accept, signal) => {
      const known = remembered.get(callerKey(caller, tag, String(accept)))
      if (known !== undefined) return { ...known, stale: false }
      const serveLast = async (error: unknown): Promise<ResolvedTag | undefined> => {
        const record = await lastKnown(caller, tag, accept, signal)
        if (record === undefined) return undefined
        const { upstream, repository } = caller
        log.warn(
          { upstream: upstream.name, repository, tag, digest: record.digest, err: error },
          'the upstream is down: serving what the tag stood for last',
        )
        return { ...record, stale: true }
      }
      if (health.isDown(caller.upstream)) {
        const last = await serveLast(undefined)
        if (last !== undefined) return last
      }
      try {
        const record = await flights.run(callerKey(caller, tag, String(accept)), signal, shared =>
          ask(caller, tag, accept, shared),
        )
        return { ...record, stale: false }
      } catch (error) {
        if (signal.aborted || !isUpstreamDown(error)) throw error
        const last = await serveLast(error)
        if (last === undefined) throw error
        return last
      }
    },
    forget: (place, tag) => {
      catalog.dropTag(place, tag)
      const name = nameOf(place, tag)
      for (const [key, record] of remembered.entries()) if (record.name === name) remembered.delete(key)
      if (!share) return
      const masks = Array.from({ length: ACCEPTS_ALL }, (_, i) => i + 1)
      facts.publish(new Map(masks.map(mask => [tagFactKey(place, tag, mask), { value: '', ttlMs: 0 }])))
    },
  }
}
