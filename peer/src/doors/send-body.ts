import type { ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { CallerSocket } from '../download/contract.ts'
import { BodyLengthError, ClientGoneError } from './errors.ts'

/**
 * Writes a body whose head is already written, one piece at a time: the next one is asked for when the socket has
 * taken the last, so that a source may reuse its buffer and a slow client holds back the source. Ends the response.
 * Calls `onPiece` with the length of each piece that was taken.
 * @param announced - the `Content-Length`, in bytes, where there is one.
 * @param offer - called at first with a way around the body for bytes of it.
 * @throws {BodyLengthError} when the body is longer or shorter than that, before a byte too many is sent;
 * @throws {ClientGoneError} when the client closes first; whatever the body throws, with the response left unended.
 */
export async function sendBody(
  response: ServerResponse,
  body: AsyncIterable<Uint8Array>,
  announced: number | undefined,
  onPiece: (length: number) => void,
  offer?: (socket: CallerSocket) => void,
): Promise<void> {
  let sent = 0
  let wake: (() => void) | undefined
  const onClose = () => wake?.()
  response.once('close', onClose)
  offer?.({
    // The head leaves with the first piece.
    descriptor: () => (sent > 0 && response.writableLength === 0 ? descriptorOf(response.socket) : undefined),
    moved: bytes => {
      sent += bytes
      onPiece(bytes)
      const { socket } = response
      // Node sees no traffic, and would find the connection idle.
      if (socket?.timeout !== undefined) socket.setTimeout(socket.timeout)
    },
  })
  try {
    for await (const piece of body) {
      if (response.destroyed) throw new ClientGoneError()
      if (piece.byteLength === 0) continue
      sent += piece.byteLength
      if (announced !== undefined && sent > announced) throw new BodyLengthError(sent, announced)
      await new Promise<void>(resolve => {
        wake = resolve
        response.write(piece, () => resolve())
      })
      if (response.destroyed) throw new ClientGoneError()
      onPiece(piece.byteLength)
    }
    if (announced !== undefined && sent !== announced) throw new BodyLengthError(sent, announced)
    response.end()
  } finally {
    response.removeListener('close', onClose)
  }
}

/** The descriptor of a socket that carries bytes as they are; undefined for others, and for one that is closed. */
function descriptorOf(socket: Socket | null): number | undefined {
  if (!(socket instanceof Socket) || socket instanceof TLSSocket || socket.destroyed) return undefined
  // Node has no documented way to it; where this one ends, bodies take the long way.
  const { _handle: handle } = socket as { readonly _handle?: { readonly fd?: unknown } | null }
  return typeof handle?.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined
}
