import { createHash } from 'node:crypto'
import { type Digest, digestAlgorithm, formatContentRange, parseDigest, parseRange } from '@darter/oci'
import { OriginChangedError } from '@darter/origin'
import type { BlobReads, ByteSources } from '../download/contract.ts'
import { OriginCorruptError } from '../download/errors.ts'
import { HeaderNotForwardedError } from '../urls/errors.ts'
import type { UrlContent, Urls } from '../urls/urls.ts'
import { MethodNotAllowedError } from './errors.ts'
import { type ClientRequest, headerOf, matchesEtag } from './exchange.ts'
import { sendContent } from './send-content.ts'
import { rangeOf, sendOrCut, sendUnsatisfiable } from './send-read.ts'
import { parseUrlTarget } from './url-path.ts'

/** What the content of a URL is read with. */
export interface UrlRooms {
  readonly urls: Urls
  readonly reads: BlobReads
}

/** Never the caller's word to the origin: what this peer says itself, and what concerns its own answer alone. */
const OWN =
  /^(?:host|via|user-agent|range|te|upgrade|connection|expect|accept-encoding|content-.*|transfer-encoding|keep-alive|if-.*|proxy-.*|x-darter-.*)$/
const SENDABLE = /^[\t\x20-\x7e\x80-\xff]*$/
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/
const READS = ['GET', 'HEAD']

/**
 * Answers GET and HEAD of `/url/<URL>`: the content of the URL, whole or ranges. `X-Darter-Digest` says which
 * digest it must have; `Authorization`, `Cookie` and the headers that `X-Darter-Forward` names go to the origin.
 */
export async function readUrl(
  exchange: ClientRequest,
  target: string,
  { urls, reads }: UrlRooms,
): Promise<void> {
  const { request, record, signal } = exchange
  record.route = 'url'
  if (!READS.includes(record.method)) throw new MethodNotAllowedError(record.method, READS)
  const { url, authorization } = parseUrlTarget(target)
  record.upstream = url.host
  record.repository = url.pathname.slice(0, 256)
  const wish = headerOf(request, 'x-darter-digest')
  const wanted = wish === undefined ? undefined : parseDigest(wish)
  const ask = {
    url,
    headers: { ...(authorization !== undefined && { authorization }), ...forwarded(exchange) },
    wanted,
    via: headerOf(request, 'via'),
    signal,
  }
  for (let attempt = 1; ; attempt++) {
    const content = await urls.open(ask)
    try {
      await answerWith(exchange, content, reads)
      return
    } catch (error) {
      if (error instanceof OriginCorruptError) content.disprove()
      // What was remembered of it is forgotten, and nothing has been sent yet: asked again, it says what it is now.
      if (attempt > 1 || !hasChanged(error)) throw error
    }
  }
}

function hasChanged(error: unknown): boolean {
  return error instanceof Error && [error, error.cause].some(one => one instanceof OriginChangedError)
}

async function answerWith(exchange: ClientRequest, content: UrlContent, reads: BlobReads): Promise<void> {
  const { request, record, signal } = exchange
  const { described, digest, shared, stale } = content
  record.stale = stale
  record.digest = digest
  const headers = headersOf(content)
  const etag = headers['etag']
  if (etag !== undefined && matchesEtag(request, etag)) {
    exchange.begin(304, { etag, ...(digest !== undefined && { 'x-darter-digest': digest }) }).end()
    return
  }
  if (record.method === 'HEAD') {
    const length = described.size === undefined ? {} : { 'content-length': described.size }
    exchange.begin(200, { ...headers, ...length }).end()
    return
  }
  const range = rangeOf(exchange, [etag, headers['last-modified']])
  if (shared === undefined || digest === undefined) {
    await sendThrough(exchange, content, range, headers)
    return
  }
  const { name, source } = shared
  const wanted = { ...source, digest: name, size: described.size, signal }
  if ((await sendContent(exchange, reads, wanted, range, headers)) === 'all') content.learn(digest)
  if (record.error instanceof OriginCorruptError) content.disprove()
}

/** Content that nobody knows a digest of: straight from the origin, and hashed on the way. */
async function sendThrough(
  exchange: ClientRequest,
  content: UrlContent,
  range: string | undefined,
  headers: Readonly<Record<string, string>>,
): Promise<void> {
  const { record, signal } = exchange
  const { size } = content.described
  const wanted = size === undefined ? ({ kind: 'whole' } as const) : parseRange(range, size)
  if (wanted.kind === 'unsatisfiable') {
    sendUnsatisfiable(exchange, size ?? 0, headers)
    return
  }
  const isPart = wanted.kind === 'range'
  const body = await content.read(isPart ? wanted.from : undefined, isPart ? wanted.to : undefined, signal)
  // An origin that knows no ranges sends everything, and so does this peer then.
  const partial = isPart && body.honouredRange
  const length = partial ? wanted.to - wanted.from : body.size
  let fromOrigin = 0
  record.sources = (): ByteSources => ({ fromDisk: 0, fromPeers: 0, fromOrigin })
  const response = exchange.begin(partial ? 206 : 200, {
    ...headers,
    ...(length !== undefined && { 'content-length': length }),
    ...(partial && { 'content-range': formatContentRange(wanted.from, wanted.to, size) }),
  })
  let found: Digest | undefined
  const counted = (async function* () {
    const { digest } = content
    const algorithm = digest === undefined ? 'sha256' : digestAlgorithm(digest)
    const hash = createHash(algorithm)
    // One piece behind, so that an answer with other bytes than were wanted never ends well.
    let last: Uint8Array | undefined
    for await (const piece of body.body) {
      fromOrigin += piece.byteLength
      if (!partial) hash.update(piece)
      if (last !== undefined) yield last
      last = new Uint8Array(piece)
    }
    if (!partial) found = parseDigest(`${algorithm}:${hash.digest('hex')}`)
    if (digest !== undefined && found !== undefined && found !== digest) throw new OriginCorruptError(digest)
    if (last !== undefined) yield last
  })()
  const complete = await sendOrCut(exchange, response, counted, length)
  if (complete && found !== undefined && fromOrigin === size) content.learn(found)
}

/** The caller's own headers for the origin, lower case. @throws {HeaderNotForwardedError} */
function forwarded({ request }: ClientRequest): Record<string, string> {
  const named = (headerOf(request, 'x-darter-forward') ?? '')
    .split(',')
    .map(name => name.trim().toLowerCase())
    .filter(name => name !== '')
  const refused = named.find(name => !HEADER_NAME.test(name) || OWN.test(name))
  if (refused !== undefined) throw new HeaderNotForwardedError(refused)
  const found: Record<string, string> = {}
  for (const name of new Set(['authorization', 'cookie', ...named])) {
    const value = headerOf(request, name)
    if (value !== undefined) found[name] = value
  }
  return found
}

function headersOf({ described, digest }: UrlContent): Record<string, string> {
  const headers: Record<string, string> = {
    'content-type': 'application/octet-stream',
    // A page that an origin serves is not to act as one of this door's own in a browser.
    'x-content-type-options': 'nosniff',
    'content-security-policy': 'sandbox',
    ...(digest !== undefined && { etag: `"${digest}"` }),
    'accept-ranges': 'bytes',
  }
  for (const [name, value] of Object.entries(described.headers)) {
    // What a header cannot hold (RFC 9110 5.5), such as a file name in bare UTF-8, is left out.
    if (SENDABLE.test(String(value))) headers[name] = String(value)
  }
  if (digest !== undefined) headers['x-darter-digest'] = digest
  return headers
}
