import { randomBytes } from 'node:crypto'
import { formatContentRange, parseRanges } from '@darter/oci'
import type {
  BlobRead,
  BlobReads,
  ByteSources,
  ByteSpan,
  ChosenSpan,
  OpenBlobRequest,
} from '../download/contract.ts'
import type { ClientRequest } from './exchange.ts'
import { sendOrCut, sendRead } from './send-read.ts'

type Headers = Readonly<Record<string, string | string[]>>

/** Parts that are opened before they are sent. */
const AHEAD = 4

/**
 * Opens and sends what a `Range` header (undefined: none) asks for of some content: 200, 206 or 416. When the bytes cannot go on, the
 * connection is cut: an answer is never completed with less or with others.
 * @param headers - describe the content and its range support; those of the length are added.
 * @returns whether all of the content was sent, or the part that was asked for.
 * @throws what {@link BlobReads.open} throws.
 */
export async function sendContent(
  exchange: ClientRequest,
  reads: BlobReads,
  source: Omit<OpenBlobRequest, 'span'>,
  range: string | undefined,
  headers: Headers,
): Promise<'all' | 'part' | 'cut'> {
  let spans: readonly ChosenSpan[] = []
  const read = await reads.open({
    ...source,
    span: size => {
      const wanted = parseRanges(range, size)
      if (wanted.kind === 'whole' || wanted.kind === 'unsatisfiable') return wanted.kind
      spans = wanted.kind === 'range' ? [wanted] : wanted.ranges
      return { ...spans[0]!, of: bytesOf(spans) }
    },
  })
  const isSent =
    'unsatisfiable' in read || spans.length < 2
      ? await sendRead(exchange, read, spans.length === 1, headers)
      : await sendParts(exchange, reads, source, read, spans, headers)
  if (!isSent) return 'cut'
  return !('unsatisfiable' in read) && read.to - read.from === read.size ? 'all' : 'part'
}

/** Answers with several parts, `first` being the first one, as `multipart/byteranges` (RFC 9110 14.6). */
async function sendParts(
  exchange: ClientRequest,
  reads: BlobReads,
  source: Omit<OpenBlobRequest, 'span'>,
  first: BlobRead,
  spans: readonly ByteSpan[],
  headers: Headers,
): Promise<boolean> {
  const { record } = exchange
  const boundary = randomBytes(18).toString('hex')
  const type = String(headers['content-type'])
  const heads = spans.map(({ from, to }, index) => {
    const range = formatContentRange(from, to, first.size)
    const before = index === 0 ? '' : '\r\n'
    return Buffer.from(`${before}--${boundary}\r\ncontent-type: ${type}\r\ncontent-range: ${range}\r\n\r\n`)
  })
  const end = Buffer.from(`\r\n--${boundary}--\r\n`)
  const length = [...heads, end].reduce((sum, head) => sum + head.length, 0) + bytesOf(spans)
  const opened: BlobRead[] = [first]
  record.sources = () => sumOf(opened.map(read => read.sources()))
  const response = exchange.begin(206, {
    ...headers,
    'content-type': `multipart/byteranges; boundary=${boundary}`,
    'content-length': length,
  })
  const left = new AbortController()
  const signal = AbortSignal.any([source.signal, left.signal])
  const open = async (span: ByteSpan): Promise<BlobRead> => {
    const read = await reads.open({ ...source, signal, span: () => ({ ...span, of: bytesOf(spans) }) })
    if ('unsatisfiable' in read) throw new RangeError('a range inside the content is satisfiable')
    opened.push(read)
    return read
  }
  const body = async function* (): AsyncGenerator<Uint8Array> {
    const coming: Promise<BlobRead>[] = [Promise.resolve(first)]
    let next = 1
    for (const head of heads) {
      for (; next < spans.length && coming.length <= AHEAD; next++) {
        const read = open(spans[next]!)
        read.catch(() => {})
        coming.push(read)
      }
      yield head
      yield* (await coming.shift()!).body
    }
    yield end
  }
  try {
    return await sendOrCut(exchange, response, body(), length)
  } finally {
    left.abort(new Error('the answer has ended'))
  }
}

function bytesOf(spans: readonly ByteSpan[]): number {
  return spans.reduce((sum, { from, to }) => sum + to - from, 0)
}

function sumOf(sources: readonly ByteSources[]): ByteSources {
  const sum = (key: keyof ByteSources): number => sources.reduce((total, one) => total + one[key], 0)
  return { fromDisk: sum('fromDisk'), fromPeers: sum('fromPeers'), fromOrigin: sum('fromOrigin') }
}
