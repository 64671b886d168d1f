import type { Duplex } from 'node:stream'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import { type Authority, authorityText } from './address.ts'
import type { CertificateAuthority } from './authority.ts'

/** Ends the TLS of connections that are meant for other hosts. */
export interface Interceptor {
  /** Takes a connection whose client begins TLS with `host` next. */
  take(client: Duplex, host: Authority): Promise<void>
}

const HANDSHAKE_MS = 10_000

/** An {@link Interceptor} with certificates of an authority. HTTP/1.1 is all that it offers. */
export function createInterceptor(options: {
  readonly authority: CertificateAuthority
  /** Gets what is inside a connection once the handshake is done. */
  readonly onSecure: (socket: TLSSocket, host: Authority) => void
  /** Told of handshakes that failed or took too long, as when a client does not trust the authority. */
  readonly onFailure: (host: Authority, error: Error) => void
}): Interceptor {
  const { authority, onSecure, onFailure } = options
  /** One for each host; they listen nowhere. */
  const servers = new Map<string, { readonly server: Server; readonly cert: string }>()

  return {
    take: async (client, host) => {
      const leaf = await authority.leafFor(host.host)
      let known = servers.get(authorityText(host))
      if (known?.cert !== leaf.cert) {
        const server = createServer({
          ...leaf,
          ALPNProtocols: ['http/1.1'],
          minVersion: 'TLSv1.2',
          handshakeTimeout: HANDSHAKE_MS,
        })
        server.on('secureConnection', socket => onSecure(socket, host))
        server.on('tlsClientError', (error, socket) => {
          onFailure(host, error)
          socket.destroy()
        })
        known = { server, cert: leaf.cert }
        servers.set(authorityText(host), known)
      }
      known.server.emit('connection', client)
    },
  }
}
