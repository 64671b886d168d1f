import { formatContentRange, formatUnsatisfiedRange, ociErrorBody, parseRange } from '@darter/oci'
import type { Access } from '../access/access.ts'
import type { Admission } from '../access/admission.ts'
import type { BlobReads, SpanChoice } from '../download/contract.ts'
import type { Catalog } from '../tags/catalog.ts'
import { codeOf } from './error-table.ts'
import { ClientGoneError } from './errors.ts'
import { type Exchange, headerOf, matchesEtag } from './exchange.ts'
import type { RegistryTarget } from './registry-path.ts'
import { sendBody } from './send-body.ts'

/** What a blob is read with. */
export interface BlobRooms {
  readonly admission: Admission
  readonly access: Access
  readonly catalog: Catalog
  readonly reads: BlobReads
}

/**
 * Answers GET and HEAD of a blob, whole or a single range (OCI distribution-spec 1.1, "Pulling blobs"; RFC 9110 14).
 * When the bytes cannot go on, the connection is cut: an answer is never completed with less or with others.
 */
export async function readBlob(
  exchange: Exchange,
  target: Extract<RegistryTarget, { kind: 'blob' }>,
  { admission, access, catalog, reads }: BlobRooms,
): Promise<void> {
  const { record, request, signal } = exchange
  const { digest } = target
  const { caller } = await admission.admit(
    exchange.caller,
    who => access.check(who, { kind: 'blob', digest }, signal),
    signal,
  )
  const place = { upstream: caller.upstream.name, repository: caller.repository }
  const hint = reads.knownSize(digest) ?? catalog.member(place, digest)?.size
  const etag = `"${digest}"`
  const headers = {
    'docker-content-digest': digest,
    etag,
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
  }
  if (matchesEtag(request, etag)) {
    exchange.begin(304, { 'docker-content-digest': digest, etag }).end()
    return
  }
  const { upstream, repository, authorization, via } = caller
  if (request.method === 'HEAD') {
    const size =
      hint ?? (await upstream.origin.headBlob(digest, { repository, authorization, via, signal })).size
    catalog.setMember(place, digest, { size })
    exchange.begin(200, { ...headers, 'content-length': size }).end()
    return
  }
  const range = rangeHeader(exchange, etag)
  const span: SpanChoice = size => {
    const wanted = parseRange(range, size)
    return wanted.kind === 'range' ? { from: wanted.from, to: wanted.to } : wanted.kind
  }
  const read = await reads.open({
    upstream,
    repository,
    authorization,
    via,
    digest,
    size: hint,
    span,
    signal,
  })
  if ('unsatisfiable' in read) {
    const message = `the range lies outside of the blob's ${read.size} bytes`
    const body = JSON.stringify(ociErrorBody('RANGE_INVALID', message))
    const response = exchange.begin(416, {
      'docker-content-digest': digest,
      'accept-ranges': 'bytes',
      'content-range': formatUnsatisfiedRange(read.size),
      'content-type': 'application/json; charset=utf-8',
      'content-length': Buffer.byteLength(body),
    })
    response.end(body)
    return
  }
  record.sources = read.sources
  const partial = parseRange(range, read.size).kind === 'range'
  const response = exchange.begin(partial ? 206 : 200, {
    ...headers,
    'content-length': read.to - read.from,
    ...(partial && { 'content-range': formatContentRange(read.from, read.to, read.size) }),
  })
  try {
    await sendBody(response, read.body, read.to - read.from, length => {
      record.bytes += length
    })
  } catch (error) {
    if (!(error instanceof ClientGoneError) && !signal.aborted) {
      record.outcome = `cut:${codeOf(error)}`
      record.error = error
    }
    response.destroy()
  }
}

/** The `Range` header, unless `If-Range` says that it was meant for another representation (RFC 9110 13.1.5). */
function rangeHeader({ request, record }: Exchange, etag: string): string | undefined {
  const range = headerOf(request, 'range')
  record.range = range?.slice(0, 64)
  const condition = headerOf(request, 'if-range')
  return condition === undefined || condition === etag ? range : undefined
}
