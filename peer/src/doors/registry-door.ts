import type { IncomingMessage, Server } from 'node:http'
import type { Clock, EarlyPort, Logger } from '@darter/runtime'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Caller, CallerKey } from '../access/caller.ts'
import type { ForwardProxy } from '../proxy/index.ts'
import type { UpstreamHealth } from '../upstream-health.ts'
import type { Upstream, Upstreams } from '../upstreams.ts'
import { createApiRoot } from './api-root.ts'
import { answerTo, codeOf, ERROR_TYPE, errorTypeOf, type Subject } from './error-table.ts'
import { ClientGoneError, LoopDetectedError } from './errors.ts'
import { type ClientRequest, type Exchange, headerOf } from './exchange.ts'
import { answerClientError } from './client-error.ts'
import { passHost } from './pass-host.ts'
import { checkMethod, passOn } from './pass-on.ts'
import { type BlobRooms, readBlob } from './read-blob.ts'
import { type ManifestRooms, readManifest } from './read-manifest.ts'
import { readUrl, type UrlRooms } from './read-url.ts'
import { MAX_TARGET_LENGTH, type RegistryTarget } from './registry-path.ts'
import { type DoorMetrics, openRecord, type RequestRecord } from './request-record.ts'
import { HEALTH_PATH, type PortRole, type RegistryRoute, routeOf } from './route.ts'
import { createTransfers, isTransferTarget } from './transfers.ts'
import { isUrlTarget } from './url-path.ts'

/** Where a door listens. */
export interface DoorAddress {
  readonly host: string
  readonly port: number
}

/** The endpoint that container tools talk to as to a registry, and that others read URLs from. */
export interface RegistryDoor {
  /**
   * Opens a port; may be called several times. `upstream`: what a request on this port means when it does not say.
   * `forwards`: the port is a forward proxy too (false by default). `early`: it is open already, and those who wait there are
   * answered now.
   * @returns the address that is bound, with the port that the operating system chose for 0.
   */
  listen(
    options: DoorAddress & {
      readonly upstream?: Upstream | undefined
      readonly forwards?: boolean
      readonly early?: EarlyPort | undefined
    },
  ): Promise<DoorAddress>
  /** Takes no more requests, lets the running ones end, and cuts what still runs when `signal` aborts. */
  close(signal: AbortSignal): Promise<void>
}

/** What the registry door is made of. */
export interface RegistryDoorOptions extends ManifestRooms, BlobRooms, UrlRooms {
  readonly upstreams: Upstreams
  readonly proxy: ForwardProxy
  readonly health: UpstreamHealth
  readonly callerKey: CallerKey
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: DoorMetrics
  /** This peer's pseudonym in `Via`, as its origins send it: a request that bears it has been here before. */
  readonly loopMarker: string
  /** A connection on which nothing moves for this long is closed, in ms (5 minutes by default). */
  readonly idleTimeoutMs?: number
}

/** The most that the head of a request may hold, in bytes: room for the longest tokens in use. */
const MAX_HEADER_BYTES = 32 * 1024
/** How long a client may take to send the head of a request, in ms. */
const HEAD_TIMEOUT_MS = 20_000
const KEEP_ALIVE_MS = 75_000
const MAX_CONNECTIONS = 8192
const API_VERSION = { 'docker-distribution-api-version': 'registry/2.0' }

/** A {@link RegistryDoor} that listens nowhere yet. */
export function createRegistryDoor(options: RegistryDoorOptions): RegistryDoor {
  const { upstreams, proxy, clock, log, metrics, loopMarker, idleTimeoutMs = 300_000 } = options
  const root = createApiRoot(options)
  const transfers = createTransfers()
  const apps: FastifyInstance[] = []
  let closing = false

  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    record: RequestRecord,
    role: PortRole,
    onBodyWanted: (request: IncomingMessage) => void,
  ): Promise<void> => {
    const raw = request.raw
    const proxied = proxy.targetOf(raw)
    record.proxied = proxied !== undefined || raw.headers['x-dragonfly-use-p2p'] !== undefined
    const own = proxied === undefined ? (raw.url ?? '') : ''
    const gone = new AbortController()
    reply.raw.once('close', () => {
      if (!reply.raw.writableFinished) gone.abort(new ClientGoneError())
    })
    const begin: ClientRequest['begin'] = (status, headers) => {
      record.started()
      reply.hijack()
      const connection = closing ? { connection: 'close' } : {}
      return reply.raw.writeHead(status, { ...headers, ...connection })
    }
    const client: ClientRequest = { request: raw, record, signal: gone.signal, begin }
    if (own === HEALTH_PATH) {
      record.route = 'health'
      begin(closing ? 503 : 200, { 'content-type': 'text/plain', 'content-length': 3 }).end('ok\n')
    } else if (isTransferTarget(own)) {
      record.route = 'transfer'
      transfers.answer(client, own)
    } else if (isUrlTarget(own)) {
      refuseLoop(raw, 'url')
      transfers.note(client)
      await readUrl(client, own, options)
    } else {
      const onTarget = (target: RegistryTarget) => {
        record.route = target.kind
        if ('digest' in target) record.digest = target.digest
        if ('tag' in target) record.tag = target.tag
        checkMethod(record.method, target)
      }
      const route = routeOf(raw, proxied, role, { upstreams, proxy, onTarget })
      if (route.kind === 'host') {
        const { forwarder, target } = route
        record.route = 'host'
        record.upstream = forwarder.url.host
        refuseLoop(raw, forwarder.url.host)
        await passHost(client, target, forwarder, onBodyWanted)
      } else await answerRegistry(client, route, onBodyWanted)
    }
  }

  const refuseLoop = (raw: IncomingMessage, upstream: string): void => {
    if (hasBeenHere(headerOf(raw, 'via'), loopMarker)) throw new LoopDetectedError(upstream)
  }

  const answerRegistry = async (
    client: ClientRequest,
    route: RegistryRoute,
    onBodyWanted: (request: IncomingMessage) => void,
  ): Promise<void> => {
    const { request: raw, record } = client
    const { parsed, chosen } = route
    const { target } = parsed
    const { upstream, repository, form } = chosen
    record.upstream = upstream.name
    record.repository = repository
    refuseLoop(raw, upstream.name)
    const caller: Caller = {
      upstream,
      repository: repository ?? '',
      authorization: headerOf(raw, 'authorization'),
      via: headerOf(raw, 'via'),
    }
    const begin: Exchange['begin'] = (status, headers) => client.begin(status, { ...API_VERSION, ...headers })
    const exchange: Exchange = { ...client, begin, parsed, form, caller }
    const isRead = record.method === 'GET' || record.method === 'HEAD'
    if (target.kind === 'root') await root(exchange)
    else if (target.kind === 'manifest' && isRead) await readManifest(exchange, target, options)
    else if (target.kind === 'blob' && isRead) await readBlob(exchange, target, options)
    else await passOn(exchange, { ...options, onBodyWanted })
  }

  const fail = (error: unknown, reply: FastifyReply, record: RequestRecord): void => {
    if (reply.raw.headersSent) {
      record.outcome = `cut:${codeOf(error)}`
      record.error = error
      reply.raw.destroy()
      return
    }
    if (reply.raw.destroyed) return
    const { code, status, headers, body } = answerTo(error, subjectOf(record.route))
    record.outcome = code
    record.error = error
    if (code === 'INTERNAL') log.error({ err: error }, 'a request failed for a reason that has no name')
    record.started()
    reply.hijack()
    const connection = closing ? { connection: 'close' } : {}
    const response = reply.raw.writeHead(status, {
      ...API_VERSION,
      ...headers,
      ...(record.proxied && { [ERROR_TYPE]: errorTypeOf(error) }),
      'content-length': body.byteLength,
      ...connection,
    })
    if (record.method === 'HEAD') response.end()
    else response.end(body)
  }

  const createApp = (role: PortRole): FastifyInstance => {
    const unanswered = new WeakSet<IncomingMessage>()
    const handle = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
      const record = openRecord(request.method, reply.raw, { clock, log, metrics })
      reply.raw.once('close', () => {
        // Its head may have promised to keep the connection, which would hold up the end.
        if (closing) app.server.closeIdleConnections()
      })
      const onBodyWanted = (raw: IncomingMessage) => {
        if (unanswered.delete(raw)) reply.raw.writeContinue()
      }
      try {
        await answer(request, reply, record, role, onBodyWanted)
      } catch (error) {
        fail(error, reply, record)
      }
    }
    const app = Fastify({
      logger: false,
      exposeHeadRoutes: false,
      connectionTimeout: idleTimeoutMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      // A push may take as long as it makes progress: idleTimeoutMs bounds it.
      requestTimeout: 0,
      forceCloseConnections: 'idle',
      routerOptions: { maxParamLength: 2 * MAX_TARGET_LENGTH },
      http: {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: HEAD_TIMEOUT_MS,
        connectionsCheckingInterval: 5000,
      },
      frameworkErrors: (_error, request, reply) => void handle(request, reply),
      clientErrorHandler: (error, socket) => answerClientError(error, socket, log),
    })
    app.removeAllContentTypeParsers()
    // Bodies are left in the socket until somebody takes them.
    app.addContentTypeParser('*', (_request, _payload, done) => done(null))
    app.all('/*', handle)
    app.setNotFoundHandler(handle)
    app.server.maxConnections = MAX_CONNECTIONS
    app.server.on('checkContinue', (request, response) => {
      unanswered.add(request)
      app.server.emit('request', request, response)
    })
    return app
  }

  return {
    listen: async ({ host, port, upstream, forwards = false, early }) => {
      const app = createApp({ upstream, passesOn: forwards })
      if (forwards) proxy.attach(app.server)
      await app.ready()
      if (early === undefined) await app.listen({ host, port, listenTextResolver: () => '' })
      else await early.handTo(app.server)
      apps.push(app)
      return { host, port: boundPort(app.server) }
    },
    close: async signal => {
      closing = true
      const cut = () => {
        for (const app of apps) app.server.closeAllConnections()
      }
      if (signal.aborted) cut()
      else signal.addEventListener('abort', cut, { once: true })
      try {
        await Promise.all([...apps.map(app => app.close()), proxy.close(signal)])
      } finally {
        signal.removeEventListener('abort', cut)
      }
    },
  }
}

/** The port that a listening server is bound to. */
export function boundPort(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new TypeError('the server listens on no port')
  return address.port
}

/** Whether a `Via` header (RFC 9110 7.6.3) names the pseudonym as one of the hops. */
function hasBeenHere(via: string | undefined, pseudonym: string): boolean {
  return via !== undefined && via.split(',').some(hop => hop.trim().split(/\s+/)[1] === pseudonym)
}

function subjectOf(route: string): Subject {
  return route === 'manifest' || route === 'blob' ? route : 'name'
}
