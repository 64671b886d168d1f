import { type Clock, withTimeout } from '@darter/runtime'
import { LRUCache } from 'lru-cache'
import type { CallerKey } from '../access/caller.ts'
import { isUpstreamDown, type UpstreamHealth, UpstreamTimeoutError } from '../upstream-health.ts'
import type { Exchange } from './exchange.ts'
import { forwardedHeaders } from './pass-on.ts'

interface RootAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[]>>
  readonly body: Uint8Array
}

/** Answers `/v2/`, by which clients find out how to authenticate. */
export type ApiRoot = (exchange: Exchange) => Promise<void>

const REMEMBER_MS = 10_000
const MAX_ANSWERS = 1024
const MAX_BODY_BYTES = 64 * 1024
const PLAIN: RootAnswer = {
  status: 200,
  headers: { 'content-type': 'application/json; charset=utf-8' },
  body: new TextEncoder().encode('{}'),
}

/**
 * Relays the upstream's own answer with its challenge, and remembers it for 10 s for each caller. 200 where there is
 * nobody to ask: a directory, an upstream that this peer has credentials for, one that is down.
 */
export function createApiRoot(options: {
  readonly callerKey: CallerKey
  readonly health: UpstreamHealth
  readonly clock: Clock
  /** How long the upstream may take to answer, in ms. */
  readonly askTimeoutMs?: number
}): ApiRoot {
  const { callerKey, health, clock, askTimeoutMs = 5000 } = options
  const remembered = new LRUCache<string, RootAnswer>({ max: MAX_ANSWERS, ttl: REMEMBER_MS, perf: clock })

  const ask = async ({ caller, request, signal }: Exchange): Promise<RootAnswer> => {
    const { origin, name } = caller.upstream
    using deadline = withTimeout(signal, askTimeoutMs, () => new UpstreamTimeoutError(name, askTimeoutMs))
    const { status, headers, body } = await origin.forward({
      method: 'GET',
      path: '',
      headers: forwardedHeaders(request),
      // The upstream's challenge is what clients come for.
      vouch: false,
      signal: deadline.signal,
    })
    return { status, headers, body: await readAll(body) }
  }

  const find = async (exchange: Exchange): Promise<RootAnswer> => {
    const { caller, signal } = exchange
    const { upstream, authorization } = caller
    if (upstream.isPublic || (upstream.hasCredentials && authorization === undefined)) return PLAIN
    const key = callerKey(caller)
    const known = remembered.get(key)
    if (known !== undefined) return known
    if (health.isDown(upstream)) return PLAIN
    try {
      const answer = await ask(exchange)
      if (answer.status >= 500 || answer.status === 429) return PLAIN
      remembered.set(key, answer)
      return answer
    } catch (error) {
      if (signal.aborted || !isUpstreamDown(error)) throw error
      health.note(upstream, error)
      return PLAIN
    }
  }

  return async exchange => {
    const { status, headers, body } = await find(exchange)
    const length = { 'content-length': body.byteLength, 'docker-distribution-api-version': 'registry/2.0' }
    const response = exchange.begin(status, { ...headers, ...length })
    if (exchange.request.method === 'HEAD') response.end()
    else response.end(body)
  }
}

/** The start of a body that is only a few words long. */
async function readAll(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  let bytes = 0
  for await (const piece of body) {
    pieces.push(piece)
    bytes += piece.byteLength
    if (bytes >= MAX_BODY_BYTES) break
  }
  return Buffer.concat(pieces).subarray(0, MAX_BODY_BYTES)
}
