import { createHmac, createSecretKey, randomBytes } from 'node:crypto'
import { type Digest, digestAlgorithm, isDigest } from '@darter/oci'
import { type DescribedUrl, OriginChangedError, OriginStatusError } from '@darter/origin'
import { type Clock, createSingleFlight } from '@darter/runtime'
import { LIMITS } from '@darter/wire'
import { LRUCache } from 'lru-cache'
import type { BlobSource, Facts } from '../download/contract.ts'
import { isUpstreamDown } from '../upstream-health.ts'
import { canonicalUrl, sharedName, type UrlVersion, versionKey } from './content-name.ts'
import { UrlDigestError } from './errors.ts'
import type { Sites } from './sites.ts'
import { type ReadUrl, urlSource } from './url-source.ts'

/** A caller's request for the content of a URL. */
export interface UrlAsk {
  /** Without user and password. */
  readonly url: URL
  /** The caller's own for the origin, lower case. */
  readonly headers: Readonly<Record<string, string>>
  /** The digest that the caller wants the content to have. */
  readonly wanted: Digest | undefined
  readonly via: string | undefined
  readonly signal: AbortSignal
}

/** Content that the origin lets the caller read now (or lately, while it is down). */
export interface UrlContent {
  readonly described: DescribedUrl
  /** Scheme and host. */
  readonly place: string
  /** The sha256 or sha512 of the whole content, as far as somebody says: its origin, the caller, or who read it before. */
  readonly digest: Digest | undefined
  /** How the swarm knows it and where it comes from at first; undefined for content without a digest, a size or a byte. */
  readonly shared: { readonly name: Digest; readonly source: BlobSource } | undefined
  /** True when the origin is down and its last answer counts. */
  readonly stale: boolean
  /** Straight from the origin: bytes from `from` up to and not including `to`. */
  readonly read: ReadUrl
  /** Notes the digest that the whole content proved to have. */
  learn(digest: Digest): void
  /** Notes that the content has another digest than {@link digest}: what others said of it is not believed any more. */
  disprove(): void
}

/** Content by URL. */
export interface Urls {
  /**
   * Asks the origin for the content with the caller's own rights.
   * @throws {UrlNotAllowedError} {@link UrlDigestError}; the origin's refusal; what kept the origin from answering.
   */
  open(ask: UrlAsk): Promise<UrlContent>
  close(): Promise<void>
}

const MAX_VERSIONS = 16_384
const FACT_MS = 300_000
const DAY_MS = 86_400_000
const factKey = (version: string) => `url ${version}`

/** Asks for URLs and remembers, in memory alone, what was answered. */
export function createUrls(options: {
  readonly sites: Sites
  readonly facts: Facts
  readonly clock: Clock
  /** Query parameters that do not count; see {@link canonicalUrl}. */
  readonly ignoredQuery: readonly string[]
  /** How long the origin's yes counts, in ms. */
  readonly accessTtlMs: number
}): Urls {
  const { sites, facts, clock, ignoredQuery, accessTtlMs } = options
  const key = createSecretKey(randomBytes(32))
  const described = new LRUCache<string, { readonly at: number; readonly answer: DescribedUrl }>({
    max: MAX_VERSIONS,
  })
  const learned = new LRUCache<string, Digest>({ max: MAX_VERSIONS })
  /** Versions of which a wrong digest was told. */
  const doubted = new LRUCache<string, true>({ max: MAX_VERSIONS })
  const flights = createSingleFlight<string, DescribedUrl>()

  const callerKey = (...parts: readonly unknown[]) =>
    createHmac('sha256', key).update(JSON.stringify(parts)).digest('base64url')

  /** What the origin says to this caller, asked at most once in `accessTtlMs`. */
  const describe = async (
    caller: string,
    signal: AbortSignal,
    ask: (signal: AbortSignal) => Promise<DescribedUrl>,
  ): Promise<{ readonly answer: DescribedUrl; readonly stale: boolean }> => {
    const last = described.get(caller)
    const age = last === undefined ? Number.POSITIVE_INFINITY : clock.now() - last.at
    if (last !== undefined && age < accessTtlMs) return { answer: last.answer, stale: false }
    try {
      const answer = await flights.run(caller, signal, ask)
      described.set(caller, { at: clock.now(), answer })
      return { answer, stale: false }
    } catch (error) {
      if (last !== undefined && age < DAY_MS && isUpstreamDown(error))
        return { answer: last.answer, stale: true }
      if (error instanceof OriginStatusError) described.delete(caller)
      throw error
    }
  }

  /** What is known of a version that nobody says a digest of. */
  const recall = async (
    version: UrlVersion,
    mine: string,
    isEverybodys: boolean,
    signal: AbortSignal,
  ): Promise<Digest | undefined> => {
    if (version.validator === undefined) return undefined
    const own = learned.get(mine)
    if (own !== undefined || !isEverybodys || doubted.has(mine)) return own
    const told = await facts.lastKnown(factKey(versionKey(version)), signal)
    return told !== undefined && isDigest(told) ? told : undefined
  }

  return {
    open: async ({ url: asked, headers: given, wanted, via, signal }) => {
      const { site, place, named, hasCredentials, takesHeaders, url } = sites.find(asked)
      const headers = takesHeaders ? given : {}
      const { text: canonical, signed } = canonicalUrl(url, ignoredQuery)
      const isEverybodys = !signed && !hasCredentials && Object.keys(headers).length === 0
      const caller = callerKey(url.href, headers)
      const request = { url, headers, via, signal }
      const { answer, stale } = await describe(caller, signal, shared =>
        site.describe({ ...request, signal: shared }),
      )
      const { size, digest: told, isOwnDigest, validator } = answer
      const isOther = (one: Digest) => digestAlgorithm(one) !== digestAlgorithm(told ?? one)
      if (wanted !== undefined && told !== undefined && wanted !== told && !isOther(wanted)) {
        throw new UrlDigestError(place, wanted, told)
      }
      const read: ReadUrl = async (from, to, reading) => {
        try {
          // Found anew: its connections may have been given up since.
          const opened = await sites
            .find(asked)
            .site.open({ ...request, from, to, validator, signal: reading })
          if (opened.size === undefined || size === undefined || opened.size === size) return opened
          opened.cancel()
          throw new OriginChangedError(`${place}: the content`)
        } catch (error) {
          if (error instanceof OriginChangedError) described.delete(caller)
          throw error
        }
      }
      const plain = { described: answer, place, stale, read, learn: () => {}, disprove: () => {} }
      if (size === undefined || size === 0) return { ...plain, digest: told ?? wanted, shared: undefined }

      const version: UrlVersion = { canonical, validator, size }
      // What one caller was sent may not be what another is: who shows credentials remembers for itself.
      const mine =
        isEverybodys || hasCredentials ? versionKey(version) : callerKey(headers, versionKey(version))
      const digest = wanted ?? told ?? (await recall(version, mine, isEverybodys, signal))
      const learn = (proved: Digest) => {
        if (validator === undefined) return
        learned.set(mine, proved)
        if (isEverybodys)
          facts.publish(new Map([[factKey(versionKey(version)), { value: proved, ttlMs: FACT_MS }]]))
      }
      const disprove = () => {
        learned.delete(mine)
        doubted.set(mine, true)
      }
      if (digest === undefined) return { ...plain, learn, digest, shared: undefined }
      // By its own digest only where an origin that is trusted like an upstream says so; any other word is kept to the
      // swarm of those who say the same of the same URL.
      const isTrusted = named && isOwnDigest && told === digest
      const name = isTrusted ? digest : sharedName(version, digest)
      const source = urlSource({
        place,
        host: url.origin,
        url: tellable(asked),
        hasCredentials: !isEverybodys,
        digest,
        answer,
        via,
        read,
      })
      return { ...plain, learn, disprove, digest, shared: { name, source } }
    },
    close: () => sites.close(),
  }
}

/**
 * A URL as other peers may be told it. Undefined for one with a query, which may be a right to read, but for the version of an
 * object in a bucket; and for one that is too long to tell.
 */
function tellable(url: URL): string | undefined {
  const isPlain = url.search === '' || url.protocol === 's3:'
  return isPlain && url.href.length <= LIMITS.targetChars ? url.href : undefined
}
