import { parseContentRange, quoted } from '@darter/oci'
import type { BlobBody } from './contract.ts'
import { OriginProtocolError } from './errors.ts'
import { contentLength, textOf } from './headers.ts'
import type { Answer } from './transport.ts'

/**
 * The body of an answer (status 200 or 206) to a request for bytes from `from` up to and not including `to` (both
 * undefined: for everything), after a check that it is what was asked for.
 * @throws {OriginProtocolError} when it is not.
 */
export function openAnswer(answer: Answer, from: number | undefined, to: number | undefined): BlobBody {
  const asked = from !== undefined || to !== undefined
  if (answer.status === 200) {
    const body = answer.watch()
    const size = contentLength(answer.headers)
    return { offset: 0, size, honouredRange: !asked, body, cancel: body.cancel }
  }
  const header = textOf(answer.headers['content-range'])
  const range = parseContentRange(header)
  if (!asked || range?.kind !== 'range') {
    throw new OriginProtocolError(
      `${answer.subject} sent a part of the blob with ${asked ? `Content-Range ${quoted(header)}` : 'no range asked for'}`,
    )
  }
  const end = Math.min(to ?? Number.POSITIVE_INFINITY, range.size ?? Number.POSITIVE_INFINITY)
  const sameEnd = range.to === end || (end === Number.POSITIVE_INFINITY && to === undefined)
  const length = contentLength(answer.headers) ?? range.to - range.from
  if (range.from !== (from ?? 0) || !sameEnd || length !== range.to - range.from) {
    throw new OriginProtocolError(
      `${answer.subject} was asked for bytes ${from ?? 0} to ${to ?? 'the end'} and sent ${quoted(header)}, ${length} bytes`,
    )
  }
  const body = answer.watch(length)
  return { offset: range.from, size: range.size, honouredRange: true, body, cancel: body.cancel }
}
