import { randomBytes } from 'node:crypto'
import { createServer, type OnReadOpts, type Socket } from 'node:net'
import {
  type ConnectionOptions,
  connect,
  createSecureContext,
  TLSSocket,
  type TLSSocketOptions,
} from 'node:tls'
import type { Logger } from '@darter/runtime'
import { LIMITS } from '@darter/wire'
import { asError, ListenError, type RefusalReason } from './errors.ts'
import type { ExchangeHooks } from './hooks.ts'
import { HANDSHAKE_MS } from './times.ts'

/** TLS 1.3 with a pre-shared key and ephemeral Diffie-Hellman (RFC 8446, section 2.2): no certificates. */
const TLS = { ciphers: 'TLS_AES_128_GCM_SHA256', minVersion: 'TLSv1.3' } as const
/** How long an offered key is good for, in ms. */
const OFFER_MS = 10_000
const MAX_OFFERS = 1024
const PSK_ID_BYTES = 16
const RECEIVE_BYTES = 64 * 1024

/** An option of `new TLSSocket` that Node has and its types lack. */
interface PskServerOptions {
  readonly pskCallback: (socket: TLSSocket, identity: string) => Uint8Array | null
}

/** A secured connection. `onData` is to be called at once; what it is given is overwritten after the call. */
export interface DataSocket {
  readonly socket: TLSSocket
  onData(handler: (bytes: Uint8Array) => void): void
}

/** A key that one peer may use once, soon. */
export interface Offer {
  readonly pskId: string
  readonly psk: Uint8Array
}

/** Where neighbours connect with a key that they were offered over a link stream. */
export interface DataPort {
  /** The port that is bound; 0 before start. */
  readonly port: number
  /** Offers that have not been used or lapsed. */
  readonly offered: number
  /** @throws {ListenError} */
  start(): Promise<void>
  /** Cuts every connection that came in here. */
  stop(): Promise<void>
  offer(peerId: string): Offer
  /** Whether a peer has an offer that it may still use. */
  hasOffer(peerId: string): boolean
}

/** A data port; `onSocket` gets every connection whose key was right, with the peer that the key was offered to. */
export function createDataPort(options: {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  readonly maxSockets: number
  readonly onSocket: (data: DataSocket, peerId: string) => void
  readonly log: Logger
  readonly hooks: ExchangeHooks
}): DataPort {
  const { host, port, onSocket, log, hooks } = options
  const offers = new Map<string, { peerId: string; psk: Uint8Array; timer: NodeJS.Timeout }>()
  const sockets = new Set<Socket>()
  const secureContext = createSecureContext(TLS)

  const drop = (pskId: string) => {
    clearTimeout(offers.get(pskId)?.timer)
    offers.delete(pskId)
  }

  const accept = (raw: Socket): void => {
    let asked: string | undefined
    let settled = false
    sockets.add(raw)
    const tls: TLSSocketOptions & PskServerOptions = {
      isServer: true,
      secureContext,
      pskCallback: (_socket, identity) => {
        asked = identity
        return offers.get(identity)?.psk ?? null
      },
    }
    const socket = new TLSSocket(raw, tls)
    const refuse = (reason: RefusalReason, detail: string) => {
      if (settled) return
      settled = true
      clearTimeout(deadline)
      socket.destroy()
      raw.destroy()
      hooks.onRefused?.('data', reason)
      log.debug({ from: raw.remoteAddress, reason, detail }, 'data connection refused')
    }
    const deadline = setTimeout(
      () => refuse('timeout', `no handshake within ${HANDSHAKE_MS} ms`),
      HANDSHAKE_MS,
    )
    const failed = (error: Error) => refuse(asked === undefined ? 'malformed' : 'unknown-key', error.message)
    raw.on('error', failed)
    socket.on('error', failed)
    raw.once('close', () => {
      sockets.delete(raw)
      refuse('left', 'closed before the handshake was over')
      socket.destroy()
    })
    socket.once('secure', () => {
      const offer = asked === undefined ? undefined : offers.get(asked)
      if (asked === undefined || offer === undefined || !socket.isSessionReused()) {
        return refuse('unknown-key', 'the key was used already, or has lapsed')
      }
      settled = true
      clearTimeout(deadline)
      drop(asked)
      onSocket({ socket, onData: handler => socket.on('data', handler) }, offer.peerId)
    })
  }
  const server = createServer({ noDelay: true }, accept)
  server.maxConnections = options.maxSockets

  return {
    get port() {
      const address = server.address()
      return address !== null && typeof address === 'object' ? address.port : 0
    },
    get offered() {
      return offers.size
    },
    start: () =>
      new Promise((resolve, reject) => {
        const onError = (error: Error) => reject(new ListenError('data links', `${host}:${port}`, error))
        server.once('error', onError)
        server.listen(port, host, () => {
          server.off('error', onError)
          server.on('error', error => log.error({ err: error }, 'data port failed'))
          resolve()
        })
      }),
    stop: () =>
      new Promise(resolve => {
        for (const pskId of Array.from(offers.keys())) drop(pskId)
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
    offer: peerId => {
      const oldest = offers.keys().next()
      if (offers.size >= MAX_OFFERS && !oldest.done) drop(oldest.value)
      const pskId = randomBytes(PSK_ID_BYTES).toString('hex')
      const psk = randomBytes(LIMITS.pskBytes)
      offers.set(pskId, { peerId, psk, timer: setTimeout(() => offers.delete(pskId), OFFER_MS) })
      return { pskId, psk }
    },
    hasOffer: peerId => offers.values().some(offer => offer.peerId === peerId),
  }
}

/**
 * Connects to a neighbour's data port. `onSecure` is called as soon as both sides have proved the key, before any byte
 * from the other side; its result is this promise's.
 */
export function openDataSocket<T>(options: {
  readonly host: string
  readonly port: number
  readonly offer: Offer
  readonly signal: AbortSignal
  readonly onSecure: (data: DataSocket) => T
}): Promise<T> {
  const { host, port, offer, signal, onSecure } = options
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    let receive: ((bytes: Uint8Array) => void) | undefined
    const onread: OnReadOpts = {
      // One buffer for the life of the socket instead of a new one for every TLS record.
      buffer: Buffer.allocUnsafeSlow(RECEIVE_BYTES),
      callback: (length, buffer) => {
        receive?.(buffer.subarray(0, length))
        return true
      },
    }
    const tls: ConnectionOptions & { onread: OnReadOpts } = {
      ...TLS,
      host,
      port,
      onread,
      // No certificate is good enough: only the key is.
      ca: [],
      rejectUnauthorized: true,
      checkServerIdentity: () => new Error('a certificate came instead of the key'),
      pskCallback: () => ({ psk: offer.psk, identity: offer.pskId }),
    }
    const socket = connect(tls).setNoDelay(true)
    const settle = () => {
      signal.removeEventListener('abort', onAbort)
      socket.off('error', onError)
      socket.off('close', onClose)
    }
    const fail = (error: unknown) => {
      settle()
      // Whatever it still has to say is about this failure.
      socket.on('error', () => {})
      socket.destroy()
      reject(error)
    }
    const onAbort = () => fail(signal.reason)
    const onError = (error: Error) => fail(error)
    const onClose = () => fail(new Error('the data connection closed during the handshake'))
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('error', onError)
    socket.on('close', onClose)
    socket.once('secureConnect', () => {
      if (!socket.isSessionReused()) return fail(new Error('the key was not used'))
      settle()
      try {
        resolve(
          onSecure({
            socket,
            onData: handler => {
              receive = handler
              socket.resume()
            },
          }),
        )
      } catch (error) {
        fail(asError(error))
      }
    })
  })
}
