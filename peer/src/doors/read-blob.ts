import type { Access } from '../access/access.ts'
import type { Admission } from '../access/admission.ts'
import type { BlobReads } from '../download/contract.ts'
import type { Catalog } from '../tags/catalog.ts'
import { type Exchange, matchesEtag } from './exchange.ts'
import type { RegistryTarget } from './registry-path.ts'
import { sendContent } from './send-content.ts'
import { rangeOf } from './send-read.ts'

/** What a blob is read with. */
export interface BlobRooms {
  readonly admission: Admission
  readonly access: Access
  readonly catalog: Catalog
  readonly reads: BlobReads
}

/**
 * Answers GET and HEAD of a blob, whole or ranges (OCI distribution-spec 1.1, "Pulling blobs"; RFC 9110 14).
 * When the bytes cannot go on, the connection is cut: an answer is never completed with less or with others.
 */
export async function readBlob(
  exchange: Exchange,
  target: Extract<RegistryTarget, { kind: 'blob' }>,
  { admission, access, catalog, reads }: BlobRooms,
): Promise<void> {
  const { request, signal } = exchange
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
  const source = { upstream, repository, authorization, via, digest, size: hint, signal }
  await sendContent(exchange, reads, source, rangeOf(exchange, [etag]), headers)
}
