import { type Challenge, parseChallenges, quoted } from '@darter/oci'
import { type Clock, createSingleFlight } from '@darter/runtime'
import { LRUCache } from 'lru-cache'
import { collect } from './body.ts'
import { basicAuthorization, type Credentials, type CredentialSource } from './credentials.ts'
import {
  OriginCredentialsError,
  OriginProtocolError,
  OriginRedirectError,
  OriginStatusError,
} from './errors.ts'
import { refused, type Transport } from './transport.ts'

/** Where warnings go. */
export interface WarningLog {
  warn(fields: object, message: string): void
}

export interface AuthenticatorOptions {
  readonly name: string
  readonly upstream: URL
  readonly source: CredentialSource
  readonly transport: Transport
  readonly clock: Clock
  readonly log?: WarningLog | undefined
}

/** Turns configured credentials into `Authorization` headers, by the Basic and Bearer schemes of registries. */
export interface Authenticator {
  /** The header for a scope as far as it can be made from what an earlier challenge told; else undefined. */
  prepare(scope: string, signal: AbortSignal): Promise<string | undefined>
  /**
   * The header that answers a 401's `WWW-Authenticate`; undefined when there are no credentials, they do not fit or
   * are refused: then the 401 stands.
   * @param rejected - the header that the 401 came for.
   */
  answer(
    challenge: string,
    scope: string,
    rejected: string | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined>
}

interface BearerChallenge {
  readonly realm: string
  readonly service: string | undefined
  readonly scope: string
}

const MAX_TOKENS = 1000
const MAX_TOKEN_ANSWER_BYTES = 64 * 1024
/** How long found credentials are used before the source is asked again, in ms. */
const CREDENTIALS_TTL_MS = 60_000
/** What a token lives for when its server does not say (distribution's token specification), in ms. */
const DEFAULT_TOKEN_TTL_MS = 60_000
/** A token is not used in the last moments of its life, which may be over when it arrives; ms. */
const TOKEN_MARGIN_MS = 5000
const CLIENT_ID = 'darter'

export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { name, upstream, source, transport, clock, log } = options
  const perf = { now: () => clock.now() }
  const tokens = new LRUCache<string, string>({
    max: MAX_TOKENS,
    ttl: DEFAULT_TOKEN_TTL_MS,
    ttlResolution: 0,
    perf,
  })
  const challenges = new LRUCache<string, BearerChallenge>({ max: MAX_TOKENS })
  const tokenFlights = createSingleFlight<string, string>()
  const credentialFlights = createSingleFlight<'', Credentials | undefined>()
  let known: { readonly credentials: Credentials | undefined; readonly until: number } | undefined
  let scheme:
    | { readonly kind: 'basic' }
    | ({ readonly kind: 'bearer' } & Omit<BearerChallenge, 'scope'>)
    | undefined

  const findCredentials = (signal: AbortSignal): Promise<Credentials | undefined> =>
    credentialFlights.run('', signal, async shared => {
      if (!known || known.until <= clock.now()) {
        known = { credentials: await source(shared), until: clock.now() + CREDENTIALS_TTL_MS }
      }
      return known.credentials
    })

  const basic = async (signal: AbortSignal): Promise<string | undefined> => {
    const credentials = await findCredentials(signal)
    return credentials?.kind === 'password'
      ? basicAuthorization(credentials.username, credentials.password)
      : undefined
  }

  const bearer = async (asked: BearerChallenge, signal: AbortSignal): Promise<string | undefined> => {
    const credentials = await findCredentials(signal)
    if (!credentials) return undefined
    const key = JSON.stringify([asked.realm, asked.service, asked.scope])
    const cached = tokens.get(key)
    if (cached !== undefined) return `Bearer ${cached}`
    const token = await tokenFlights.run(key, signal, async shared => {
      const fetched = await fetchToken(asked, credentials, shared)
      tokens.set(key, fetched.token, { ttl: fetched.ttlMs })
      return fetched.token
    })
    return `Bearer ${token}`
  }

  const fetchToken = async (
    asked: BearerChallenge,
    credentials: Credentials,
    signal: AbortSignal,
  ): Promise<{ token: string; ttlMs: number }> => {
    const url = tokenServer(asked.realm)
    const query = new URLSearchParams()
    if (asked.service !== undefined) query.set('service', asked.service)
    for (const scope of asked.scope.split(' ').filter(Boolean)) query.append('scope', scope)
    const headers: Record<string, string> = { accept: 'application/json', 'accept-encoding': 'identity' }
    let body: string | undefined
    if (credentials.kind === 'identityToken') {
      query.set('scope', asked.scope)
      query.set('grant_type', 'refresh_token')
      query.set('client_id', CLIENT_ID)
      query.set('refresh_token', credentials.token)
      body = query.toString()
      headers['content-type'] = 'application/x-www-form-urlencoded'
    } else {
      if (credentials.kind === 'password') {
        headers['authorization'] = basicAuthorization(credentials.username, credentials.password)
        query.set('account', credentials.username)
      }
      for (const [key, value] of query) url.searchParams.append(key, value)
    }
    const method = body === undefined ? 'GET' : 'POST'
    const answer = await transport.send({ method, url, kind: 'token', headers, body, signal })
    if (answer.status !== 200) throw await refused(answer)
    return readToken(await collect(answer.watch(), MAX_TOKEN_ANSWER_BYTES), answer.subject)
  }

  const tokenServer = (realm: string): URL => {
    const url = URL.canParse(realm) ? new URL(realm) : undefined
    const allowed = url?.protocol === 'https:' || (url?.protocol === 'http:' && upstream.protocol === 'http:')
    if (!url || !allowed) {
      throw new OriginCredentialsError(
        `${name} names ${quoted(realm)} as its token server; credentials are sent over https only`,
      )
    }
    return url
  }

  /** Failing credentials must not hide the upstream's own 401, nor pass unseen. */
  const orWarn = async (
    work: () => Promise<string | undefined>,
    signal: AbortSignal,
  ): Promise<string | undefined> => {
    try {
      return await work()
    } catch (error) {
      if (signal.aborted || !isRefusal(error)) throw error
      // That a token server gives nothing to everybody is no fault of the configuration.
      if (known?.credentials?.kind === 'anonymous') return undefined
      log?.warn({ upstream: name, reason: error.message }, 'configured credentials could not be used')
      return undefined
    }
  }

  return {
    prepare: async (scope, signal) => {
      const remembered = scheme
      if (remembered === undefined) return undefined
      if (remembered.kind === 'basic') return orWarn(() => basic(signal), signal)
      const asked = challenges.get(scope) ?? { ...remembered, scope }
      return orWarn(() => bearer(asked, signal), signal)
    },
    answer: async (header, scope, rejected, signal) => {
      const offered = parseChallenges(header)
      const asked = offered.map(challenge => readBearer(challenge, scope)).find(found => found !== undefined)
      if (asked) {
        const key = JSON.stringify([asked.realm, asked.service, asked.scope])
        const current = tokens.get(key)
        if (current !== undefined && rejected === `Bearer ${current}`) tokens.delete(key)
        const authorization = await orWarn(() => bearer(asked, signal), signal)
        if (authorization !== undefined) {
          scheme = { kind: 'bearer', realm: asked.realm, service: asked.service }
          challenges.set(scope, asked)
        }
        return authorization === rejected ? undefined : authorization
      }
      if (!offered.some(challenge => challenge.scheme === 'basic')) return undefined
      const authorization = await orWarn(() => basic(signal), signal)
      if (authorization !== undefined) scheme = { kind: 'basic' }
      if (authorization !== rejected) return authorization
      known = undefined
      return undefined
    },
  }
}

/** The credentials do not work, as opposed to: a server that is away. */
function isRefusal(error: unknown): error is Error {
  return (
    error instanceof OriginCredentialsError ||
    error instanceof OriginProtocolError ||
    error instanceof OriginRedirectError ||
    (error instanceof OriginStatusError && error.status < 500 && error.status !== 429)
  )
}

function readBearer(challenge: Challenge, scope: string): BearerChallenge | undefined {
  const realm = challenge.params.get('realm')
  if (challenge.scheme !== 'bearer' || realm === undefined) return undefined
  return {
    realm,
    service: challenge.params.get('service'),
    scope: challenge.params.get('scope') || scope,
  }
}

function readToken(bytes: Uint8Array | undefined, subject: string): { token: string; ttlMs: number } {
  let parsed: unknown
  try {
    parsed = bytes && JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    // Falls through: the answer may hold a token, so that the parser's message is not passed on.
  }
  const answer = typeof parsed === 'object' && parsed !== null ? parsed : {}
  const plain = 'token' in answer ? answer.token : undefined
  const oauth = 'access_token' in answer ? answer.access_token : undefined
  const token = plain || oauth
  // The token68 characters of RFC 6750 2.1: anything else cannot stand in a header.
  if (typeof token !== 'string' || !/^[A-Za-z0-9._~+/-]+=*$/.test(token)) {
    throw new OriginProtocolError(`${subject} was answered without a token`)
  }
  const seconds = 'expires_in' in answer ? answer.expires_in : undefined
  const lifeMs = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : DEFAULT_TOKEN_TTL_MS
  return { token, ttlMs: Math.max(1, Math.ceil(lifeMs - Math.min(TOKEN_MARGIN_MS, lifeMs / 2))) }
}
