import type { IncomingMessage } from 'node:http'
import { NameInvalidError } from '@darter/oci'
import type { ForwardResponse } from '@darter/origin'
import type { Catalog, Place } from '../tags/catalog.ts'
import type { Tags } from '../tags/tags.ts'
import type { AddressForm } from './choose-upstream.ts'
import { MethodNotAllowedError } from './errors.ts'
import type { Exchange } from './exchange.ts'
import type { RegistryTarget } from './registry-path.ts'
import { forwardedQuery, linkThroughDoor, locationThroughDoor } from './rewrite.ts'
import { sendOrCut } from './send-read.ts'

/** What a request is passed on with. */
export interface PassOnRooms {
  readonly tags: Tags
  readonly catalog: Catalog
  /** Called before the first byte of a request's body is read: the moment to answer `Expect: 100-continue`. */
  readonly onBodyWanted: (request: IncomingMessage) => void
}

const METHODS: Readonly<Record<RegistryTarget['kind'], readonly string[]>> = {
  root: ['GET', 'HEAD'],
  catalog: ['GET', 'HEAD'],
  tags: ['GET', 'HEAD'],
  referrers: ['GET', 'HEAD'],
  manifest: ['GET', 'HEAD', 'PUT', 'DELETE'],
  blob: ['GET', 'HEAD', 'DELETE'],
  upload: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
}

/** @throws {MethodNotAllowedError} when the resource does not have the method (OCI distribution-spec 1.1, "Endpoints"). */
export function checkMethod(method: string, target: RegistryTarget): void {
  const allowed = METHODS[target.kind]
  if (!allowed.includes(method)) throw new MethodNotAllowedError(method, allowed)
}

/** Where a target lies below the upstream's `/v2/`. */
export function upstreamPath(target: RegistryTarget, repository: string | undefined): string {
  if (target.kind === 'root') return ''
  if (target.kind === 'catalog') return '_catalog'
  if (repository === undefined) throw new NameInvalidError(target.name)
  switch (target.kind) {
    case 'manifest':
      return `${repository}/manifests/${'tag' in target ? target.tag : target.digest}`
    case 'blob':
      return `${repository}/blobs/${target.digest}`
    case 'tags':
      return `${repository}/tags/list`
    case 'referrers':
      return `${repository}/referrers/${target.digest}`
    case 'upload':
      return `${repository}/blobs/uploads/${target.id ?? ''}`
  }
}

/** Headers of one connection (RFC 9110 7.6.1), and those that are this door's own business. */
const NOT_FORWARDED: ReadonlySet<string> = new Set([
  'accept-encoding',
  'connection',
  'expect',
  'host',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** The headers that go on to the upstream. */
export function forwardedHeaders(request: IncomingMessage): Record<string, string | string[]> {
  const named = new Set((request.headers.connection ?? '').split(',').map(name => name.trim().toLowerCase()))
  const headers: Record<string, string | string[]> = {}
  for (const [name, value] of Object.entries(request.headers)) {
    if (
      value === undefined ||
      NOT_FORWARDED.has(name) ||
      named.has(name) ||
      name.startsWith('x-dragonfly-')
    ) {
      continue
    }
    headers[name] = value
  }
  return headers
}

/**
 * Passes a request that is not a cached read to the upstream and its answer back, both unbuffered. What an upstream
 * says of its own addresses is rewritten so that the client comes back through the door.
 */
export async function passOn(
  exchange: Exchange,
  { tags, catalog, onBodyWanted }: PassOnRooms,
): Promise<void> {
  const { request, parsed, form, caller, record, signal } = exchange
  const { target } = parsed
  const repository = target.kind === 'root' || target.kind === 'catalog' ? undefined : caller.repository
  const query = forwardedQuery(parsed.rawQuery, form)
  const answer = await caller.upstream.origin.forward({
    method: record.method,
    path: `${upstreamPath(target, repository)}${query === '' ? '' : `?${query}`}`,
    headers: forwardedHeaders(request),
    vouch: record.method === 'GET' || record.method === 'HEAD',
    body: bodyOf(request, onBodyWanted),
    signal,
  })
  noteChange(record.method, target, answer, { upstream: caller.upstream.name, repository: caller.repository })
  await sendOrCut(
    exchange,
    exchange.begin(answer.status, answerHeaders(answer, form)),
    answer.body,
    undefined,
  )

  function noteChange(method: string, of: RegistryTarget, { status }: ForwardResponse, place: Place): void {
    if (status < 200 || status > 299 || (method !== 'PUT' && method !== 'DELETE')) return
    if (of.kind === 'manifest' && 'tag' in of) tags.forget(place, of.tag)
    else if (method === 'DELETE' && (of.kind === 'manifest' || of.kind === 'blob')) {
      catalog.dropMember(place, of.digest)
    }
  }
}

function answerHeaders(answer: ForwardResponse, form: AddressForm): Record<string, string | string[]> {
  const headers = { ...answer.headers }
  const { location, link } = headers
  if (typeof location === 'string') headers['location'] = locationThroughDoor(location, form)
  if (link !== undefined) {
    headers['link'] = Array.isArray(link)
      ? link.map(one => linkThroughDoor(one, form))
      : linkThroughDoor(link, form)
  }
  return headers
}

function hasBody(request: IncomingMessage): boolean {
  const length = request.headers['content-length']
  return request.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
}

/** The body of a request, read as it is wanted; undefined when it has none. */
export function bodyOf(
  request: IncomingMessage,
  onBodyWanted: (request: IncomingMessage) => void,
): AsyncIterable<Uint8Array> | undefined {
  return hasBody(request) ? piecesOf(request, onBodyWanted) : undefined
}

async function* piecesOf(
  request: IncomingMessage,
  onBodyWanted: (request: IncomingMessage) => void,
): AsyncGenerator<Uint8Array> {
  onBodyWanted(request)
  for await (const piece of request) yield piece
}
