import type { Digest } from '@darter/oci'

/**
 * The caller's own proof, as it stands in an `Authorization` header; undefined for none. Never logged, stored or
 * sent anywhere but to the upstream it was given for.
 */
export type Authorization = string | undefined

/** What every request to an origin carries. */
export interface OriginRequest {
  /** Repository name below the upstream, such as `library/nginx`. Already validated. */
  readonly repository: string
  /** Overrides the credentials configured for the upstream. */
  readonly authorization?: Authorization
  /** The `Via` chain of the request that this one serves, so that a loop over several peers is seen. */
  readonly via?: string | undefined
  readonly signal: AbortSignal
}

/** What an origin says of a manifest or a blob without sending it. */
export interface Described {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly mediaType: string
}

/** A manifest, whole: its bytes match `digest`. */
export interface ManifestBody extends Described {
  readonly bytes: Uint8Array
}

/** Part of a blob on its way. */
export interface BlobBody {
  /** Where the first byte of `body` lies in the blob. 0 when the origin ignored the range that was asked for. */
  readonly offset: number
  /** The blob's whole size in bytes where the origin told it. */
  readonly size: number | undefined
  /** False when a range was asked for and the origin answered with the whole blob. */
  readonly honouredRange: boolean
  /**
   * The bytes, with backpressure: nothing is read ahead of the consumer beyond a bounded buffer. Breaking out of the
   * loop cancels the request; a body that is never read must be cancelled. Throws {@link OriginStalledError} after the progress timeout without a byte,
   * {@link OriginInterruptedError} when the transfer breaks or ends short of its announced length.
   */
  readonly body: AsyncIterable<Uint8Array>
  /** Lets go of a body that will not be read (to its end), such as a whole blob where a range was asked for. */
  cancel(): void
}

/** A request that is not a cached read, to be passed on as it is (pushes, deletes, tag lists, referrers, `/v2/`). */
export interface ForwardRequest {
  readonly method: string
  /** Path and query below the origin's `/v2/`, such as `library/nginx/tags/list?n=10`; '' for the API root. */
  readonly path: string
  /** Request headers, lower case, hop-by-hop ones already removed. */
  readonly headers: Readonly<Record<string, string | string[]>>
  /**
   * Whether the credentials configured for the upstream may go with a request that brings none (the default). False for
   * what changes something: whoever reaches a mirror may read with its credentials, not push with them.
   */
  readonly vouch?: boolean | undefined
  /** Streamed with backpressure, never buffered whole. Undefined: the request has none. */
  readonly body?: AsyncIterable<Uint8Array> | undefined
  readonly signal: AbortSignal
}

/** The origin's own answer to a {@link ForwardRequest}. */
export interface ForwardResponse {
  readonly status: number
  /** Lower case; `location` is already made relative to the origin's `/v2/` when it points there (`/v2/...`). */
  readonly headers: Readonly<Record<string, string | string[]>>
  readonly body: AsyncIterable<Uint8Array>
}

/**
 * Where blobs come from at first. All methods throw {@link OriginStatusError} with the origin's own status, headers
 * and body when it refuses, {@link OriginUnreachableError} when it cannot be reached, {@link OriginTimeoutError} when
 * a phase takes too long. Transient failures (429, 502-504, resets before a byte came) are retried a bounded number of
 * times inside, honouring `Retry-After` up to a bound.
 */
export interface Origin {
  /** The upstream's name in the configuration, such as `docker.io`. */
  readonly name: string
  /** Fixed text for logs: kind and address, never credentials. */
  readonly description: string
  /** Whether everyone may read it, so that no access check is needed (a local directory). */
  readonly isPublic: boolean
  /** HEAD of a manifest by tag or digest. `accept` is the caller's list of media types. */
  headManifest(
    reference: string,
    request: OriginRequest & { readonly accept: readonly string[] },
  ): Promise<Described>
  /**
   * GET of a manifest by tag or digest, at most 4 MiB; its digest is checked.
   */
  getManifest(
    reference: string,
    request: OriginRequest & { readonly accept: readonly string[] },
  ): Promise<ManifestBody>
  /** HEAD of a blob. */
  headBlob(digest: Digest, request: OriginRequest): Promise<Described>
  /** GET of a blob from byte `from` up to and not including byte `to` (both undefined: whole). Redirects are followed here. */
  openBlob(
    digest: Digest,
    request: OriginRequest & { readonly from?: number; readonly to?: number },
  ): Promise<BlobBody>
  /** Passes a request on unbuffered. A read-only origin answers 405. */
  forward(request: ForwardRequest): Promise<ForwardResponse>
  /** Ends idle connections. */
  close(): Promise<void>
}
