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
import { ListenError, type RefusalReason } from './errors.ts'
import type { ExchangeHooks } from './hooks.ts'
import { HANDSHAKE_MS } from './times.ts'

/** TLS 1.3 with a pre-shared key and ephemeral Diffie-Hellman (RFC 8446, section 2.2): no certificates. */
const TLS = { ciphers: 'TLS_AES_128_GCM_SHA256', minVersion: 'TLSv1.3' } as const
/** How long an offered key is good for, in ms. */
const OFFER_MS = 10_000
const MAX_OFFERS = 1024
const PSK_ID_BYTES = 16

/** An option of `new TLSSocket` that Node has and its types lack. */
interface PskServerOptions {
  readonly pskCallback: (socket: TLSSocket, identity: string) => Uint8Array | null
}

/** A secured connection. `onData` is to be called at once; what it is given is overwritten after the call. */
export interface DataSocket {
  readonly socket: TLSSocket
  onData(handler: (bytes: Uint8Array) => void): void
}

/**
 * What a link consists of: bodies of chunks have a connection of their own, for on a slow network what is said behind one in the
 * operating system's queue would be heard a chunk's time later, and neighbours would not know what they may ask for.
 */
export interface LinkSockets {
  readonly messages: DataSocket
  readonly bodies: DataSocket
}

const ROLES = ['messages', 'bodies'] as const satisfies readonly (keyof LinkSockets)[]
type Role = (typeof ROLES)[number]
/** Read at a time where this side dialled. */
const RECEIVE_BYTES: Readonly<Record<Role, number>> = { messages: 16 * 1024, bodies: 64 * 1024 }

/** A key with which one peer may make one link, soon: each of its connections once. */
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

/** A key that was offered, and the connections that were made with it so far. */
interface OpenOffer {
  readonly peerId: string
  readonly psk: Uint8Array
  readonly sockets: Partial<Record<Role, DataSocket>>
  readonly timer: NodeJS.Timeout
}

/** The name of a key as the handshake tells it: which connection of the link it is for, too. */
const identityOf = (pskId: string, role: Role): string => `${pskId} ${role}`

function parseIdentity(identity: string): { readonly pskId: string; readonly role: Role } | undefined {
  const role = ROLES.find(name => identity.endsWith(` ${name}`))
  return role && { pskId: identity.slice(0, -role.length - 1), role }
}

/** A data port; `onSockets` gets the connections of every link whose key was right, with the peer that the key was offered to. */
export function createDataPort(options: {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  readonly maxSockets: number
  readonly onSockets: (sockets: LinkSockets, peerId: string) => void
  readonly log: Logger
  readonly hooks: ExchangeHooks
}): DataPort {
  const { host, port, onSockets, log, hooks } = options
  const offers = new Map<string, OpenOffer>()
  const sockets = new Set<Socket>()
  const secureContext = createSecureContext(TLS)

  /** The offer is over; a connection that is alone is closed. */
  const drop = (pskId: string) => {
    const offer = offers.get(pskId)
    if (offer === undefined) return
    offers.delete(pskId)
    clearTimeout(offer.timer)
    for (const role of ROLES) offer.sockets[role]?.socket.destroy()
  }
  const take = (pskId: string, role: Role, data: DataSocket): void => {
    const offer = offers.get(pskId)
    if (offer === undefined) return
    offer.sockets[role] = data
    const { messages, bodies } = offer.sockets
    if (messages === undefined || bodies === undefined) return
    offers.delete(pskId)
    clearTimeout(offer.timer)
    onSockets({ messages, bodies }, offer.peerId)
  }

  const accept = (raw: Socket): void => {
    let asked: ReturnType<typeof parseIdentity>
    /** An offer that is open for this connection. */
    const asksFor = (): OpenOffer | undefined => {
      const offer = asked && offers.get(asked.pskId)
      return asked && offer?.sockets[asked.role] === undefined ? offer : undefined
    }
    let settled = false
    sockets.add(raw)
    const tls: TLSSocketOptions & PskServerOptions = {
      isServer: true,
      secureContext,
      pskCallback: (_socket, identity) => {
        asked = parseIdentity(identity)
        return asksFor()?.psk ?? null
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
      // The other one will not come then, or be of no use.
      if (asked !== undefined && offers.get(asked.pskId)?.sockets[asked.role]?.socket === socket)
        drop(asked.pskId)
    })
    socket.once('secure', () => {
      if (asked === undefined || asksFor() === undefined || !socket.isSessionReused()) {
        return refuse('unknown-key', 'the key was used already, or has lapsed')
      }
      settled = true
      clearTimeout(deadline)
      take(asked.pskId, asked.role, { socket, onData: handler => socket.on('data', handler) })
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
      offers.set(pskId, { peerId, psk, sockets: {}, timer: setTimeout(() => drop(pskId), OFFER_MS) })
      return { pskId, psk }
    },
    hasOffer: peerId => offers.values().some(offer => offer.peerId === peerId),
  }
}

/** How a neighbour's data port is reached. */
export interface DataPortOptions {
  readonly host: string
  readonly port: number
  readonly offer: Offer
  readonly signal: AbortSignal
}

/**
 * Makes the connections of one link to a neighbour's data port. `onSecure` is called as soon as both sides have proved the key on each,
 * before any byte from the other side, which waits for the first frame; its result is this promise's.
 */
export async function openDataSockets<T>(
  options: DataPortOptions & { readonly onSecure: (sockets: LinkSockets) => T },
): Promise<T> {
  const failed = new AbortController()
  const signal = AbortSignal.any([options.signal, failed.signal])
  const opened: DataSocket[] = []
  const open = async (role: Role): Promise<DataSocket> => {
    const data = await openDataSocket({ ...options, signal }, role)
    opened.push(data)
    return data
  }
  try {
    const [messages, bodies] = await Promise.all([open('messages'), open('bodies')])
    if (messages.socket.destroyed || bodies.socket.destroyed)
      throw new Error('a data connection closed at once')
    return options.onSecure({ messages, bodies })
  } catch (error) {
    failed.abort(error)
    for (const { socket } of opened) socket.destroy()
    throw error
  }
}

/** Makes one connection of a link. */
export function openDataSocket(options: DataPortOptions, role: Role): Promise<DataSocket> {
  const { host, port, offer, signal } = options
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    let receive: ((bytes: Uint8Array) => void) | undefined
    const onread: OnReadOpts = {
      // One buffer for the life of the socket instead of a new one for every TLS record.
      buffer: Buffer.allocUnsafeSlow(RECEIVE_BYTES[role]),
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
      pskCallback: () => ({ psk: offer.psk, identity: identityOf(offer.pskId, role) }),
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
      // A link hears of it as well; before there is one, that it is closed is enough.
      socket.on('error', () => {})
      resolve({
        socket,
        onData: handler => {
          receive = handler
          socket.resume()
        },
      })
    })
  })
}
