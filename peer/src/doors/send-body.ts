import type { ServerResponse } from 'node:http'
import { BodyLengthError, ClientGoneError } from './errors.ts'

/**
 * Writes a body whose head is already written, one piece at a time: the next one is asked for when the socket has
 * taken the last, so that a source may reuse its buffer and a slow client holds back the source. Ends the response.
 * Calls `onPiece` with the length of each piece that was taken.
 * @param announced - the `Content-Length`, in bytes, where there is one.
 * @throws {BodyLengthError} when the body is longer or shorter than that, before a byte too many is sent;
 * @throws {ClientGoneError} when the client closes first; whatever the body throws, with the response left unended.
 */
export async function sendBody(
  response: ServerResponse,
  body: AsyncIterable<Uint8Array>,
  announced: number | undefined,
  onPiece: (length: number) => void,
): Promise<void> {
  let sent = 0
  let wake: (() => void) | undefined
  const onClose = () => wake?.()
  response.once('close', onClose)
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
    if (announced !== undefined && sent < announced) throw new BodyLengthError(sent, announced)
    response.end()
  } finally {
    response.removeListener('close', onClose)
  }
}
