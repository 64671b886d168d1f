import { Readable } from 'node:stream'
import { createOutwardLookup } from './address-guard.ts'
import type { ForwardRequest, ForwardResponse } from './contract.ts'
import { endToEnd, textOf } from './headers.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { createTransport } from './transport.ts'
import type { UrlSiteOptions } from './url.ts'

/** Passes requests on to one host as they are: no credentials are added, no redirect is followed, no retry is made. */
export interface HostForwarder {
  readonly url: URL
  /**
   * `path` begins with a slash and is the whole path and query at the host.
   * @throws {OriginAddressError} when the host's name leads to this machine or to a link-local address;
   * @throws {OriginUnreachableError} {@link OriginTimeoutError}
   */
  forward(request: Omit<ForwardRequest, 'vouch'>): Promise<ForwardResponse>
  /** Ends its connections. */
  close(): Promise<void>
}

/**
 * A {@link HostForwarder}. A host that is written as an address is taken as it is; a name leads to addresses outside
 * of this machine and its links alone.
 */
export function createHostForwarder(
  options: Pick<UrlSiteOptions, 'ca' | 'loopMarker' | 'limits' | 'throttle' | 'onRequest'> & {
    readonly url: URL
  },
): HostForwarder {
  const { url, ca, loopMarker, throttle, onRequest } = options
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const lookup = createOutwardLookup()
  const transport = createTransport({
    name: url.host,
    upstream: url,
    ca,
    guard: { upstreamLookup: lookup, guardedLookup: lookup, checkLiteral: () => {} },
    limits,
    throttle,
    onRequest,
  })
  return {
    url,
    forward: async ({ method, path, headers: given, body, signal }) => {
      const headers = endToEnd(given)
      const chain = textOf(headers['via'])
      headers['via'] = `${chain === '' ? '' : `${chain}, `}1.1 ${loopMarker}`
      // Not resolved against the host: a path with two slashes at its start would name another one.
      const target = new URL(`${url.origin}${path}`)
      const reads = method === 'GET' || method === 'HEAD'
      const answer = await transport.send({
        method,
        url: target,
        kind: 'forward',
        headers,
        ...(body !== undefined && {
          body: Readable.from(body, { objectMode: false, highWaterMark: 64 * 1024 }),
        }),
        ...(!reads && { patienceMs: limits.forwardTimeoutMs }),
        signal,
      })
      return { status: answer.status, headers: answer.headers, body: answer.watch() }
    },
    close: () => transport.close(),
  }
}
