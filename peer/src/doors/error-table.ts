import { DarterError, type OciErrorCode, ociErrorBody } from '@darter/oci'
import { OriginStatusError } from '@darter/origin'
import { MethodNotAllowedError } from './errors.ts'

/**
 * The header by which a client of a Dragonfly proxy tells an upstream's own failure (`backend`) from one of the peer
 * (`proxy`).
 */
export const ERROR_TYPE = 'x-dragonfly-error-type'

/** The kinds of content that a 404 can be about. */
export type Subject = 'manifest' | 'blob' | 'name'

/** An answer that tells a client what went wrong. */
export interface ErrorAnswer {
  /** The failure's stable code, for logs and metrics. */
  readonly code: string
  readonly status: number
  /** Lower case. */
  readonly headers: Readonly<Record<string, string | string[]>>
  readonly body: Uint8Array
}

interface Row {
  readonly status: number
  readonly oci: OciErrorCode
}

/** Every failure that a client can cause or meet: HTTP status and error code (OCI distribution-spec 1.1, "Error Codes"). */
export const ERROR_TABLE: Readonly<Record<string, Row>> = {
  // The request.
  DIGEST_INVALID: { status: 400, oci: 'DIGEST_INVALID' },
  NAME_INVALID: { status: 400, oci: 'NAME_INVALID' },
  IMAGE_REFERENCE: { status: 400, oci: 'NAME_INVALID' },
  PLATFORM: { status: 404, oci: 'MANIFEST_UNKNOWN' },
  TAG_INVALID: { status: 404, oci: 'MANIFEST_UNKNOWN' },
  TARGET_INVALID: { status: 400, oci: 'UNSUPPORTED' },
  TARGET_TOO_LONG: { status: 414, oci: 'UNSUPPORTED' },
  ROUTE_UNKNOWN: { status: 404, oci: 'UNSUPPORTED' },
  METHOD_NOT_ALLOWED: { status: 405, oci: 'UNSUPPORTED' },
  URL_INVALID: { status: 400, oci: 'UNSUPPORTED' },
  HEADER_NOT_FORWARDED: { status: 400, oci: 'UNSUPPORTED' },
  URL_NOT_ALLOWED: { status: 403, oci: 'DENIED' },
  DIGEST_UNKNOWN: { status: 412, oci: 'DIGEST_INVALID' },
  URL_DIGEST: { status: 412, oci: 'DIGEST_INVALID' },
  UPSTREAM_NOT_ALLOWED: { status: 403, oci: 'DENIED' },
  HOST_NOT_ALLOWED: { status: 403, oci: 'DENIED' },
  UPSTREAM_NOT_NAMED: { status: 404, oci: 'NAME_UNKNOWN' },
  LOOP_DETECTED: { status: 508, oci: 'UNSUPPORTED' },
  BODY_LENGTH: { status: 500, oci: 'UNKNOWN' },
  CLIENT_GONE: { status: 499, oci: 'UNKNOWN' },
  FST_ERR_BAD_URL: { status: 400, oci: 'UNSUPPORTED' },
  FST_ERR_NOT_FOUND: { status: 404, oci: 'UNSUPPORTED' },
  // This peer.
  PEER_STOPPING: { status: 503, oci: 'UNAVAILABLE' },
  WRONG_BYTES_SENT: { status: 500, oci: 'UNKNOWN' },
  CHUNK_CORRUPT: { status: 500, oci: 'UNKNOWN' },
  CHUNK_MISSING: { status: 500, oci: 'UNKNOWN' },
  BLOB_INCOMPLETE: { status: 500, oci: 'UNKNOWN' },
  STORE_CLOSED: { status: 503, oci: 'UNAVAILABLE' },
  STORE_HANDLE_RELEASED: { status: 500, oci: 'UNKNOWN' },
  STORE_FULL: { status: 507, oci: 'UNAVAILABLE' },
  STORE_IO: { status: 500, oci: 'UNKNOWN' },
  TUNNELS_BUSY: { status: 503, oci: 'UNAVAILABLE' },
  // The upstream, and the peers that stand in for it.
  NO_SOURCE: { status: 503, oci: 'UNAVAILABLE' },
  ORIGIN_UNREACHABLE: { status: 503, oci: 'UNAVAILABLE' },
  ORIGIN_TIMEOUT: { status: 504, oci: 'UNAVAILABLE' },
  ORIGIN_STALLED: { status: 504, oci: 'UNAVAILABLE' },
  ORIGIN_INTERRUPTED: { status: 502, oci: 'UNAVAILABLE' },
  ORIGIN_PROTOCOL: { status: 502, oci: 'UNAVAILABLE' },
  ORIGIN_REDIRECT: { status: 502, oci: 'UNAVAILABLE' },
  ORIGIN_ADDRESS: { status: 403, oci: 'DENIED' },
  ORIGIN_CHANGED: { status: 502, oci: 'UNAVAILABLE' },
  ORIGIN_IGNORES_RANGES: { status: 502, oci: 'UNAVAILABLE' },
  ORIGIN_SIZE: { status: 502, oci: 'SIZE_INVALID' },
  ORIGIN_CORRUPT: { status: 502, oci: 'UNAVAILABLE' },
  BLOB_SIZE_MISMATCH: { status: 502, oci: 'SIZE_INVALID' },
  ORIGIN_CREDENTIALS: { status: 502, oci: 'UNAVAILABLE' },
  UPSTREAM_TIMEOUT: { status: 504, oci: 'UNAVAILABLE' },
  TUNNEL_FAILED: { status: 502, oci: 'UNAVAILABLE' },
  MANIFEST_INVALID: { status: 502, oci: 'MANIFEST_INVALID' },
}

const FALLBACK: Row = { status: 500, oci: 'UNKNOWN' }
const NOT_FOUND: Readonly<Record<Subject, OciErrorCode>> = {
  manifest: 'MANIFEST_UNKNOWN',
  blob: 'BLOB_UNKNOWN',
  name: 'NAME_UNKNOWN',
}
/** What concerns the upstream's own host and connection, and would be misread as coming from this one. */
const NOT_PASSED_ON: ReadonlySet<string> = new Set([
  'alt-svc',
  'content-length',
  'date',
  'set-cookie',
  'strict-transport-security',
])

/**
 * The answer for a failure. The upstream's own refusal is passed on as it came, with a body if it had none; of other
 * failures the message of a {@link DarterError} is shown and nothing else.
 */
export function answerTo(thrown: unknown, subject: Subject): ErrorAnswer {
  const error = rootOf(thrown)
  if (error instanceof OriginStatusError) return passOn(error, subject)
  const code = codeOf(error)
  const { status, oci } = ERROR_TABLE[code] ?? FALLBACK
  const message =
    error instanceof DarterError ? error.message : (MESSAGES[code] ?? 'something went wrong in this peer')
  const allow = error instanceof MethodNotAllowedError ? { allow: error.allowed.join(', ') } : {}
  return { code, status, ...json(ociErrorBody(oci, message), allow) }
}

const MESSAGES: Readonly<Record<string, string>> = {
  FST_ERR_BAD_URL: 'the request target is not well-formed',
}

/** That no source was left says less than what the last one said. */
function rootOf(error: unknown): unknown {
  return error instanceof DarterError && error.code === 'NO_SOURCE' && error.cause instanceof DarterError
    ? error.cause
    : error
}

/** The value of {@link ERROR_TYPE} for a failure. */
export function errorTypeOf(thrown: unknown): 'backend' | 'proxy' {
  return rootOf(thrown) instanceof OriginStatusError ? 'backend' : 'proxy'
}

/** The stable code of a failure; `INTERNAL` for one that nobody named. */
export function codeOf(error: unknown): string {
  if (error instanceof DarterError) return error.code
  if (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    error.code in ERROR_TABLE
  ) {
    return error.code
  }
  return 'INTERNAL'
}

function passOn(error: OriginStatusError, subject: Subject): ErrorAnswer {
  const headers = Object.fromEntries(
    Object.entries(error.headers).filter(([name]) => !NOT_PASSED_ON.has(name)),
  )
  if (error.body.byteLength > 0) {
    return { code: error.code, status: error.status, headers, body: error.body }
  }
  const answer = json(
    ociErrorBody(codeFor(error.status, subject), `the upstream's answer: ${error.message}`),
    headers,
  )
  return { code: error.code, status: error.status, ...answer }
}

function codeFor(status: number, subject: Subject): OciErrorCode {
  if (status === 401) return 'UNAUTHORIZED'
  if (status === 403) return 'DENIED'
  if (status === 404) return NOT_FOUND[subject]
  if (status === 429) return 'TOOMANYREQUESTS'
  return status >= 500 ? 'UNAVAILABLE' : 'UNKNOWN'
}

function json(
  body: unknown,
  headers: Readonly<Record<string, string | string[]>>,
): Pick<ErrorAnswer, 'headers' | 'body'> {
  return {
    headers: { ...headers, 'content-type': 'application/json; charset=utf-8' },
    body: new TextEncoder().encode(JSON.stringify(body)),
  }
}
