import type { Hash } from 'node:crypto'
import type { Digest } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import { ChunkCorruptError, ChunkMissingError, type ChunkStore, type StoredBlob } from '@darter/store'
import type {
  BlobRead,
  BlobSource,
  ByteSources,
  ByteSpan,
  CallerSocket,
  ChosenSpan,
  ContentKind,
  OpenBlobRequest,
} from './contract.ts'
import type { DownloadReader } from './download-contract.ts'
import { Download } from './download.ts'
import type { DownloadMetrics } from './metrics.ts'
import { WrongBytesSentError } from './errors.ts'
import type { RangePiece } from './origin-ranges.ts'
import { passThrough } from './pass-through.ts'
import { hashPrefix, sameHash } from './prefix-hasher.ts'
import { DirectWay, PieceReader } from './stored-pieces.ts'

/** Damaged chunks that one response outlives. */
const MAX_ROTTEN_CHUNKS = 16
const PROVENANCE_COUNT = { disk: 'fromDisk', peer: 'fromPeers', origin: 'fromOrigin' } as const

/** Hands spans of blobs to callers, from wherever the bytes are, and goes on elsewhere when they are not there any more. */
export interface SpanReader {
  /**
   * A span of a blob that is being downloaded or complete. Resolves when its first byte can be delivered.
   * @throws what the download throws before that.
   */
  read(
    found: Download | StoredBlob,
    request: OpenBlobRequest,
    kind: ContentKind,
    span: ChosenSpan,
  ): Promise<BlobRead>
  /** A span straight from the origin, kept nowhere. */
  direct(request: OpenBlobRequest, kind: ContentKind, size: number, span: ByteSpan): BlobRead
}

/** Where a caller's bytes are: a running download, or a complete blob in the store. */
interface Attached extends DownloadReader {
  readonly stored: StoredBlob
  /** The first bytes of a range, and what brings those after them. */
  readonly begun?: { readonly first: RangePiece; readonly rest: AsyncGenerator<RangePiece> }
}

/** `begin` finds a blob's running download or complete record, or starts a download. */
export function createSpanReader(options: {
  readonly store: ChunkStore
  readonly log: Logger
  readonly metrics: DownloadMetrics
  readonly begin: (
    digest: Digest,
    size: number,
    kind: ContentKind,
    source: BlobSource,
    trustHeld: boolean,
  ) => Promise<Download | StoredBlob>
}): SpanReader {
  const { store, log, metrics, begin } = options

  /** A caller's hold on where its bytes are; waits until the first chunk is there. `again` finds out anew where they are. */
  const attach = async (
    where: Download | StoredBlob,
    request: OpenBlobRequest,
    span: ChosenSpan,
    again: () => Promise<Download | StoredBlob>,
  ): Promise<Attached | 'pass-through'> => {
    const { signal } = request
    let found = where
    // It may have come to its end, with nobody reading, after it was found.
    while (found instanceof Download && found.isOver) found = await again()
    if (!(found instanceof Download)) {
      const end = once(() => found.release(), signal)
      return {
        stored: found,
        wait: async () => 'ready',
        fromOrigin: async function* () {},
        failure: () => undefined,
        settled: () => true,
        provenance: () => 'disk',
        end,
      }
    }
    const { stored } = found
    const first = stored.layout.at(span.from)
    const reader = found.addReader(span, request)
    const end = once(isDone => reader.end(isDone), signal)
    try {
      for (;;) {
        const place = await reader.wait(first, signal)
        if (place === 'ready') return { ...reader, stored, end }
        if (place === 'pass-through') break
        const rest = reader.fromOrigin(span, signal)
        const begun = await rest.next()
        if (begun.done !== true) return { ...reader, stored, end, begun: { first: begun.value, rest } }
      }
    } catch (error) {
      end(false)
      throw error
    }
    end(false)
    return 'pass-through'
  }

  const direct = (
    request: OpenBlobRequest,
    kind: ContentKind,
    size: number,
    span: ByteSpan,
    prefix?: Hash,
  ): BlobRead => {
    let fromOrigin = 0
    const body = passThrough({
      source: request,
      digest: request.digest,
      kind,
      size,
      span,
      prefix,
      signal: request.signal,
      onBytes: bytes => {
        fromOrigin += bytes
        metrics.receivedFromOrigin(bytes)
      },
    })
    const sources = () => ({ fromDisk: 0, fromPeers: 0, fromOrigin })
    return { ...span, size, body, goesTo: () => {}, sources }
  }

  async function* readSpan(
    start: Attached,
    request: OpenBlobRequest,
    kind: ContentKind,
    span: ChosenSpan,
    counts: { -readonly [K in keyof ByteSources]: number },
    callerSocket: () => CallerSocket | undefined,
  ): AsyncGenerator<Uint8Array> {
    const { layout } = start.stored
    const { digest, content = digest, signal } = request
    const pieces = new PieceReader(layout, span.to)
    let attached: Attached | undefined = start
    let position = span.from
    let rotten = 0
    const way = new DirectWay(span.to)
    const whole = span.from === 0 && span.to === layout.size
    /** The hashes of the chunks that were passed on before the digest was settled. */
    const sent = new Map<number, Uint8Array>()
    try {
      while (position < span.to) {
        signal.throwIfAborted()
        if (attached === undefined) {
          // Who reads the whole blob has its digest checked, whichever way the rest comes.
          const prefix =
            whole && position > 0 ? await hashPrefix(store, digest, content, position, sent) : undefined
          const rest = direct(request, kind, layout.size, { from: position, to: span.to }, prefix)
          for await (const piece of rest.body) {
            counts.fromOrigin += piece.length
            position += piece.length
            yield piece
          }
          return
        }
        const chunk = layout.at(position)
        const current: Attached = attached
        let piece: Uint8Array
        try {
          const begun = position === span.from ? current.begun : undefined
          const place = begun === undefined ? await current.wait(chunk, signal) : 'origin'
          if (place === 'pass-through') {
            current.end(false)
            attached = undefined
            continue
          }
          if (place === 'origin') {
            const rest = begun?.rest ?? current.fromOrigin({ from: position, to: span.to }, signal)
            for await (const { bytes, from } of begun === undefined
              ? rest
              : startingWith(begun.first, rest)) {
              counts[PROVENANCE_COUNT[from]] += bytes.length
              position += bytes.length
              yield bytes
            }
            continue
          }
          const socket = current.settled() ? callerSocket() : undefined
          if (whole && socket !== undefined) checkSent(current, chunk, sent)
          const count = socket === undefined ? 0 : await way.send(current.stored, position, socket)
          if (count > 0) {
            counts[PROVENANCE_COUNT[current.provenance(chunk)]] += count
            position += count
            continue
          }
          // The caller's pin went with the caller.
          signal.throwIfAborted()
          piece = await pieces.read(current.stored, position, way.works)
        } catch (error) {
          // The disk lost it: it is fetched again, and this caller goes on behind what it has.
          const isRot = error instanceof ChunkCorruptError || error instanceof ChunkMissingError
          if (!isRot || ++rotten > MAX_ROTTEN_CHUNKS) throw error
          const failure = current.failure()
          if (failure !== undefined) throw failure
          log.warn(
            { blob: digest, chunk, err: error.message },
            'a stored chunk is damaged; it is fetched again',
          )
          const settled = current.settled()
          // Only this download will tell if what was passed on is wrong.
          if (!settled) continue
          current.end(false)
          const find = () => begin(digest, layout.size, kind, request, settled)
          const rest = { ...span, from: position }
          const again = await attach(await find(), request, rest, find)
          attached = again === 'pass-through' ? undefined : again
          continue
        }
        if (whole) checkSent(current, chunk, sent)
        counts[PROVENANCE_COUNT[current.provenance(chunk)]] += piece.length
        position += piece.length
        // The next piece is read while this one is sent.
        const isReadable = layout.at(position) === chunk || current.settled()
        if (isReadable && !way.works) pieces.readAhead(current.stored, position)
        yield piece
      }
    } finally {
      attached?.end(position === span.to)
    }
  }

  return {
    direct,
    read: async (found, request, kind, span) => {
      const { size } = found instanceof Download ? found.stored.layout : found.layout
      const opened = await attach(found, request, span, () =>
        begin(request.digest, size, kind, request, false),
      )
      if (opened === 'pass-through') return direct(request, kind, size, span)
      const counts = { fromDisk: 0, fromPeers: 0, fromOrigin: 0 }
      let socket: CallerSocket | undefined
      return {
        from: span.from,
        to: span.to,
        size,
        body: readSpan(opened, request, kind, span, counts, () => socket),
        goesTo: to => {
          socket = to
        },
        sources: () => ({ ...counts }),
      }
    },
  }
}

/**
 * Notes which bytes a chunk that is passed on has, until the digest is right: then it compares all that was noted with what
 * the digest was right for.
 * @throws {WrongBytesSentError} when a chunk was replaced by other bytes after it was passed on.
 */
function checkSent({ stored, settled }: Attached, chunk: number, sent: Map<number, Uint8Array>): void {
  if (!settled()) {
    const hash = stored.chunkHash(chunk)
    const before = sent.get(chunk)
    if (hash === undefined || (before !== undefined && !sameHash(before, hash)))
      throw new WrongBytesSentError(stored.digest)
    sent.set(chunk, hash)
    return
  }
  for (const [passed, hash] of sent) {
    const now = stored.chunkHash(passed)
    if (now === undefined || !sameHash(now, hash)) throw new WrongBytesSentError(stored.digest)
  }
  sent.clear()
}

async function* startingWith<T>(first: T, rest: AsyncGenerator<T>): AsyncGenerator<T> {
  try {
    yield first
    yield* rest
  } finally {
    await rest.return(undefined)
  }
}

/** Runs `act` at the first call, or with false when the signal aborts, whichever is first, and never again. */
function once(act: (isDone: boolean) => void, signal: AbortSignal): (isDone: boolean) => void {
  let done = false
  const run = (isDone: boolean): void => {
    if (done) return
    done = true
    signal.removeEventListener('abort', onAbort)
    act(isDone)
  }
  const onAbort = (): void => run(false)
  signal.addEventListener('abort', onAbort, { once: true })
  return run
}
