import { type Digest, isDigest, parseContentRange } from '@darter/oci'
import type { Headers } from './errors.ts'
import { contentLength, textOf } from './headers.ts'

const HEX = /^[0-9a-f]{64}$/i
/** RFC 9530 2, an item of a structured dictionary. */
const REPR_SHA256 = /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/i
const BASE64_SHA256 = /^[A-Za-z0-9+/]{43}=$/

/**
 * The sha256 digest that an answer tells of the whole content: `X-Linked-Etag` (Hugging Face), `Docker-Content-Digest`,
 * `Repr-Digest` (RFC 9530), `x-amz-checksum-sha256` of a whole object (S3). Undefined when it tells none.
 */
export function toldDigest(status: number, headers: Headers): Digest | undefined {
  const linked = unquoted(textOf(headers['x-linked-etag']))
  if (HEX.test(linked)) return sha256(linked.toLowerCase())
  const docker = textOf(headers['docker-content-digest'])
  if (isDigest(docker)) return docker
  const repr = REPR_SHA256.exec(textOf(headers['repr-digest']))?.[1]
  if (repr !== undefined) return sha256(Buffer.from(repr, 'base64').toString('hex'))
  // Of a part it may be the part's own, and that of an upload in parts is no digest of the bytes (it ends in `-N`).
  const amazon = textOf(headers['x-amz-checksum-sha256'])
  const whole = status !== 206 && textOf(headers['x-amz-checksum-type']) !== 'COMPOSITE'
  if (whole && BASE64_SHA256.test(amazon)) return sha256(Buffer.from(amazon, 'base64').toString('hex'))
  return undefined
}

/** The size of the whole content in bytes, as an answer tells it; undefined when it does not. */
export function toldSize(status: number, headers: Headers): number | undefined {
  if (status === 200) return contentLength(headers)
  if (status === 206) {
    const range = parseContentRange(textOf(headers['content-range']))
    return range?.kind === 'range' ? range.size : undefined
  }
  const linked = textOf(headers['x-linked-size'])
  return /^\d{1,15}$/.test(linked) ? Number(linked) : undefined
}

/**
 * What tells one version of the content from another (RFC 9110 8.8): a strong entity tag, else the time of the last
 * change. Undefined when an answer has neither.
 */
export function toldValidator(headers: Headers): string | undefined {
  const etag = textOf(headers['etag']).trim()
  if (/^"[!#-~\x80-\xff]*"$/.test(etag)) return `etag ${etag}`
  const modified = textOf(headers['last-modified']).trim()
  return modified === '' ? undefined : `modified ${modified}`
}

/** Whether two validators, each of which may be missing or of another kind, tell of two versions. */
export function contradict(one: string | undefined, other: string | undefined): boolean {
  const kind = (validator: string | undefined) => validator?.split(' ', 1)[0]
  return one !== undefined && kind(one) === kind(other) && one !== other
}

function unquoted(etag: string): string {
  return etag.trim().replace(/^(?:W\/)?"(.*)"$/, '$1')
}

function sha256(hex: string): Digest | undefined {
  const digest = `sha256:${hex}`
  return isDigest(digest) ? digest : undefined
}
