import { formatContentRange, formatUnsatisfiedRange, ociErrorBody } from '@darter/oci'
import type { BlobReads, CallerSocket } from '../download/contract.ts'
import { codeOf } from './error-table.ts'
import { ClientGoneError } from './errors.ts'
import { type ClientRequest, headerOf } from './exchange.ts'
import { sendBody } from './send-body.ts'

type Headers = Readonly<Record<string, string | string[]>>

/**
 * The `Range` header of a request, unless `If-Range` says that it was meant for another representation
 * (RFC 9110 13.1.5).
 * @param validators - what `If-Range` may say to mean this representation: its entity tag, its time of change.
 */
export function rangeOf(
  { request, record }: ClientRequest,
  validators: readonly (string | undefined)[],
): string | undefined {
  const range = headerOf(request, 'range')
  record.range = range?.slice(0, 64)
  const condition = headerOf(request, 'if-range')
  return condition === undefined || validators.includes(condition) ? range : undefined
}

/**
 * Answers with what was read: 200, 206 or 416. When the bytes cannot go on, the connection is cut: an answer is never
 * completed with less or with others.
 * @param partial - a range was asked for, even if that is all of the content.
 * @param headers - describe the content and its range support; those of the length are added.
 * @returns whether all of it was sent.
 */
export async function sendRead(
  exchange: ClientRequest,
  read: Awaited<ReturnType<BlobReads['open']>>,
  partial: boolean,
  headers: Headers,
): Promise<boolean> {
  const { record } = exchange
  if ('unsatisfiable' in read) {
    sendUnsatisfiable(exchange, read.size, headers)
    return false
  }
  record.sources = read.sources
  const response = exchange.begin(partial ? 206 : 200, {
    ...headers,
    'content-length': read.to - read.from,
    ...(partial && { 'content-range': formatContentRange(read.from, read.to, read.size) }),
  })
  return await sendOrCut(exchange, response, read.body, read.to - read.from, socket => read.goesTo(socket))
}

/** Answers 416: the range lies outside of the content's `size` bytes. */
export function sendUnsatisfiable(exchange: ClientRequest, size: number, headers: Headers): void {
  const message = `the range lies outside of the ${size} bytes of the content`
  const body = JSON.stringify(ociErrorBody('RANGE_INVALID', message))
  const response = exchange.begin(416, {
    ...headers,
    'content-range': formatUnsatisfiedRange(size),
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
  })
  response.end(body)
}

/** Sends a body whose head is written; cuts the connection when it cannot go on. Returns whether all of it was sent. */
export async function sendOrCut(
  { record, signal }: ClientRequest,
  response: ReturnType<ClientRequest['begin']>,
  body: AsyncIterable<Uint8Array>,
  length: number | undefined,
  offer?: (socket: CallerSocket) => void,
): Promise<boolean> {
  try {
    const onPiece = (bytes: number): void => {
      record.bytes += bytes
    }
    await sendBody(response, body, length, onPiece, offer)
    return true
  } catch (error) {
    if (!(error instanceof ClientGoneError) && !signal.aborted) {
      record.outcome = `cut:${codeOf(error)}`
      record.error = error
    }
    response.destroy()
    return false
  }
}
