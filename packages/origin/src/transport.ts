import type { LookupFunction } from 'node:net'
import { Readable } from 'node:stream'
import { getCACertificates } from 'node:tls'
import { Agent, errors, request } from 'undici'
import { abortable, type Throttle } from '@darter/runtime'
import type { AddressGuard } from './address-guard.ts'
import { collectStart, type WatchedBody, watchBody } from './body.ts'
import {
  type Headers,
  MAX_ERROR_BODY_BYTES,
  OriginAddressError,
  OriginRedirectError,
  OriginStatusError,
  OriginTimeoutError,
  OriginUnreachableError,
} from './errors.ts'
import { contentLength, definedHeaders, endToEnd } from './headers.ts'

/** What a request to an origin is for. */
export type RequestKind = 'manifest' | 'blob' | 'url' | 'token' | 'forward'

/** One HTTP request that was made, for counting. */
export interface RequestRecord {
  readonly method: string
  readonly kind: RequestKind
  /** Undefined when no answer came. */
  readonly status: number | undefined
}

/** Bounds on connections and phases. */
export interface TransportLimits {
  /** Connections per host; more requests wait for a free one. */
  readonly connections: number
  /** How long a request may wait for its answer with the wait for a free connection included, in ms. */
  readonly queueTimeoutMs: number
  /** TCP and TLS, in ms. */
  readonly connectTimeoutMs: number
  /** From the request's last byte to the answer's head, in ms. */
  readonly headersTimeoutMs: number
  /** Between two bytes of a body, in ms. */
  readonly progressTimeoutMs: number
}

export interface TransportOptions {
  /** The upstream's name, for messages. */
  readonly name: string
  readonly upstream: URL
  /** PEM of the authorities that the upstream is verified with instead of the system's. */
  readonly ca?: string | undefined
  readonly guard: AddressGuard
  readonly limits: TransportLimits
  /** The limit on the bytes of bodies that come in. */
  readonly throttle?: Throttle | undefined
  readonly onRequest?: ((record: RequestRecord) => void) | undefined
  readonly onBytes?: ((count: number, kind: RequestKind) => void) | undefined
}

/** One request of one hop. */
export interface HopRequest {
  readonly method: string
  readonly url: URL
  readonly kind: RequestKind
  readonly headers: Record<string, string | string[]>
  readonly body?: Readable | string | undefined
  /** Instead of both of the limits' own timeouts, for answers that take their time; ms. */
  readonly patienceMs?: number
  readonly signal: AbortSignal
}

/** The head of an answer, with its body to be read or cancelled. */
export interface Answer {
  /** Who was asked what, for messages. */
  readonly subject: string
  readonly url: URL
  readonly status: number
  /** End-to-end headers only. */
  readonly headers: Headers
  /** The body with the length that the caller expects (by default the announced one). */
  watch(expected?: number): WatchedBody
  /** Reads what little there is, so that the connection can be used again, or lets go of it. Never throws. */
  discard(): Promise<void>
}

/** HTTP with bounded connections: straight to the upstream, guarded to anywhere else it leads. */
export interface Transport {
  /**
   * @throws {OriginUnreachableError}
   * @throws {OriginTimeoutError}
   * @throws {OriginRedirectError} when a host other than the upstream's lies where the guard does not let it.
   * @throws {OriginAddressError} when the upstream itself does.
   */
  send(hop: HopRequest): Promise<Answer>
  /** Takes no more requests and ends when those under way have ended. */
  retire(): Promise<void>
  /** Ends all connections, busy ones too. */
  close(): Promise<void>
}

/** The most hosts besides the upstream's that connections are held to. */
const MAX_OTHER_HOSTS = 64
const MAX_HEADER_BYTES = 64 * 1024
const BODY_BUFFER_BYTES = 64 * 1024

export function createTransport(options: TransportOptions): Transport {
  const { name, upstream, ca, guard, limits, throttle, onRequest, onBytes } = options
  const agent = (lookup: LookupFunction, trusted: string | string[] | undefined) =>
    new Agent({
      allowH2: false,
      pipelining: 1,
      connections: limits.connections,
      maxOrigins: MAX_OTHER_HOSTS,
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: limits.headersTimeoutMs,
      // Bodies are watched by their readers, so that a slow reader is not taken for a slow origin.
      bodyTimeout: 0,
      connect: { timeout: limits.connectTimeoutMs, lookup, ...(trusted !== undefined && { ca: trusted }) },
    })
  const direct = agent(guard.upstreamLookup, ca)
  const guarded = agent(
    guard.guardedLookup,
    ca === undefined ? undefined : [...getCACertificates('default'), ca],
  )

  const send = async (hop: HopRequest): Promise<Answer> => {
    const { method, url, kind, signal, patienceMs } = hop
    const subject = `${name}: ${method} ${url.host}${url.pathname}`
    signal.throwIfAborted()
    const own = url.origin === upstream.origin
    guard.checkLiteral(url)
    const queueTimeoutMs = patienceMs ?? limits.queueTimeoutMs
    const late = new AbortController()
    const giveUp = () => late.abort(new OriginTimeoutError(subject, 'queue', queueTimeoutMs))
    // A streamed upload takes as long as it takes; undici watches that it goes on.
    const timer = hop.body instanceof Readable ? undefined : setTimeout(giveUp, queueTimeoutMs)
    let status: number | undefined
    try {
      const gone = AbortSignal.any([signal, late.signal])
      const requested = request(url, {
        dispatcher: own ? direct : guarded,
        method,
        headers: { ...hop.headers },
        body: hop.body ?? null,
        signal: gone,
        highWaterMark: BODY_BUFFER_BYTES,
        ...(patienceMs !== undefined && { headersTimeout: patienceMs }),
      })
      // By itself undici hears an abort only once the request has a connection.
      const answer = await abortable(requested, gone)
      status = answer.statusCode
      const headers = definedHeaders(answer.headers)
      const bodiless = method === 'HEAD' || status === 204 || status === 304
      const announced = bodiless ? 0 : contentLength(headers)
      let body: WatchedBody | undefined
      const watch = (length = announced): WatchedBody => {
        body ??= watchBody(answer.body, {
          subject,
          expected: length,
          progressTimeoutMs: limits.progressTimeoutMs,
          signal,
          throttle,
          onBytes: onBytes && (count => onBytes(count, kind)),
        })
        return body
      }
      return {
        subject,
        url,
        status,
        headers: endToEnd(headers),
        watch,
        discard: async () => {
          await collectStart(watch(), MAX_ERROR_BODY_BYTES)
        },
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason
      throw late.signal.aborted ? late.signal.reason : named(error, subject, patienceMs)
    } finally {
      clearTimeout(timer)
      onRequest?.({ method, kind, status })
    }
  }

  const named = (error: unknown, subject: string, patienceMs: number | undefined): Error => {
    const guarding = causes(error).find(
      cause => cause instanceof OriginRedirectError || cause instanceof OriginAddressError,
    )
    if (guarding) return guarding
    if (error instanceof errors.ConnectTimeoutError) {
      return new OriginTimeoutError(subject, 'connect', limits.connectTimeoutMs, { cause: error })
    }
    if (error instanceof errors.HeadersTimeoutError) {
      const ms = patienceMs ?? limits.headersTimeoutMs
      return new OriginTimeoutError(subject, 'headers', ms, { cause: error })
    }
    const code = causes(error)
      .map(codeOf)
      .find(found => found !== undefined)
    const reason = code ?? (error instanceof Error ? error.message : 'unknown reason')
    return new OriginUnreachableError(`${subject} got no answer: ${reason}${adviceOn(code)}`, {
      cause: error,
      transient: code !== undefined && TRANSIENT.has(code),
    })
  }

  return {
    send,
    retire: async () => {
      await Promise.all([direct.close(), guarded.close()])
    },
    close: async () => {
      await Promise.all([direct.destroy(), guarded.destroy()])
    },
  }
}

/** Reads the refusal's body, bounded, and makes the error that passes it on. */
export async function refused(answer: Answer): Promise<OriginStatusError> {
  const body = await collectStart(answer.watch(), MAX_ERROR_BODY_BYTES)
  const { 'content-length': _, ...headers } = answer.headers
  return new OriginStatusError(answer.subject, answer.status, headers, body)
}

/** A connection that was just closed by the other side, or a name server that is busy. */
const TRANSIENT = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE', 'EAI_AGAIN'])

/** The error, its causes, and what an AggregateError holds. */
function causes(error: unknown): Error[] {
  if (!(error instanceof Error)) return []
  const inner: unknown[] = error instanceof AggregateError ? error.errors : []
  return [error, ...inner.flatMap(causes), ...causes(error.cause)]
}

function codeOf(error: Error): string | undefined {
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

function adviceOn(code: string | undefined): string {
  if (code === undefined) return ''
  if (/CERT|SIGNED|SIGNATURE|ISSUER/.test(code)) {
    return ' (its certificate does not verify; if it has a private authority, configure that for this upstream)'
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) {
    return ' (it does not speak TLS there; if it serves plain http, configure its address with http://)'
  }
  return code === 'ENOTFOUND' ? ' (its name does not resolve)' : ''
}
