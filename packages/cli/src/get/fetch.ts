import { createHash, type Hash } from 'node:crypto'
import { type Digest, digestAlgorithm, parseDigest } from '@darter/oci'
import { createBackoff, delay, systemRandom } from '@darter/runtime'
import {
  GetDigestError,
  GetInterruptedError,
  GetRefusedError,
  GetTargetError,
  PeerNotRunningError,
} from './errors.ts'
import type { PartIdentity, Sink } from './part-file.ts'
import type { Progress } from './progress.ts'
import type { Opened, Shares, Source } from './source.ts'

/** How a transfer went. */
export interface Fetched {
  /** Bytes of the whole. */
  readonly size: number
  /** Those that an earlier run had left. */
  readonly kept: number
  readonly digest: Digest
  readonly shares: Shares
}

/** Times in a row that the content may break off without getting further than before. */
const MAX_TRIES = 5
/** What is fetched again of an earlier run's bytes, to see that they are the same. */
const OVERLAP_BYTES = 1024 * 1024
const SHARES_EVERY_MS = 500

/** What is fetched, and where to. */
export interface FetchOptions {
  readonly source: Source
  readonly sink: Sink
  /** Names the content in {@link PartIdentity}. */
  readonly sourceId: string
  /** The digest that the content must have. */
  readonly wanted: Digest | undefined
  readonly progress: Progress
  readonly signal: AbortSignal
}

/** The bytes that are there are not the beginning of what is fetched. */
class OtherBytesError extends Error {}

/**
 * Fetches the content into a sink: goes on with what an earlier run left of the same version, after a look at its end, and
 * where the content breaks off. The whole is hashed and must have the digest that was wanted or told.
 * @throws {GetRefusedError} {@link PeerNotRunningError} {@link GetInterruptedError} {@link GetDigestError}
 */
export async function fetchInto(options: FetchOptions): Promise<Fetched> {
  const { sink, sourceId } = options
  const { identity } = sink
  if (identity !== undefined && identity.source === sourceId && sink.length > 0) {
    const earlier = { ...identity, length: sink.length }
    try {
      return await fetchOnce(options, earlier)
    } catch (error) {
      if (!(error instanceof OtherBytesError || error instanceof GetDigestError)) throw error
      // What was left is of no use: once more, all of it.
    }
  }
  return await fetchOnce(options, undefined)
}

async function fetchOnce(
  options: FetchOptions,
  earlier: (PartIdentity & { readonly length: number }) | undefined,
): Promise<Fetched> {
  const { source, sink, sourceId, wanted, progress, signal } = options
  const backoff = createBackoff({ baseMs: 200, maxMs: 5000, random: systemRandom })
  const totals = { fromDisk: 0, fromPeers: 0, fromOrigin: 0 }
  let validator = earlier && validatorOf(earlier)
  let position = earlier === undefined ? 0 : Math.max(0, earlier.length - OVERLAP_BYTES)
  let kept = position
  let size = earlier?.size
  let expected = wanted
  let hash: Hash | undefined

  /** Takes one answer, as far as it comes. */
  const take = async (opened: Opened): Promise<void> => {
    if (opened.from === 0) {
      position = 0
      kept = 0
      expected = wanted ?? opened.digest
      hash = newHash(expected)
      validator = validatorOf(opened)
      await sink.begin(validator === undefined ? undefined : identityOf(opened, sourceId))
    } else if (hash === undefined) {
      // The first answer, to go on with an earlier run's bytes.
      expected = wanted ?? opened.digest
      hash = await hashOf(sink, position, expected, signal)
    }
    size = opened.size
    const poll = setInterval(() => void report(opened, totals, progress), SHARES_EVERY_MS)
    try {
      progress.update(position, size)
      for await (const piece of opened.body) {
        if (kept > 0 && earlier !== undefined) await compare(sink, earlier.length, piece, position)
        await sink.write(piece, position).catch(unwritable)
        hash.update(piece)
        position += piece.length
        progress.update(position, size)
      }
    } finally {
      clearInterval(poll)
      const told = await opened.shares()
      totals.fromDisk += told?.fromDisk ?? 0
      totals.fromPeers += told?.fromPeers ?? 0
      totals.fromOrigin += told?.fromOrigin ?? 0
    }
    if (size !== undefined && position < size) throw new Error('it ended short')
  }

  let furthest = position
  for (let tries = 0; ; ) {
    try {
      const opened = await source.open(position, validator, signal)
      if (opened === 'beyond') {
        if (earlier !== undefined) throw new OtherBytesError()
        position = 0
        throw new Error('it is shorter than what has come of it')
      }
      await take(opened)
      break
    } catch (error) {
      signal.throwIfAborted()
      if (isFinal(error, position > kept)) throw error
      if (position > furthest) {
        furthest = position
        tries = 0
        backoff.reset()
      }
      if (++tries >= MAX_TRIES) {
        throw error instanceof GetRefusedError ? error : new GetInterruptedError(position, size, error)
      }
      await delay(backoff.next(), signal)
    }
  }
  const whole = hash ?? newHash(expected)
  const actual = parseDigest(`${algorithmOf(expected)}:${whole.digest('hex')}`)
  if (expected !== undefined && actual !== expected) throw new GetDigestError(expected, actual)
  return { size: position, kept, digest: actual, shares: totals }
}

/** Whether another try cannot mend it. A peer that was there a moment ago may be starting again. */
function isFinal(error: unknown, begun: boolean): boolean {
  if (error instanceof GetRefusedError) return !error.transient
  if (error instanceof PeerNotRunningError) return !begun
  return error instanceof GetTargetError || error instanceof OtherBytesError
}

/** Another try would not find more room, nor a reader. */
function unwritable(error: unknown): never {
  throw new GetTargetError(`it cannot be written: ${error instanceof Error ? error.message : String(error)}`)
}

function identityOf({ etag, modified, digest, size }: Opened, source: string): PartIdentity | undefined {
  return size === undefined ? undefined : { source, etag, modified, digest, size }
}

/** Whether bytes that an earlier run left are the ones that come now. @throws {OtherBytesError} */
async function compare(sink: Sink, length: number, piece: Uint8Array, position: number): Promise<void> {
  if (position >= length) return
  let at = 0
  for await (const there of sink.read(position, Math.min(length, position + piece.length))) {
    if (!Buffer.from(there).equals(piece.subarray(at, at + there.length))) throw new OtherBytesError()
    at += there.length
  }
}

async function report(opened: Opened, totals: Shares, progress: Progress): Promise<void> {
  const told = await opened.shares()
  if (told === undefined) return
  progress.shares({
    fromDisk: totals.fromDisk + told.fromDisk,
    fromPeers: totals.fromPeers + told.fromPeers,
    fromOrigin: totals.fromOrigin + told.fromOrigin,
  })
}

/** The strong validator that a range can be asked by (RFC 9110 13.1.5); undefined when there is none. */
function validatorOf({ etag, modified }: Pick<PartIdentity, 'etag' | 'modified'>): string | undefined {
  return etag !== undefined && !etag.startsWith('W/') ? etag : modified
}

const algorithmOf = (expected: Digest | undefined) =>
  expected === undefined ? 'sha256' : digestAlgorithm(expected)

const newHash = (expected: Digest | undefined) => createHash(algorithmOf(expected))

async function hashOf(
  sink: Sink,
  length: number,
  expected: Digest | undefined,
  signal: AbortSignal,
): Promise<Hash> {
  const hash = newHash(expected)
  for await (const piece of sink.read(0, length)) {
    signal.throwIfAborted()
    hash.update(piece)
  }
  return hash
}
