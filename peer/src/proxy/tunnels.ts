import { connect, type LookupFunction, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { OriginAddressError } from '@darter/origin'
import type { Clock, Logger } from '@darter/runtime'
import { ClientGoneError } from '../doors/errors.ts'
import { type Authority, authorityText } from './address.ts'
import { TunnelFailedError, TunnelsBusyError } from './errors.ts'
import type { ProxyMetrics } from './metrics.ts'

/** Connections that are passed through as they are. */
export interface Tunnels {
  /**
   * Connects to the other end. When this resolves, the tunnel's bytes flow.
   * @param head - what the client has sent already.
   * @param accept - tells the client that the tunnel is open; called before any byte flows.
   * @throws {TunnelsBusyError} {@link TunnelFailedError} {@link OriginAddressError}
   * @throws {ClientGoneError} when the client went away before that.
   */
  open(client: Duplex, head: Buffer, to: Authority, accept: () => void): Promise<void>
  /**
   * Opens no more of them, those that are being dialled included; lets tunnels end on which nothing moves for a second, and cuts
   * the others when `signal` aborts.
   */
  close(signal: AbortSignal): Promise<void>
}

const CLOSING_IDLE_MS = 1000

const stopping = (name: string) => new TunnelFailedError(name, 'this peer is stopping')

export function createTunnels(options: {
  /** How names are resolved; fails for those that must not be reached. */
  readonly lookup: LookupFunction
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: ProxyMetrics
  readonly connectTimeoutMs: number
  /** A tunnel on which nothing moves for this long is closed. */
  readonly idleTimeoutMs: number
  /** Tunnels at the same moment. */
  readonly maxTunnels?: number
}): Tunnels {
  const { lookup, clock, log, metrics, connectTimeoutMs, idleTimeoutMs, maxTunnels = 512 } = options
  const open = new Map<Socket, Promise<void>>()
  /** What gives up each connection that is being made. */
  const dialling = new Set<() => void>()
  let closing = false

  const dial = ({ host, port }: Authority): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const name = authorityText({ host, port })
      const socket = connect({ host: host.replace(/^\[|\]$/g, ''), port, lookup, allowHalfOpen: true })
      const giveUp = () => fail(stopping(name))
      dialling.add(giveUp)
      const fail = (error: Error) => {
        clearTimeout(timer)
        dialling.delete(giveUp)
        socket.destroy()
        reject(error)
      }
      const timer = setTimeout(
        () => fail(new TunnelFailedError(name, `no connection within ${connectTimeoutMs} ms`)),
        connectTimeoutMs,
      )
      const onError = (error: NodeJS.ErrnoException) =>
        fail(
          error instanceof OriginAddressError
            ? error
            : new TunnelFailedError(name, error.code ?? error.message, { cause: error }),
        )
      socket.once('error', onError)
      socket.once('connect', () => {
        clearTimeout(timer)
        dialling.delete(giveUp)
        socket.removeListener('error', onError)
        resolve(socket)
      })
    })

  const join = (client: Duplex, server: Socket, name: string): Promise<void> => {
    const begun = clock.now()
    return new Promise(resolve => {
      const end = () => {
        client.destroy()
        server.destroy()
      }
      client.on('error', end)
      server.on('error', end)
      client.once('close', end)
      server.setTimeout(closing ? CLOSING_IDLE_MS : idleTimeoutMs, end)
      server.once('close', () => {
        end()
        const [sent, received] = [server.bytesWritten, server.bytesRead]
        metrics.tunnels.dec()
        metrics.tunnelBytes.inc({ direction: 'sent' }, sent)
        metrics.tunnelBytes.inc({ direction: 'received' }, received)
        log.info({ host: name, sent, received, ms: Math.round(clock.now() - begun) }, 'tunnel')
        resolve()
      })
      client.pipe(server)
      server.pipe(client)
    })
  }

  return {
    open: async (client, head, to, accept) => {
      const name = authorityText(to)
      if (closing) throw stopping(name)
      if (open.size + dialling.size >= maxTunnels) throw new TunnelsBusyError(maxTunnels)
      const server = await dial(to)
      if (closing || client.destroyed) {
        server.destroy()
        throw closing ? stopping(name) : new ClientGoneError()
      }
      accept()
      if (head.byteLength > 0) server.write(head)
      metrics.tunnels.inc()
      const ended = join(client, server, name).finally(() => open.delete(server))
      open.set(server, ended)
    },
    close: async signal => {
      closing = true
      for (const giveUp of dialling) giveUp()
      const cut = () => {
        for (const socket of open.keys()) socket.destroy()
      }
      for (const socket of open.keys()) socket.setTimeout(CLOSING_IDLE_MS)
      if (signal.aborted) cut()
      else signal.addEventListener('abort', cut, { once: true })
      await Promise.all(open.values())
      signal.removeEventListener('abort', cut)
    },
  }
}
