import { type Digest, MANIFEST_MEDIA_TYPES } from '@darter/oci'
import { OriginStatusError } from '@darter/origin'
import { type Clock, createSingleFlight, type Logger, withTimeout } from '@darter/runtime'
import { LRUCache } from 'lru-cache'
import type { Facts } from '../download/contract.ts'
import type { Catalog, Content, Place } from '../tags/catalog.ts'
import {
  contentFactKey,
  formatContent,
  parseContent,
  repositoryFact,
  repositoryFactKey,
} from '../tags/facts.ts'
import { isUpstreamDown, type UpstreamHealth, UpstreamTimeoutError } from '../upstream-health.ts'
import { type Caller, type CallerKey, isAnonymous } from './caller.ts'

/** Content of a repository, by digest. */
export interface ContentName {
  readonly kind: 'manifest' | 'blob'
  readonly digest: Digest
}

/** How a caller was let in. */
export interface Grant {
  /** True when the upstream could not be asked and an earlier answer of its own counts. */
  readonly stale: boolean
}

/**
 * Who may read what is cached. The upstream decides: it is asked about exactly the content, with the caller's own
 * credentials, and its answer for the repository is remembered for a bounded time. Content is only ever given out
 * under a repository that it is known to belong to.
 */
export interface Access {
  /**
   * Resolves when the caller may read the content.
   * @throws {OriginStatusError} the upstream's own refusal (401 with its challenge, 403, 404);
   * @throws whatever kept the upstream from answering, when no earlier answer allows the caller in.
   */
  check(caller: Caller, content: ContentName, signal: AbortSignal): Promise<Grant>
  /** Notes that the upstream has just let the caller read something of the repository. */
  accepted(caller: Caller): void
  /** Notes how the upstream refused the caller; a 404 refuses nothing but the content. */
  refused(caller: Caller, error: unknown): void
  /** Whether the caller was let in recently enough to go on while the upstream is down. */
  wasAccepted(caller: Caller): boolean
}

const MAX_CALLERS = 16_384
/** A refusal is asked about again soon: rights are given in the moment that they are missed. */
const REFUSAL_MS = 5000

/** An {@link Access} that remembers in memory alone. */
export function createAccess(options: {
  readonly catalog: Catalog
  readonly facts: Facts
  readonly health: UpstreamHealth
  readonly callerKey: CallerKey
  readonly clock: Clock
  readonly log: Logger
  /** How long the upstream's yes counts, in ms. */
  readonly ttlMs: number
  /** How long it counts while the upstream is down, in ms (a day by default). */
  readonly staleMs?: number
  /** How long the upstream may take to answer, in ms. */
  readonly askTimeoutMs?: number
}): Access {
  const { catalog, facts, health, callerKey, clock, log, ttlMs } = options
  const { staleMs = 86_400_000, askTimeoutMs = 10_000 } = options
  /** When the upstream last accepted a caller. */
  const acceptedAt = new LRUCache<string, number>({ max: MAX_CALLERS })
  const refusals = new LRUCache<string, OriginStatusError>({
    max: MAX_CALLERS / 16,
    ttl: Math.max(1, Math.min(REFUSAL_MS, ttlMs)),
    perf: clock,
  })
  const flights = createSingleFlight<string, { readonly about: Digest; readonly failure?: Error }>()

  const place = (caller: Caller): Place => ({ upstream: caller.upstream.name, repository: caller.repository })

  const accepted = (caller: Caller) => {
    const key = callerKey(caller)
    acceptedAt.set(key, clock.now())
    refusals.delete(key)
    if (isAnonymous(caller)) catalog.setOpen(place(caller))
  }
  const refused = (caller: Caller, error: unknown) => {
    if (!(error instanceof OriginStatusError) || (error.status !== 401 && error.status !== 403)) return
    const key = callerKey(caller)
    acceptedAt.delete(key)
    refusals.set(key, error)
    if (isAnonymous(caller)) catalog.setClosed(place(caller))
  }
  const within = (caller: Caller, ms: number) => {
    const at = acceptedAt.get(callerKey(caller))
    return at !== undefined && clock.now() - at < ms
  }
  const wasAccepted = (caller: Caller) => {
    if (caller.upstream.isPublic || within(caller, staleMs)) return true
    const open = catalog.openSince(place(caller))
    return open !== undefined && clock.wall() - open < staleMs
  }

  const head = async (
    caller: Caller,
    { kind, digest }: ContentName,
    signal: AbortSignal,
  ): Promise<Content> => {
    const { upstream, repository, authorization, via } = caller
    using deadline = withTimeout(
      signal,
      askTimeoutMs,
      () => new UpstreamTimeoutError(upstream.name, askTimeoutMs),
    )
    const request = { repository, authorization, via, signal: deadline.signal }
    try {
      const described =
        kind === 'manifest'
          ? await upstream.origin.headManifest(digest, { ...request, accept: MANIFEST_MEDIA_TYPES })
          : await upstream.origin.headBlob(digest, request)
      health.note(upstream, undefined)
      return kind === 'manifest' ? described : { size: described.size }
    } catch (error) {
      if (!signal.aborted) health.note(upstream, error)
      throw error
    }
  }

  /** Asks the upstream, or the cluster where the answer is everyone's. */
  const find = async (
    caller: Caller,
    content: ContentName,
    known: boolean,
    signal: AbortSignal,
  ): Promise<void> => {
    if (!isAnonymous(caller)) {
      catalog.setMember(place(caller), content.digest, await head(caller, content, signal))
      return
    }
    const asked = contentFactKey(place(caller), content.digest)
    const value = await facts.resolve(
      known ? repositoryFactKey(place(caller)) : asked,
      async () => ({ value: formatContent(await head(caller, content, signal)), ttlMs }),
      signal,
    )
    const found = value === undefined ? undefined : parseContent(value)
    const told = found ?? (await head(caller, content, signal))
    if (known) return
    catalog.setMember(place(caller), content.digest, told)
    facts.publish(new Map([repositoryFact(place(caller), ttlMs)]))
  }

  /** Lets the caller in on an earlier answer, or throws what kept the upstream from giving a new one. */
  const fallBack = async (
    caller: Caller,
    content: ContentName,
    error: Error,
    signal: AbortSignal,
  ): Promise<Grant> => {
    const known = catalog.member(place(caller), content.digest) !== undefined
    if (known && wasAccepted(caller)) return { stale: true }
    const told = await facts.lastKnown(contentFactKey(place(caller), content.digest), signal)
    const found = told === undefined ? undefined : parseContent(told)
    if (found === undefined) throw error
    if (!known) catalog.setMember(place(caller), content.digest, found)
    return { stale: true }
  }

  return {
    accepted,
    refused,
    wasAccepted,
    check: async (caller, content, signal) => {
      const known = catalog.member(place(caller), content.digest) !== undefined
      if (known && (caller.upstream.isPublic || within(caller, ttlMs))) return { stale: false }
      const refusal = refusals.get(callerKey(caller))
      if (refusal !== undefined) throw refusal
      if (known && health.isDown(caller.upstream) && wasAccepted(caller)) return { stale: true }

      const attempt = (alone: boolean) => {
        const key = alone ? callerKey(caller, content.kind, content.digest) : callerKey(caller)
        return flights.run(key, signal, async shared => {
          try {
            await find(caller, content, known, shared)
            accepted(caller)
            return { about: content.digest }
          } catch (failure) {
            if (!shared.aborted) refused(caller, failure)
            return { about: content.digest, failure: toError(failure) }
          }
        })
      }
      let answer = await attempt(!known)
      const aboutOther = answer.about !== content.digest && isNotFound(answer.failure)
      if (aboutOther) answer = await attempt(true)
      if (answer.failure === undefined) return { stale: false }
      if (!isUpstreamDown(answer.failure)) throw answer.failure
      log.debug(
        { upstream: caller.upstream.name, err: answer.failure },
        'the upstream could not be asked for access',
      )
      return fallBack(caller, content, answer.failure, signal)
    },
  }
}

function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

function isNotFound(error: unknown): boolean {
  return error instanceof OriginStatusError && error.status === 404
}
