import { randomUUID } from 'node:crypto'
import { type Digest, isDigest, parseContentRange } from '@darter/oci'
import { createPeerClient, refusal } from '../peer-client.ts'
import { GetRefusedError } from './errors.ts'

/** What the bytes that came are owed to. */
export interface Shares {
  readonly fromDisk: number
  readonly fromPeers: number
  readonly fromOrigin: number
}

/** Content on its way from the peer. */
export interface Opened {
  /** Where the first byte lies in the whole. */
  readonly from: number
  /** Bytes of the whole; undefined when nobody knows. */
  readonly size: number | undefined
  readonly etag: string | undefined
  readonly modified: string | undefined
  readonly digest: Digest | undefined
  readonly body: AsyncIterable<Uint8Array>
  /** Where the bytes of this answer came from so far; undefined when the peer does not say. */
  shares(): Promise<Shares | undefined>
}

/** One piece of content, as the peer of this machine gives it. */
export interface Source {
  /**
   * Asks for everything from byte `from` on, if the content still is what `validator` says; else, and for 0, for the whole.
   * 'beyond': there is nothing from there on.
   * @throws {GetRefusedError} {@link PeerNotRunningError}
   */
  open(from: number, validator: string | undefined, signal: AbortSignal): Promise<Opened | 'beyond'>
  close(): Promise<void>
}

const SHARES_MS = 2000

/**
 * @param options.peer - `http://host:port` of the peer's door.
 * @param options.path - the content's path there, percent-encoded.
 */
export function createSource(options: {
  readonly peer: string
  readonly path: string
  readonly wanted: Digest | undefined
  /** For the content's origin; names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  /** What a user can do when the origin wants credentials, as an imperative or an option. */
  readonly credentials: string
}): Source {
  const { path, wanted, headers, credentials } = options
  const peer = createPeerClient(options.peer)
  const fixed: Record<string, string> = {
    ...Object.fromEntries(headers),
    ...(headers.size > 0 && { 'x-darter-forward': [...headers.keys()].join(', ') }),
    ...(wanted !== undefined && { 'x-darter-digest': wanted }),
  }

  const shares = async (transfer: string): Promise<Shares | undefined> => {
    try {
      const answer = await peer.ask(`/transfers/${transfer}`, { signal: AbortSignal.timeout(SHARES_MS) })
      const told = (await answer.body.json()) as Shares
      return answer.statusCode === 200 ? told : undefined
    } catch {
      return undefined
    }
  }

  return {
    open: async (from, validator, signal) => {
      const transfer = randomUUID()
      const isPart = from > 0 && validator !== undefined
      const answer = await peer.ask(path, {
        headers: {
          ...fixed,
          'x-darter-transfer': transfer,
          ...(isPart && { range: `bytes=${from}-`, 'if-range': validator }),
        },
        signal,
      })
      const text = (name: string) => {
        const value = answer.headers[name]
        return Array.isArray(value) ? value.join(', ') : value
      }
      if (answer.statusCode === 416 && isPart) {
        await answer.body.dump()
        return 'beyond'
      }
      if (answer.statusCode !== 200 && answer.statusCode !== 206) throw await refusal(answer, credentials)
      const range = answer.statusCode === 206 ? parseContentRange(text('content-range') ?? '') : undefined
      if (answer.statusCode === 206 && (range?.kind !== 'range' || range.from !== from)) {
        answer.body.destroy()
        throw new GetRefusedError(
          `the peer was asked for bytes from ${from} on and sent ${text('content-range')}`,
          false,
        )
      }
      const length = text('content-length')
      const size = range?.kind === 'range' ? range.size : length === undefined ? undefined : Number(length)
      const digest = text('x-darter-digest') ?? ''
      return {
        from: range?.kind === 'range' ? range.from : 0,
        size,
        etag: text('etag'),
        modified: text('last-modified'),
        digest: isDigest(digest) ? digest : undefined,
        body: answer.body,
        shares: () => shares(transfer),
      }
    },
    close: peer.close,
  }
}
