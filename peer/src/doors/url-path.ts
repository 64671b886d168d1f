import { UrlInvalidError } from '../urls/errors.ts'
import { TargetTooLongError } from './errors.ts'
import { MAX_TARGET_LENGTH } from './registry-path.ts'
import { percentDecoded } from '../shown-target.ts'

const PREFIX = '/url/'
const SCHEME = /^(?:https?|s3):\/\//i

/** Whether a request target asks for the content of a URL. */
export function isUrlTarget(target: string): boolean {
  return target.startsWith(PREFIX)
}

/** A URL to read, and the user name and password that stood in it as an `Authorization` header. */
export interface UrlTarget {
  readonly url: URL
  readonly authorization: string | undefined
}

/**
 * Reads `/url/<URL>`: the URL percent-encoded as one path segment, or as it is, with its own query after it.
 * @throws {UrlInvalidError} {@link TargetTooLongError}
 */
export function parseUrlTarget(target: string): UrlTarget {
  if (target.length > MAX_TARGET_LENGTH) throw new TargetTooLongError(target.length, MAX_TARGET_LENGTH)
  const given = target.slice(PREFIX.length)
  return parseUrl(isUrlText(given) ? given : decode(given))
}

/** Whether text begins as the URLs do that may be read. */
export function isUrlText(text: string): boolean {
  return SCHEME.test(text)
}

/** Reads a URL of a kind that may be read. @throws {UrlInvalidError} */
export function parseUrl(text: string): UrlTarget {
  if (!SCHEME.test(text) || !URL.canParse(text)) {
    throw new UrlInvalidError(text, 'must begin with https://, http:// or s3:// and be well-formed')
  }
  const url = new URL(text)
  if (url.hostname === '') throw new UrlInvalidError(text, 'names no host')
  const { username, password } = url
  url.username = ''
  url.password = ''
  url.hash = ''
  if (username === '' && password === '') return { url, authorization: undefined }
  const pair = Buffer.concat([percentDecoded(username), Buffer.from(':'), percentDecoded(password)])
  return { url, authorization: `Basic ${pair.toString('base64')}` }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new UrlInvalidError(percentDecoded(text).toString('latin1'), 'is not well percent-encoded')
  }
}
