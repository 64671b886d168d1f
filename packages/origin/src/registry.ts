import { createHash } from 'node:crypto'
import {
  type Digest,
  describeManifest,
  digestAlgorithm,
  isDigest,
  ManifestInvalidError,
  MAX_MANIFEST_BYTES,
  parseContentRange,
  parseDigest,
  quoted,
} from '@darter/oci'
import { type Clock, delay, type Random, systemClock, systemRandom, type Throttle } from '@darter/runtime'
import { createAddressGuard } from './address-guard.ts'
import { createAuthenticator, type WarningLog } from './authenticator.ts'
import { collect } from './body.ts'
import type { Described, ManifestBody, Origin, OriginRequest } from './contract.ts'
import type { CredentialSource } from './credentials.ts'
import { OriginProtocolError, OriginStatusError } from './errors.ts'
import { createForwarder } from './forward.ts'
import { contentLength, contentType, textOf } from './headers.ts'
import { retrying } from './retry.ts'
import { DEFAULT_LIMITS, type OriginLimits } from './limits.ts'
import { openAnswer } from './open-answer.ts'
import { checkSpan } from './span.ts'
import { type Answer, createTransport, type RequestKind, type RequestRecord, refused } from './transport.ts'
import { createUpstreamClient, type UpstreamRead } from './upstream-client.ts'

/** How a registry is reached. */
export interface RegistryOriginOptions {
  /** The upstream's name in the configuration, such as `docker.io`. */
  readonly name: string
  /** Where it is, such as `https://registry-1.docker.io`; a path goes before `/v2/`. Plain http only by `http://`. */
  readonly url: string
  /**
   * PEM of the certificate authorities that this upstream is verified with instead of the system's. Hosts that it
   * redirects to are verified with both.
   */
  readonly ca?: string | undefined
  /** Vouches for callers that bring no credentials. Without it their 401 is passed out. */
  readonly credentials?: CredentialSource | undefined
  /** The pseudonym in the `Via` header of every request, by which a loop back to this peer is seen. */
  readonly loopMarker: string
  readonly limits?: Partial<OriginLimits> | undefined
  /** The limit on the bytes of bodies that come in. */
  readonly throttle?: Throttle | undefined
  readonly clock?: Clock
  readonly random?: Random
  /** Waits between tries; rejects with the signal's reason when it aborts. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>
  readonly log?: WarningLog
  /** Called once for each HTTP request, retries, redirects and token requests included. */
  readonly onRequest?: (record: RequestRecord) => void
  /** Called with each piece of a body that arrived. */
  readonly onBytes?: (count: number, kind: RequestKind) => void
}

type ManifestRequest = OriginRequest & { readonly accept: readonly string[] }

/**
 * An OCI registry over HTTP(S) (distribution-spec 1.1), as an {@link Origin}.
 * @throws {TypeError} when the URL is not an http or https one, or holds credentials, a query or a fragment.
 */
export function createRegistryOrigin(options: RegistryOriginOptions): Origin {
  const { name, clock = systemClock, random = systemRandom, sleep = delay } = options
  const upstream = upstreamUrl(options.url)
  const limits: OriginLimits = { ...DEFAULT_LIMITS, ...options.limits }
  const transport = createTransport({
    name,
    upstream,
    ca: options.ca,
    guard: createAddressGuard({ upstream }),
    limits,
    throttle: options.throttle,
    onRequest: options.onRequest,
    onBytes: options.onBytes,
  })
  const authenticator =
    options.credentials &&
    createAuthenticator({ name, upstream, source: options.credentials, transport, clock, log: options.log })
  const client = createUpstreamClient({
    upstream,
    loopMarker: options.loopMarker,
    transport,
    authenticator,
  })
  const retry = { ...limits, random, clock, sleep }

  /** Reads with retries; `use` gets an answer with status 200 or 206, and its failure counts too. */
  const reading = <T>(read: UpstreamRead, use: (answer: Answer) => Promise<T>): Promise<T> =>
    retrying(retry, read.signal, async () => {
      const answer = await client.read(read)
      if (answer.status !== 200 && answer.status !== 206) throw await refused(answer)
      try {
        const encoding = textOf(answer.headers['content-encoding'])
        if (encoding !== '' && encoding !== 'identity') {
          throw new OriginProtocolError(`${answer.subject} came in the encoding ${quoted(encoding)}, unasked`)
        }
        return await use(answer)
      } catch (error) {
        answer.watch().cancel()
        throw error
      }
    })

  const readManifest = (reference: string, request: ManifestRequest): Promise<ManifestBody> =>
    reading({ ...request, method: 'GET', kind: 'manifest', path: `manifests/${reference}` }, async answer => {
      const length = contentLength(answer.headers) ?? 0
      const bytes =
        length > MAX_MANIFEST_BYTES ? undefined : await collect(answer.watch(), MAX_MANIFEST_BYTES)
      if (!bytes) {
        throw new OriginProtocolError(
          `${answer.subject} sent a manifest of more than ${MAX_MANIFEST_BYTES} bytes`,
        )
      }
      const digest = checkDigest(answer, bytes, expectedDigest(answer, reference))
      return { digest, size: bytes.byteLength, mediaType: manifestType(answer, bytes), bytes }
    })

  const readBlobHead = (
    digest: Digest,
    request: OriginRequest,
    read: Pick<UpstreamRead, 'method' | 'from' | 'to'>,
  ): Promise<Described | undefined> =>
    reading({ ...request, ...read, kind: 'blob', path: `blobs/${digest}` }, async answer => {
      const range =
        answer.status === 206 ? parseContentRange(textOf(answer.headers['content-range'])) : undefined
      const size = range?.kind === 'range' ? range.size : contentLength(answer.headers)
      answer.watch().cancel()
      const mediaType = contentType(answer.headers) ?? 'application/octet-stream'
      return size === undefined ? undefined : { digest, size, mediaType }
    })

  /** Undefined where the registry has no HEAD. */
  const withoutHead = (error: unknown): undefined => {
    if (error instanceof OriginStatusError && error.status === 405) return undefined
    throw error
  }

  return {
    name,
    description: `registry at ${upstream.origin}${upstream.pathname.replace(/\/$/, '')}`,
    isPublic: false,

    headManifest: async (reference, request) => {
      const read = { ...request, method: 'HEAD', kind: 'manifest', path: `manifests/${reference}` } as const
      const described = await reading(read, async answer => {
        answer.watch().cancel()
        const digest = expectedDigest(answer, reference)
        const size = contentLength(answer.headers)
        const mediaType = contentType(answer.headers)
        return digest && size && mediaType ? { digest, size, mediaType } : undefined
      }).catch(withoutHead)
      if (described) return described
      const { bytes: _, ...head } = await readManifest(reference, request)
      return head
    },

    getManifest: readManifest,

    headBlob: async (digest, request) => {
      const described =
        (await readBlobHead(digest, request, { method: 'HEAD' }).catch(withoutHead)) ??
        (await readBlobHead(digest, request, { method: 'GET', from: 0, to: 1 }))
      if (described) return described
      throw new OriginProtocolError(`${name} does not tell the size of ${digest} in ${request.repository}`)
    },

    openBlob: async (digest, request) => {
      const { from, to } = request
      if (from !== undefined || to !== undefined) checkSpan(from ?? 0, to)
      return reading({ ...request, method: 'GET', kind: 'blob', path: `blobs/${digest}` }, async answer =>
        openAnswer(answer, from, to),
      )
    },

    forward: createForwarder({ upstream, client, patienceMs: limits.forwardTimeoutMs }),

    close: () => transport.close(),
  }
}

function upstreamUrl(text: string): URL {
  const url = new URL(text)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new TypeError(`${quoted(text)} is not an http or https URL`)
  }
  if (url.username || url.password || url.search || url.hash) {
    throw new TypeError(`the URL of ${quoted(url.host)} must hold no credentials, query or fragment`)
  }
  return url
}

/** The digest that a manifest must have: the one it was asked for by, else the one its registry tells, if it does. */
function expectedDigest(answer: Answer, reference: string): Digest | undefined {
  const told = textOf(answer.headers['docker-content-digest'])
  if (!reference.includes(':')) return isDigest(told) ? told : undefined
  const asked = parseDigest(reference)
  if (isDigest(told) && digestAlgorithm(told) === digestAlgorithm(asked) && told !== asked) {
    throw new OriginProtocolError(`${answer.subject} was answered with another manifest, ${told}`)
  }
  return asked
}

function checkDigest(answer: Answer, bytes: Uint8Array, expected: Digest | undefined): Digest {
  const algorithm = expected ? digestAlgorithm(expected) : 'sha256'
  const actual = parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`)
  if (expected !== undefined && actual !== expected) {
    throw new OriginProtocolError(
      `${answer.subject} sent a manifest with the digest ${actual}, not ${expected}`,
    )
  }
  return actual
}

/** Undefined types are read from the body, so that what is passed on always has one. */
function manifestType(answer: Answer, bytes: Uint8Array): string {
  const told = contentType(answer.headers)
  if (told !== undefined) return told
  try {
    return describeManifest(bytes).mediaType
  } catch (error) {
    if (!(error instanceof ManifestInvalidError)) throw error
    throw new OriginProtocolError(`${answer.subject} sent a manifest of no known type`, { cause: error })
  }
}
