import { randomUUID } from 'node:crypto'
import { type Digest, isDigest, parseContentRange } from '@darter/oci'
import { Agent, type Dispatcher, request } from 'undici'
import { GetRefusedError, PeerNotRunningError } from './errors.ts'

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

/** A peer may wait 40 s for its sources before it says so. */
const PATIENCE_MS = 120_000
const SHARES_MS = 2000
const MAX_MESSAGE = 512
/** What could move a terminal's cursor, change its colours or turn its text round; an origin's own words may hold it. */
const CONTROL = /[\p{Cc}\p{Cf}]+/gu
/** Refusals that another try may mend: 502 is an origin that broke off, or whose content changed meanwhile. */
const TRANSIENT: ReadonlySet<number> = new Set([429, 502, 503, 504])

/**
 * @param options.peer - `http://host:port` of the peer's door.
 * @param options.path - the content's path there, percent-encoded.
 */
export function createSource(options: {
  readonly peer: string
  readonly path: string
  readonly wanted: Digest | undefined
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>
}): Source {
  const { peer, path, wanted, headers } = options
  const agent = new Agent({ headersTimeout: PATIENCE_MS, bodyTimeout: PATIENCE_MS })
  const fixed: Record<string, string> = {
    ...Object.fromEntries(headers),
    ...(headers.size > 0 && { 'x-darter-forward': [...headers.keys()].join(', ') }),
    ...(wanted !== undefined && { 'x-darter-digest': wanted }),
  }

  const shares = async (transfer: string): Promise<Shares | undefined> => {
    try {
      const answer = await request(`${peer}/transfers/${transfer}`, {
        dispatcher: agent,
        signal: AbortSignal.timeout(SHARES_MS),
      })
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
      let answer: Dispatcher.ResponseData
      try {
        answer = await request(`${peer}${path}`, {
          dispatcher: agent,
          headers: {
            ...fixed,
            'x-darter-transfer': transfer,
            ...(isPart && { range: `bytes=${from}-`, 'if-range': validator }),
          },
          signal,
        })
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? error.code : undefined
        if (code === 'ECONNREFUSED') throw new PeerNotRunningError(peer, error)
        throw error
      }
      const text = (name: string) => {
        const value = answer.headers[name]
        return Array.isArray(value) ? value.join(', ') : value
      }
      if (answer.statusCode === 416 && isPart) {
        await answer.body.dump()
        return 'beyond'
      }
      if (answer.statusCode !== 200 && answer.statusCode !== 206) throw await refusal(answer)
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
    close: () => agent.destroy(),
  }
}

/** What a refusal of the peer says, in one line. */
export async function refusal({
  statusCode,
  body,
  headers,
}: Dispatcher.ResponseData): Promise<GetRefusedError> {
  const text = await body.text().catch(() => '')
  const message = messageOf(text)?.replace(CONTROL, ' ') ?? `the origin answered with status ${statusCode}`
  const advice = headers['www-authenticate'] === undefined ? '' : ' (it wants credentials: --header)'
  return new GetRefusedError(message + advice, TRANSIENT.has(statusCode))
}

/** The message in an error body of a registry's or a peer's kind (JSON), or of an object store's (XML). */
function messageOf(text: string): string | undefined {
  const xml = /<Message>([^<]{1,512})<\/Message>/.exec(text)?.[1]
  if (xml !== undefined) return `the object store: ${xml}`
  try {
    const { errors } = JSON.parse(text) as { errors?: { message?: unknown }[] }
    const message = errors?.[0]?.message
    return typeof message === 'string' ? message.slice(0, MAX_MESSAGE) : undefined
  } catch {
    return undefined
  }
}
