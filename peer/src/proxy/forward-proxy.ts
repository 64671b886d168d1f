import { type IncomingMessage, type Server, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { createOutwardLookup } from '@darter/origin'
import type { Clock, Logger } from '@darter/runtime'
import { answerTo, codeOf, ERROR_TYPE } from '../doors/error-table.ts'
import { TargetInvalidError } from '../doors/errors.ts'
import { shownTarget } from '../shown-target.ts'
import { type Authority, authorityText, parseAbsoluteForm, parseAuthority } from './address.ts'
import type { CertificateAuthority } from './authority.ts'
import { HostNotAllowedError } from './errors.ts'
import type { ProxyHost, ProxyHosts } from './hosts.ts'
import { createInterceptor, type Interceptor } from './interceptor.ts'
import type { ProxyMetrics } from './metrics.ts'
import { createTunnels } from './tunnels.ts'

/** What a request asks of another host than the door itself. */
export interface ProxiedTarget {
  readonly authority: Authority
  /** Path and query; begins with a slash. */
  readonly target: string
}

/** Lets a port of the door work as a forward HTTP proxy, for allowed hosts alone. */
export interface ForwardProxy {
  /**
   * What a request asks of another host: absolute-form, or anything inside an intercepted connection; undefined when it
   * is for the door itself.
   * @throws {TargetInvalidError} when the host is malformed.
   */
  targetOf(request: IncomingMessage): ProxiedTarget | undefined
  /** @throws {HostNotAllowedError} when it is not on the list. */
  hostOf(authority: Authority): ProxyHost
  /** Answers CONNECT at a server: by a tunnel, or by ending the TLS and handing what is inside to that server. */
  attach(server: Server): void
  /** Lets tunnels end, and cuts what still runs when `signal` aborts. */
  close(signal: AbortSignal): Promise<void>
}

const CONNECT_TIMEOUT_MS = 5000

export function createForwardProxy(options: {
  readonly hosts: ProxyHosts
  /** Undefined: nothing is intercepted. */
  readonly authority: CertificateAuthority | undefined
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: ProxyMetrics
  /** A tunnel on which nothing moves for this long is closed, in ms. */
  readonly idleTimeoutMs?: number
}): ForwardProxy {
  const { hosts, authority, clock, log, metrics, idleTimeoutMs = 300_000 } = options
  /** Which host a connection's client believes to talk to. */
  const inside = new WeakMap<Duplex, Authority>()
  const tunnels = createTunnels({
    lookup: createOutwardLookup(),
    clock,
    log,
    metrics,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    idleTimeoutMs,
  })

  const hostOf = (asked: Authority): ProxyHost => {
    const host = hosts.find(asked)
    if (host === undefined) throw new HostNotAllowedError(authorityText(asked))
    return host
  }

  const connect = async (
    request: IncomingMessage,
    client: Duplex,
    head: Buffer,
    interceptor: Interceptor | undefined,
  ): Promise<void> => {
    const text = request.url ?? ''
    const asked = parseAuthority(text, undefined)
    if (asked === undefined) throw new TargetInvalidError(text, 'is not a host and a port')
    const host = hostOf(asked)
    const accept = () => client.write('HTTP/1.1 200 Connection Established\r\n\r\n')
    if (host.intercepted && interceptor !== undefined) {
      metrics.connects.inc({ outcome: 'intercepted' })
      accept()
      if (head.byteLength > 0) client.unshift(head)
      await interceptor.take(client, asked)
      return
    }
    if (host.tunnelPort !== asked.port) throw new HostNotAllowedError(authorityText(asked))
    await tunnels.open(client, head, asked, accept)
    metrics.connects.inc({ outcome: 'tunnelled' })
  }

  return {
    targetOf: request => {
      const url = request.url ?? ''
      const within = inside.get(request.socket)
      if (within !== undefined && url.startsWith('/')) return { authority: within, target: url }
      return parseAbsoluteForm(url)
    },
    hostOf,
    attach: server => {
      const interceptor =
        authority &&
        createInterceptor({
          authority,
          onSecure: (socket, host) => {
            inside.set(socket, host)
            server.emit('connection', socket)
          },
          onFailure: (host, error) =>
            log.warn({ host: authorityText(host), err: error }, 'TLS with a client of the proxy failed'),
        })
      server.on('connect', (request, client, head) => {
        client.on('error', () => client.destroy())
        connect(request, client, head, interceptor).catch((error: unknown) => {
          const code = codeOf(error)
          const refused = error instanceof HostNotAllowedError || error instanceof TargetInvalidError
          metrics.connects.inc({ outcome: refused ? 'refused' : 'failed' })
          log.info(
            { host: shownTarget(request.url ?? '').slice(0, 96), code, err: error },
            'CONNECT came to nothing',
          )
          refuse(client, error)
        })
      })
    },
    close: signal => tunnels.close(signal),
  }
}

/** Tells the client of a CONNECT why there is no tunnel, and closes the connection. */
function refuse(client: Duplex, error: unknown): void {
  if (!client.writable) {
    client.destroy()
    return
  }
  const { status, body } = answerTo(error, 'name')
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}`,
    'Connection: close',
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${body.byteLength}`,
    `${ERROR_TYPE}: proxy`,
  ]
  client.end(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body]), () => client.destroy())
}
