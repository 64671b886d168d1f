import type { IncomingHttpHeaders } from 'node:http'
import type { Headers } from './errors.ts'

/** Headers that concern one connection only (RFC 9110 7.6.1), and the ones that undici makes itself. */
const HOP_BY_HOP = new Set([
  'connection',
  'expect',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** The headers that go on to the next hop: without hop-by-hop ones and the ones that `Connection` names. */
export function endToEnd(headers: Headers): Record<string, string | string[]> {
  const named = textOf(headers['connection'])
    .split(',')
    .map(name => name.trim().toLowerCase())
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !HOP_BY_HOP.has(name) && !named.includes(name)),
  )
}

/** Without the undefined values that Node's type allows. */
export function definedHeaders(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const defined: Record<string, string | string[]> = {}
  for (const [name, value] of Object.entries(headers)) if (value !== undefined) defined[name] = value
  return defined
}

/** A header's value, repeated ones joined as RFC 9110 5.3 allows; '' when it is missing. */
export function textOf(value: string | string[] | undefined): string {
  return Array.isArray(value) ? value.join(', ') : (value ?? '')
}

/** The `Content-Length` in bytes; undefined when it is missing or unsound. */
export function contentLength(headers: Headers): number | undefined {
  const text = textOf(headers['content-length'])
  const length = /^\d+$/.test(text) ? Number(text) : Number.NaN
  return Number.isSafeInteger(length) ? length : undefined
}

/** The `Content-Type` without its parameters, in lower case; undefined when it is missing. */
export function contentType(headers: Headers): string | undefined {
  return textOf(headers['content-type']).split(';', 1)[0]?.trim().toLowerCase() || undefined
}
