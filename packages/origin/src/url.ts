import { type Digest, parseContentRange } from '@darter/oci'
import { type Clock, delay, type Random, systemClock, systemRandom, type Throttle } from '@darter/runtime'
import { createAddressGuard } from './address-guard.ts'
import type { BlobBody } from './contract.ts'
import { type Headers, OriginChangedError, OriginStatusError } from './errors.ts'
import { textOf } from './headers.ts'
import { DEFAULT_LIMITS, type OriginLimits } from './limits.ts'
import { openAnswer } from './open-answer.ts'
import { followRedirects } from './redirects.ts'
import { retrying } from './retry.ts'
import { checkSpan } from './span.ts'
import { contradict, toldDigest, toldSize, toldValidator } from './told.ts'
import {
  type Answer,
  createTransport,
  type HopRequest,
  type RequestKind,
  type RequestRecord,
  refused,
} from './transport.ts'

/** What every request for a URL carries. */
export interface UrlRequest {
  /** Of the site's own origin, without user and password. */
  readonly url: URL
  /** The caller's own, lower case, such as `authorization`. They stay behind when the site redirects to another host. */
  readonly headers: Readonly<Record<string, string>>
  /** The `Via` chain of the request that this one serves. */
  readonly via: string | undefined
  readonly signal: AbortSignal
}

/** What a site says of the content of a URL without sending it. */
export interface DescribedUrl {
  /** Bytes; undefined when the site does not tell. */
  readonly size: number | undefined
  /** Of the whole content, as the site tells it or where it redirects to. */
  readonly digest: Digest | undefined
  /** The site itself told the digest. A host that it redirects to may be anybody's choice. */
  readonly isOwnDigest: boolean
  /** Tells this version of the content from others. */
  readonly validator: string | undefined
  /** What describes the content to a client: type, disposition, entity tag, ... Lower case. */
  readonly headers: Headers
}

/** Content of a URL on its way. */
export interface UrlBody extends BlobBody {
  readonly headers: Headers
}

/**
 * One scheme, host and port that content is read from. Methods throw as those of {@link Origin} do, and
 * {@link OriginAddressError} when the host lies further inside the network than the site's limit.
 */
export interface UrlSite {
  describe(request: UrlRequest): Promise<DescribedUrl>
  /**
   * Bytes from `from` up to and not including `to` (both undefined: everything).
   * @throws {OriginChangedError} when the content is another version than `validator` says.
   */
  open(
    request: UrlRequest & {
      readonly from?: number | undefined
      readonly to?: number | undefined
      readonly validator?: string | undefined
    },
  ): Promise<UrlBody>
  /** Takes no more requests and ends when those under way have ended. */
  retire(): Promise<void>
  /** Ends all connections. */
  close(): Promise<void>
}

/** How a site is reached. */
export interface UrlSiteOptions {
  /** Scheme, host and port; for S3 those of the endpoint. */
  readonly site: URL
  /** PEM of the authorities that the site is verified with instead of the system's. */
  readonly ca?: string | undefined
  /** The highest {@link addressRank} of the site itself; any when left out. */
  readonly addressLimit?: number | undefined
  /** The pseudonym in the `Via` header of every request. */
  readonly loopMarker: string
  readonly limits?: Partial<OriginLimits> | undefined
  /** The limit on the bytes of bodies that come in. */
  readonly throttle?: Throttle | undefined
  /** The last change to a request before it goes to the site itself: a signature. Not asked for redirects. */
  readonly prepare?: ((hop: HopRequest) => Promise<HopRequest>) | undefined
  readonly clock?: Clock
  readonly random?: Random
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>
  readonly onRequest?: ((record: RequestRecord) => void) | undefined
  readonly onBytes?: ((count: number, kind: RequestKind) => void) | undefined
}

/** Answers to HEAD that say nothing about GET: a URL may be signed for that alone. */
const NO_HEAD: ReadonlySet<number> = new Set([400, 403, 405, 501])
/** What is told to clients of the content. */
const DESCRIBING = [
  'content-type',
  'content-disposition',
  'content-encoding',
  'content-language',
  'cache-control',
  'etag',
  'expires',
  'last-modified',
  'link',
  'x-linked-etag',
  'x-linked-size',
  'x-repo-commit',
]

/** A {@link UrlSite} over HTTP(S), redirects followed. */
export function createUrlSite(options: UrlSiteOptions): UrlSite {
  const { site, loopMarker, prepare, clock = systemClock, random = systemRandom, sleep = delay } = options
  const limits: OriginLimits = { ...DEFAULT_LIMITS, ...options.limits }
  const transport = createTransport({
    name: site.host,
    upstream: site,
    ca: options.ca,
    guard: createAddressGuard({
      upstream: site,
      ...(options.addressLimit !== undefined && { limit: options.addressLimit }),
    }),
    limits,
    throttle: options.throttle,
    onRequest: options.onRequest,
    onBytes: options.onBytes,
  })

  /** Reads with retries; `use` gets an answer with status 200 or 206, or another one that `tells` enough, and all redirects. */
  const reading = <T>(
    request: UrlRequest,
    method: 'GET' | 'HEAD',
    range: string | undefined,
    tells: (answer: Answer) => boolean,
    use: (answer: Answer, way: readonly Answer[]) => T,
  ): Promise<T> =>
    retrying({ ...limits, random, clock, sleep }, request.signal, async () => {
      const { url, signal, via } = request
      const headers = {
        ...request.headers,
        'user-agent': 'darter',
        'accept-encoding': 'identity',
        via: `${via === undefined ? '' : `${via}, `}1.1 ${loopMarker}`,
        ...(range !== undefined && { range }),
      }
      const way: Answer[] = []
      const hop: HopRequest = { method, url, kind: 'url', headers, signal }
      const prepared = prepare === undefined ? hop : await prepare(hop)
      const plain = new Set(['user-agent', 'accept-encoding', 'via', 'range'])
      const answer = await followRedirects({
        hop: prepared,
        send: transport.send,
        secrets: new Set(Object.keys(prepared.headers).filter(name => !plain.has(name))),
        onRedirect: redirect => {
          way.push(redirect)
          return method === 'HEAD' && tells(redirect) ? 'stop' : 'follow'
        },
      })
      if (answer.status !== 200 && answer.status !== 206 && !tells(answer)) throw await refused(answer)
      try {
        return use(answer, way)
      } catch (error) {
        answer.watch().cancel()
        throw error
      }
    })

  const head = (request: UrlRequest, method: 'GET' | 'HEAD'): Promise<DescribedUrl> => {
    const [range, tells] =
      method === 'GET' ? (['bytes=0-0', isEmpty] as const) : ([undefined, tellsAll] as const)
    return reading(request, method, range, tells, (answer, way) => {
      answer.watch().cancel()
      const { status, headers } = answer
      const empty = isEmpty(answer)
      const digestOf = (one: Answer) => toldDigest(one.status, one.headers)
      const all = [...way, answer]
      const own = all.filter(({ url }) => url.origin === site.origin).map(digestOf)
      const ownDigest = own.find(digest => digest !== undefined)
      return {
        size: empty ? 0 : toldSize(status, headers),
        digest: ownDigest ?? all.map(digestOf).find(digest => digest !== undefined),
        isOwnDigest: ownDigest !== undefined,
        // A redirect's own entity tag is not that of what it leads to.
        validator: status < 300 ? toldValidator(headers) : undefined,
        // A refusal describes itself.
        headers: empty ? {} : describing(all),
      }
    })
  }

  return {
    describe: async request => {
      try {
        return await head(request, 'HEAD')
      } catch (error) {
        if (!(error instanceof OriginStatusError) || !NO_HEAD.has(error.status)) throw error
        return await head(request, 'GET')
      }
    },
    open: async request => {
      const { from, to, validator } = request
      const asked = from !== undefined || to !== undefined
      if (asked) checkSpan(from ?? 0, to)
      const range = asked ? `bytes=${from ?? 0}-${to === undefined ? '' : to - 1}` : undefined
      return await reading(request, 'GET', range, never, (answer, way) => {
        if (contradict(validator, toldValidator(answer.headers))) throw new OriginChangedError(answer.subject)
        return { ...openAnswer(answer, from, to), headers: describing([...way, answer]) }
      })
    },
    retire: transport.retire,
    close: transport.close,
  }
}

const never = () => false

/** Whether a redirect says of what it leads to all that can be asked. */
function tellsAll({ status, headers }: Answer): boolean {
  const isRedirect = status >= 300 && status < 400
  return isRedirect && toldDigest(status, headers) !== undefined && toldSize(status, headers) !== undefined
}

/** Whether an answer refuses the first byte because there is none (RFC 9110 15.5.17). */
function isEmpty({ status, headers }: Answer): boolean {
  const range = status === 416 ? parseContentRange(textOf(headers['content-range'])) : undefined
  return range?.kind === 'unsatisfied' && range.size === 0
}

/** What the answers on the way say of the content, later ones first. Of redirects only what is meant for the target counts. */
function describing(way: readonly Answer[]): Headers {
  const found: Record<string, string> = {}
  const last = way.length - 1
  for (const [index, { headers }] of way.entries()) {
    for (const name of DESCRIBING) {
      const value = textOf(headers[name])
      if (value !== '' && (index === last || name.startsWith('x-'))) found[name] = value
    }
  }
  if (found['x-linked-etag'] !== undefined) found['etag'] = found['x-linked-etag']
  return found
}
