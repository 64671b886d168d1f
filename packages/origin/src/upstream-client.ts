import { formatRange } from '@darter/oci'
import type { Authenticator } from './authenticator.ts'
import type { Authorization } from './contract.ts'
import { textOf } from './headers.ts'
import { followRedirects } from './redirects.ts'
import type { Answer, HopRequest, RequestKind, Transport } from './transport.ts'

/** A read of something of a repository. */
export interface UpstreamRead {
  readonly method: 'GET' | 'HEAD'
  readonly kind: RequestKind
  readonly repository: string
  /** Below the repository, such as `manifests/latest`. */
  readonly path: string
  readonly accept?: readonly string[]
  readonly from?: number | undefined
  readonly to?: number | undefined
  readonly authorization?: Authorization
  readonly via?: string | undefined
  readonly signal: AbortSignal
}

/** Requests to one upstream with the credentials that fit and the loop marker. */
export interface UpstreamClient {
  /** The URL of a path (and query) below `/v2/`. */
  urlOf(path: string): URL
  /** Follows redirects and answers a 401 once if it can; any final status is returned. */
  read(read: UpstreamRead): Promise<Answer>
  /** The `Via` header that goes on, given the one that came. */
  via(chain: string | undefined): string
  /** Sends one request as it is; a 401 without the caller's own credentials is answered once when `replayable`. */
  send(hop: HopRequest, scope: string, replayable: boolean): Promise<Answer>
  /** Sends one request with no other credentials than its own. */
  sendAsIs(hop: HopRequest): Promise<Answer>
  /** Sees to it that configured credentials can go with a request that cannot be replayed, by asking for `/v2/`. */
  learnChallenge(scope: string, via: string, signal: AbortSignal): Promise<void>
}

const SECRETS: ReadonlySet<string> = new Set(['authorization'])

export function createUpstreamClient(options: {
  readonly upstream: URL
  readonly loopMarker: string
  readonly transport: Transport
  /** Undefined when no credentials are configured. */
  readonly authenticator: Authenticator | undefined
}): UpstreamClient {
  const { upstream, loopMarker, transport, authenticator } = options
  const base = `${upstream.origin}${upstream.pathname.replace(/\/$/, '')}/v2/`

  const urlOf = (path: string) => new URL(base + path)
  const via = (chain: string | undefined) => `${chain ? `${chain}, ` : ''}1.1 ${loopMarker}`

  const follow = (hop: HopRequest): Promise<Answer> =>
    followRedirects({ hop, send: transport.send, secrets: SECRETS })

  const authorized = async (
    hop: HopRequest,
    scope: string,
    replayable: boolean,
    go: (hop: HopRequest) => Promise<Answer>,
  ): Promise<Answer> => {
    if (!authenticator || hop.headers['authorization'] !== undefined) return go(hop)
    const { signal } = hop
    const withHeader = (authorization: string | undefined) =>
      go(authorization === undefined ? hop : { ...hop, headers: { ...hop.headers, authorization } })
    const prepared = await authenticator.prepare(scope, signal)
    const answer = await withHeader(prepared)
    if (answer.status !== 401 || answer.url.origin !== upstream.origin || !replayable) return answer
    const challenge = textOf(answer.headers['www-authenticate'])
    const fresh = await authenticator.answer(challenge, scope, prepared, signal)
    if (fresh === undefined) return answer
    await answer.discard()
    return withHeader(fresh)
  }

  return {
    urlOf,
    via,
    send: (hop, scope, replayable) => authorized(hop, scope, replayable, transport.send),
    sendAsIs: transport.send,
    learnChallenge: async (scope, chain, signal) => {
      if (!authenticator || (await authenticator.prepare(scope, signal)) !== undefined) return
      const ping: HopRequest = {
        method: 'GET',
        url: urlOf(''),
        kind: 'forward',
        headers: { via: chain },
        signal,
      }
      const answer = await authorized(ping, scope, true, transport.send)
      await answer.discard()
    },
    read: read => {
      const { method, kind, repository, path, accept, from, to, authorization, signal } = read
      const headers: Record<string, string> = {
        'user-agent': 'darter',
        'accept-encoding': 'identity',
        via: via(read.via),
      }
      if (accept) headers['accept'] = accept.join(', ')
      if (from !== undefined || to !== undefined) headers['range'] = formatRange(from ?? 0, to)
      if (authorization !== undefined) headers['authorization'] = authorization
      const hop: HopRequest = { method, url: urlOf(`${repository}/${path}`), kind, headers, signal }
      return authorized(hop, `repository:${repository}:pull`, true, follow)
    },
  }
}
