import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Caller } from '../access/caller.ts'
import type { ParsedTarget } from './registry-path.ts'
import type { RequestRecord } from './request-record.ts'
import type { AddressForm } from './choose-upstream.ts'

/** One client request, and the way to answer it. */
export interface ClientRequest {
  readonly request: IncomingMessage
  readonly record: RequestRecord
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal
  /** Takes the response over and writes its head. Until then a handler may throw, and the client is told why. */
  begin(status: number, headers: Readonly<Record<string, string | string[] | number>>): ServerResponse
}

/** A request to a registry whose upstream is known. */
export interface Exchange extends ClientRequest {
  readonly parsed: ParsedTarget
  readonly form: AddressForm
  readonly caller: Caller
}

/** A request header that counts once; undefined when it is missing. */
export function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name]
  return Array.isArray(value) ? value.join(', ') : value
}

/** Whether `If-None-Match` names the entity tag (RFC 9110 13.1.2). */
export function matchesEtag(request: IncomingMessage, etag: string): boolean {
  const header = headerOf(request, 'if-none-match')
  if (header === undefined) return false
  return header.split(',').some(tag => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag)
}
