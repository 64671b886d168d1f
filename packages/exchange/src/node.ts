import type { KeyObject } from 'node:crypto'
import { isIP } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { yamux } from '@chainsafe/libp2p-yamux'
import type { Logger } from '@darter/runtime'
import { LIMITS } from '@darter/wire'
import type { Connection, Libp2p, MessageStream, StreamHandler } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { keepConnectionList } from './connection-list.ts'
import { leanNoise } from './encrypter.ts'
import { InvalidAddressError, ListenError, type RefusalReason } from './errors.ts'
import { createGate } from './gate.ts'
import type { ExchangeHooks } from './hooks.ts'
import type { Identity } from './identity.ts'
import { keepNoPeers } from './peer-store.ts'
import { quietLogger } from './quiet-logger.ts'
import { HANDSHAKE_MS } from './times.ts'
import { Turnstile } from './turnstile.ts'

/** How long dialling one address may take before the next one is tried, in ms. */
const ADDRESS_DIAL_MS = 3000
/** Connections that may be between TCP and Noise at the same moment: most are told to come back. */
const MAX_PENDING = 4096
/** A host that is gone without a word is noticed by the kernel, after about 15 s. */
const SOCKET = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 5000 }
/** Silence of a socket after which libp2p closes it: longer than any that heartbeats allow. */
const IDLE_MS = 2 * LIMITS.deadMs
/** How often a dial is made again because it had joined one that was given up. */
const MAX_JOINED_DIALS = 3
const READ_BUFFER_BYTES = 4 * 1024 * 1024
/** How long closing in order may take before everything is cut, in ms. */
const STOP_MS = 800

/** A libp2p node: TCP behind a gate, Noise and yamux, and nothing that talks on its own. */
export interface Node {
  readonly peerId: string
  /** Multiaddrs ending in `/p2p/<id>`, at most {@link LIMITS.addresses}. Empty before start. */
  addresses(): string[]
  /** @throws {ListenError} */
  start(): Promise<void>
  /** Resolves within about a second. */
  stop(): Promise<void>
  /** A new connection to a peer, of the caller's own. Throws when there is none within the signal's time. */
  dial(addresses: readonly Multiaddr[], signal: AbortSignal): Promise<Connection>
  /** Lets an accepted connection live; those that are not admitted within {@link HANDSHAKE_MS} are cut. */
  admit(connection: Connection): void
}

/** The options that every node takes. */
export interface NodeOptions {
  readonly identity: Identity
  /** Whoever does not know it gets no further than the {@link createGate}. */
  readonly clusterKey: KeyObject
  /** IP address that the port is bound to. */
  readonly host: string
  /** TCP port; 0: any free one. */
  readonly port: number
  /** IP addresses or host names that others are told to dial instead of those that are bound. */
  readonly announce: readonly string[]
  /** Connections at the same moment. */
  readonly maxConnections: number
  /** Handshakes of those who dial that may be under way at the same moment; any number when left out. */
  readonly handshakesAtOnce?: number
  /** Handlers by protocol. They must not throw. */
  readonly protocols: Readonly<Record<string, StreamHandler>>
  readonly log: Logger
  readonly hooks: ExchangeHooks
}

/**
 * Makes a node; it listens from {@link Node.start} on.
 * @throws {InvalidAddressError} when the host is not an IP address.
 */
export function createNode(options: NodeOptions): Node {
  const { identity, clusterKey, host, port, announce, maxConnections, protocols, log, hooks } = options
  const peerId = peerIdFromPrivateKey(identity).toString()
  const listen = `${hostPart(host, false)}/tcp/${port}`
  const pending = new Map<Connection, NodeJS.Timeout>()
  let libp2p: Libp2p | undefined

  const turnstile =
    options.handshakesAtOnce === undefined
      ? undefined
      : new Turnstile(options.handshakesAtOnce, () => performance.now())
  /** Those whose handshakes are under way, by what libp2p passes on of a connection from its beginning to its end. */
  const entered = new WeakMap<object, () => void>()
  const onEntered = (connection: MessageStream, leave: () => void) => {
    const timer = setTimeout(leave, HANDSHAKE_MS)
    const over = () => {
      clearTimeout(timer)
      leave()
    }
    entered.set(connection.timeline, over)
    connection.addEventListener('close', over)
  }
  const onRefused = (reason: RefusalReason, silent: boolean, from: string) => {
    hooks.onRefused?.('gate', reason)
    const level = silent || reason === 'busy' ? 'debug' : reason === 'left' ? 'info' : 'warn'
    const why = reason === 'busy' ? 'too many come at once' : 'no proof of the cluster key'
    log[level]({ from, reason }, `connection refused: ${why}`)
  }
  const onOpen = ({ detail: connection }: CustomEvent<Connection>) => {
    if (connection.direction === 'outbound') return
    const cut = () => connection.abort(new Error('not admitted in time'))
    pending.set(connection, setTimeout(cut, HANDSHAKE_MS))
  }
  const forget = (connection: Connection) => {
    clearTimeout(pending.get(connection))
    pending.delete(connection)
  }
  const onClose = ({ detail: connection }: CustomEvent<Connection>) => {
    forget(connection)
  }

  return {
    peerId,
    start: async () => {
      const node = await createLibp2p({
        start: false,
        privateKey: identity,
        logger: quietLogger,
        addresses: { listen: [listen] },
        transports: [
          tcp({
            listenOpts: SOCKET,
            dialOpts: SOCKET,
            inboundSocketInactivityTimeout: IDLE_MS,
            outboundSocketInactivityTimeout: IDLE_MS,
          }),
        ],
        connectionProtector: () => createGate({ clusterKey, turnstile, onEntered, onRefused }),
        connectionEncrypters: [leanNoise()],
        streamMuxers: [
          yamux({
            enableKeepAlive: false,
            maxInboundStreams: 8,
            // A window larger than the read buffer would let a paused stream overflow it, which kills the stream.
            streamOptions: {
              maxStreamWindowSize: READ_BUFFER_BYTES,
              maxReadBufferLength: READ_BUFFER_BYTES,
            },
          }),
        ],
        connectionManager: {
          maxConnections,
          inboundConnectionThreshold: maxConnections,
          maxIncomingPendingConnections: MAX_PENDING,
          inboundUpgradeTimeout: HANDSHAKE_MS,
          inboundStreamProtocolNegotiationTimeout: HANDSHAKE_MS,
          outboundStreamProtocolNegotiationTimeout: HANDSHAKE_MS,
          dialTimeout: HANDSHAKE_MS,
          addressDialTimeout: ADDRESS_DIAL_MS,
          // Addresses come from other peers: only those that say where to connect are dialled.
          resolvers: {},
        },
        connectionMonitor: { enabled: false, abortConnectionOnPingFailure: false },
      })
      keepConnectionList(node)
      keepNoPeers(node)
      node.addEventListener('connection:open', onOpen)
      node.addEventListener('connection:close', onClose)
      for (const [protocol, handler] of Object.entries(protocols)) {
        await node.handle(protocol, handler, { maxInboundStreams: 4 })
      }
      try {
        await node.start()
      } catch (error) {
        await node.stop()
        throw new ListenError('libp2p', `${host}:${port}`, error)
      }
      libp2p = node
    },
    stop: async () => {
      const node = libp2p
      if (node === undefined) return
      libp2p = undefined
      for (const connection of [...node.getConnections()]) connection.abort(new Error('stopping'))
      const limit = new AbortController()
      await Promise.race([node.stop(), wait(STOP_MS, undefined, { signal: limit.signal }).catch(() => {})])
      limit.abort()
      for (const connection of pending.keys()) forget(connection)
    },
    dial: async (addresses, signal) => {
      for (let tries = MAX_JOINED_DIALS; ; tries--) {
        signal.throwIfAborted()
        if (libp2p === undefined) throw new Error('the node is not started')
        try {
          return await libp2p.dial([...addresses], { signal, force: true })
        } catch (error) {
          // libp2p lets this dial join one to the same peer that its caller was just giving up.
          const joined = error instanceof Error && error.name === 'AbortError' && !signal.aborted
          if (!joined || tries === 0) throw error
        }
      }
    },
    admit: connection => {
      forget(connection)
      entered.get(connection.timeline)?.()
    },
    addresses: () => {
      if (libp2p === undefined) return []
      const bound = libp2p.getMultiaddrs()
      const actual = announce.length === 0 ? reachable(bound) : announced(announce, bound)
      return actual
        .slice(0, LIMITS.addresses)
        .map(address => (address.includes('/p2p/') ? address : `${address}/p2p/${peerId}`))
    },
  }
}

/** `/ip4/..`, `/ip6/..`, or for a name `/dns/..`. */
function hostPart(host: string, names: boolean): string {
  const family = isIP(host)
  if (family !== 0) return `/ip${family}/${host}`
  if (names && /^[0-9A-Za-z](?:[0-9A-Za-z.-]{0,252})$/.test(host)) return `/dns/${host}`
  throw new InvalidAddressError(host, names ? 'an IP address or a host name' : 'an IP address')
}

/** Loopback addresses are of no use to others, unless there is nothing else. */
function reachable(bound: readonly Multiaddr[]): string[] {
  const addresses = bound.map(String)
  const others = addresses.filter(address => !/^\/(?:ip4\/127\.|ip6\/::1\/)/.test(address))
  return others.length === 0 ? addresses : others
}

function announced(announce: readonly string[], bound: readonly Multiaddr[]): string[] {
  const port = bound.flatMap(address => componentsOf(address, ['tcp']))[0]
  return announce.map(host => `${hostPart(host, true)}/tcp/${port}`)
}

function componentsOf(address: Multiaddr, names: readonly string[]): string[] {
  return address
    .getComponents()
    .flatMap(({ name, value }) => (names.includes(name) && value !== undefined ? [value] : []))
}

/** The host that a connection leads to, as `node:net` takes it; undefined when the address names none. */
export function hostOf(address: Multiaddr): string | undefined {
  return componentsOf(address, ['ip4', 'ip6', 'dns', 'dns4', 'dns6'])[0]
}

/** The peer id that an address ends in; undefined for text that is no multiaddr or names no peer. */
export function peerOf(address: string): { readonly id: string; readonly address: Multiaddr } | undefined {
  try {
    const parsed = multiaddr(address)
    const id = componentsOf(parsed, ['p2p']).at(-1)
    return id === undefined ? undefined : { id, address: parsed }
  } catch {
    return undefined
  }
}

/** Those of a peer's addresses that name this very peer. */
export function addressesOf(peer: {
  readonly id: string
  readonly addresses: readonly string[]
}): Multiaddr[] {
  return peer.addresses.flatMap(text => {
    const parsed = peerOf(text)
    return parsed?.id === peer.id ? [parsed.address] : []
  })
}
