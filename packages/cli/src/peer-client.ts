import { Agent, type Dispatcher, request } from 'undici'
import { GetRefusedError, PeerNotRunningError } from './get/errors.ts'

/** How long a peer may take for a head or without a byte, in ms: it may wait 40 s for its sources before it says so. */
export const PATIENCE_MS = 120_000

/** Asks the peer of this machine. */
export interface PeerClient {
  /**
   * @param path - begins with a slash; percent-encoded.
   * @throws {PeerNotRunningError} when nobody listens; what the connection fails with.
   */
  ask(
    path: string,
    options: {
      readonly method?: 'GET' | 'HEAD'
      /** Names in lower case. */
      readonly headers?: Readonly<Record<string, string>>
      readonly signal: AbortSignal
    },
  ): Promise<Dispatcher.ResponseData>
  /** Cuts what still runs. */
  close(): Promise<void>
}

/** @param peer - `http://host:port` of the peer's door. */
export function createPeerClient(peer: string): PeerClient {
  const agent = new Agent({ headersTimeout: PATIENCE_MS, bodyTimeout: PATIENCE_MS })
  return {
    ask: async (path, { method = 'GET', headers = {}, signal }) => {
      try {
        return await request(`${peer}${path}`, { method, dispatcher: agent, headers, signal })
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? error.code : undefined
        throw code === 'ECONNREFUSED' ? new PeerNotRunningError(peer, error) : error
      }
    },
    close: () => agent.destroy(),
  }
}

const MAX_MESSAGE = 512
/** What could move a terminal's cursor, change its colours or turn its text round; an origin's own words may hold it. */
const CONTROL = /[\p{Cc}\p{Cf}]+/gu
/** Refusals that another try may mend: 502 is an origin that broke off, or whose content changed meanwhile. */
const TRANSIENT: ReadonlySet<number> = new Set([429, 502, 503, 504])

/**
 * What a refusal of the peer says, in one line.
 * @param credentials - what a user can do when it wants some, as an imperative or an option.
 */
export async function refusal(
  { statusCode, body, headers }: Dispatcher.ResponseData,
  credentials: string,
): Promise<GetRefusedError> {
  const text = await body.text().catch(() => '')
  const message = messageOf(text)?.replace(CONTROL, ' ') ?? `the origin answered with status ${statusCode}`
  const advice = headers['www-authenticate'] === undefined ? '' : ` (it wants credentials: ${credentials})`
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
