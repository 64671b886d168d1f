import type { Socket } from 'node:net'
import { type OciErrorCode, ociErrorBody } from '@darter/oci'
import type { Logger } from '@darter/runtime'

const ANSWERS: Readonly<Record<string, readonly [number, string, string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large', 'the head of the request is too large'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'the head of the request took too long'],
}
const MALFORMED = [400, 'Bad Request', 'this is not a well-formed HTTP request'] as const
const OCI_CODE: OciErrorCode = 'UNSUPPORTED'

/** Answers what was no HTTP request, and closes the connection. */
export function answerClientError(
  error: Error & { readonly code?: string | undefined },
  socket: Socket,
  log: Logger,
): void {
  const code = error.code ?? ''
  if (code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const [status, reason, message] = ANSWERS[code] ?? MALFORMED
  log.info({ status, code: code.slice(0, 64), remote: socket.remoteAddress }, 'a connection sent no request')
  const body = JSON.stringify(ociErrorBody(OCI_CODE, message))
  const head = [
    `HTTP/1.1 ${status} ${reason}`,
    'Connection: close',
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy())
}
