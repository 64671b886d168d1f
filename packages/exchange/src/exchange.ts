import type { KeyObject } from 'node:crypto'
import {
  abortable,
  type Clock,
  createChunkBuffers,
  createSingleFlight,
  type Logger,
  type Throttle,
  withTimeout,
} from '@darter/runtime'
import { LINK_PROTOCOL, type PeerAddress } from '@darter/wire'
import type { Connection, Stream } from '@libp2p/interface'
import { admitAsDialer, admitAsListener, say } from './admission.ts'
import { createChannel } from './channel.ts'
import type { ChunkSource, Exchange, Link } from './contract.ts'
import { createDataPort, type LinkSockets, openDataSockets } from './data-port.ts'
import { AdmissionError, asError, DialError, LinkClosedError, reasonOf } from './errors.ts'
import { createEvent } from './events.ts'
import type { ExchangeHooks } from './hooks.ts'
import type { Identity } from './identity.ts'
import { createLink, type DrivenLink, type LinkTimes } from './link.ts'
import { addressesOf, createNode, hostOf } from './node.ts'
import { createSchedulerLink } from './scheduler-link.ts'
import { createPieceBuffers } from './uploads.ts'
import { HANDSHAKE_MS } from './times.ts'

/** What an {@link Exchange} is made of. */
export interface ExchangeOptions {
  readonly identity: Identity
  readonly clusterKey: KeyObject
  /** IP address that both ports are bound to. */
  readonly host: string
  /** TCP port of libp2p; 0: any free one. */
  readonly port: number
  /** TCP port of the data links; 0: any free one. Neighbours reach it at the same host as the libp2p port. */
  readonly dataPort: number
  /** IP addresses or host names that others are told to dial instead of those that are bound. */
  readonly announce?: readonly string[]
  /** The scheduler's multiaddrs, each ending in its pinned `/p2p/<id>`. None: {@link Exchange.scheduler} is undefined. */
  readonly schedulers?: readonly string[]
  /** Failure or network domain of this machine (default ''). */
  readonly zone?: string
  /** This peer offers to fetch cold blobs for the others (default false). */
  readonly seed?: boolean
  /** What neighbours' requests for chunks are answered from. */
  readonly source: ChunkSource
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  readonly hooks?: ExchangeHooks
  readonly limits?: Partial<ExchangeLimits>
  /** The limit on chunk bytes that are sent to neighbours; unlimited when left out. */
  readonly uploadThrottle?: Throttle | undefined
  /** The limit on bytes that neighbours send over links; unlimited when left out. */
  readonly downloadThrottle?: Throttle | undefined
}

/** Bounds of an {@link Exchange}. Times are in ms. */
export interface ExchangeLimits extends LinkTimes {
  /** Links at the same moment; beyond that neighbours are turned away. */
  readonly maxLinks: number
  /** How long a peer that could not be reached is not dialled again. */
  readonly redialMs: number
}

/** What {@link ExchangeOptions.limits} leaves out. */
export const EXCHANGE_DEFAULTS: ExchangeLimits = {
  maxLinks: 256,
  stallMs: 2000,
  takeMs: 10_000,
  toldMs: 120_000,
  deadMs: 10_000,
  idleMs: 60_000,
  redialMs: 2000,
}

/** Failed dials that are remembered. */
const MAX_FAILURES = 1024

/**
 * A peer's exchange.
 * @throws {InvalidAddressError} for a host, announced host or scheduler that is none.
 */
export function createExchange(options: ExchangeOptions): Exchange {
  const {
    identity,
    clusterKey,
    host,
    announce = [],
    schedulers = [],
    zone = '',
    source,
    clock,
    log,
  } = options
  const hooks = options.hooks ?? {}
  const limits = { ...EXCHANGE_DEFAULTS, ...options.limits }
  const links = new Map<string, DrivenLink>()
  const unused = new Set<DrivenLink>()
  const failures = new Map<string, { readonly until: number; readonly error: Error }>()
  const dialling = new Set<string>()
  const arrivals = new Map<string, (link: Link) => void>()
  const attempts = createSingleFlight<string, Link>()
  const linked = createEvent<[Link]>('link', log)
  const pieceBuffers = createPieceBuffers()
  const chunkBuffers = createChunkBuffers()
  const stopping = new AbortController()

  const makeLink = (sockets: LinkSockets, peerId: string, onUsed?: () => void): DrivenLink =>
    createLink({
      sockets,
      peerId,
      dialled: onUsed === undefined,
      ...(onUsed === undefined ? {} : { onUsed }),
      source,
      pieceBuffers,
      chunkBuffers,
      uploadThrottle: options.uploadThrottle,
      downloadThrottle: options.downloadThrottle,
      times: limits,
      log,
      hooks,
    })
  const register = (link: DrivenLink): void => {
    const { peerId } = link
    const former = links.get(peerId)
    links.set(peerId, link)
    failures.delete(peerId)
    link.onClose(() => {
      if (links.get(peerId) !== link) return
      links.delete(peerId)
      hooks.onLinks?.(links.size)
    })
    // A neighbour dials only when it has no link: the one that is here must have broken unseen.
    former?.close(new LinkClosedError(peerId, 'the peer connected again'))
    hooks.onLinks?.(links.size)
    linked.emit(link)
    arrivals.get(peerId)?.(link)
  }

  const dataPort = createDataPort({
    host,
    port: options.dataPort,
    maxSockets: limits.maxLinks * 4 + 64,
    onSockets: (sockets, peerId) => {
      const link = makeLink(sockets, peerId, () => {
        clearTimeout(deadline)
        unused.delete(link)
        register(link)
      })
      // Until the dialler uses it, this link may be one too many: both sides may have dialled at the same moment.
      unused.add(link)
      const deadline = setTimeout(() => link.close(), HANDSHAKE_MS)
      link.onClose(() => {
        clearTimeout(deadline)
        unused.delete(link)
      })
    },
    log,
    hooks,
  })

  /** Answers a neighbour that wants a link. */
  const serveLinkStream = async (stream: Stream, connection: Connection): Promise<void> => {
    const channel = createChannel(stream)
    const dialer = connection.remotePeer.toString()
    try {
      using deadline = withTimeout(
        stopping.signal,
        HANDSHAKE_MS,
        () => new AdmissionError('timeout', `the handshake took longer than ${HANDSHAKE_MS} ms`),
      )
      const parties = { protocol: LINK_PROTOCOL, dialer, listener: node.peerId }
      await admitAsListener(channel, parties, { clusterKey, signal: deadline.signal })
      if (links.size + unused.size + dataPort.offered >= limits.maxLinks && !links.has(dialer)) {
        hooks.onRefused?.('link', 'full')
        say(channel, { type: 'full' })
      } else if (dialling.has(dialer) && node.peerId < dialer) {
        say(channel, { type: 'yield' })
      } else {
        say(channel, { type: 'offer', port: dataPort.port, ...dataPort.offer(dialer) })
      }
      // The dialler closes the connection; one that does not is cut like any that is not admitted.
      await channel.finish(deadline.signal)
    } catch (error) {
      const reason = asError(error)
      if (reason instanceof AdmissionError) {
        hooks.onRefused?.('link', reason.reason)
        const from = connection.remoteAddr.toString()
        log.warn({ from, reason: reason.reason, detail: reason.message }, 'link stream refused')
      }
      connection.abort(reason)
    }
  }

  /** Makes a link; undefined when the other side is making one to here at this moment. */
  const dial = async (peer: PeerAddress, signal: AbortSignal): Promise<Link | undefined> => {
    const addresses = addressesOf(peer)
    if (addresses.length === 0) throw new DialError(peer.id, 'it has no address that names it')
    const connection = await node.dial(addresses, signal)
    try {
      const stream = await connection.newStream(LINK_PROTOCOL, { signal })
      const parties = { protocol: LINK_PROTOCOL, dialer: node.peerId, listener: peer.id }
      const answer = await admitAsDialer(createChannel(stream), parties, { clusterKey, signal })
      if (answer.type === 'yield') return undefined
      if (answer.type === 'full') throw new DialError(peer.id, 'it has no room for another link now')
      if (answer.type !== 'offer') throw new AdmissionError('malformed', `unexpected ${answer.type}`)
      const dataHost = hostOf(connection.remoteAddr)
      if (dataHost === undefined) throw new DialError(peer.id, 'its address names no host')
      return await openDataSockets({
        host: dataHost,
        port: answer.port,
        offer: answer,
        signal,
        onSecure: sockets => {
          const existing = links.get(peer.id)
          if (existing !== undefined) {
            sockets.messages.socket.destroy()
            sockets.bodies.socket.destroy()
            return existing
          }
          const link = makeLink(sockets, peer.id)
          register(link)
          return link
        },
      })
    } finally {
      connection.close({ signal: AbortSignal.timeout(HANDSHAKE_MS) }).catch(asError)
    }
  }

  /** One attempt at a link, by dialling or by waiting for the other side's, whichever comes first. */
  const attempt = async (peer: PeerAddress, signal: AbortSignal): Promise<Link> => {
    const arrival = Promise.withResolvers<Link>()
    arrivals.set(peer.id, arrival.resolve)
    const timeout = () => new DialError(peer.id, `no answer within ${HANDSHAKE_MS} ms`)
    using deadline = withTimeout(AbortSignal.any([signal, stopping.signal]), HANDSHAKE_MS, timeout)
    const given = new AbortController()
    try {
      if (dataPort.hasOffer(peer.id)) {
        using patience = withTimeout(deadline.signal, limits.redialMs, timeout)
        const link = await abortable(arrival.promise, patience.signal).catch(() => undefined)
        if (link !== undefined) return link
      }
      dialling.add(peer.id)
      const dialled = dial(peer, AbortSignal.any([deadline.signal, given.signal]))
      const link = await abortable(Promise.race([arrival.promise, dialled]), deadline.signal)
      return link ?? (await abortable(arrival.promise, deadline.signal))
    } catch (error) {
      if (signal.aborted) throw signal.reason
      const failure =
        error instanceof DialError ? error : new DialError(peer.id, reasonOf(error), { cause: error })
      if (failures.size >= MAX_FAILURES) failures.clear()
      failures.set(peer.id, { until: clock.now() + limits.redialMs, error: failure })
      throw failure
    } finally {
      given.abort(new LinkClosedError(peer.id, 'another one came first'))
      dialling.delete(peer.id)
      arrivals.delete(peer.id)
    }
  }

  const node = createNode({
    identity,
    clusterKey,
    log,
    hooks,
    host,
    port: options.port,
    announce,
    maxConnections: limits.maxLinks * 2 + 64,
    protocols: {
      // Not awaited: the handler must return for the stream to live. It reports what goes wrong itself.
      [LINK_PROTOCOL]: (stream, connection) => {
        void serveLinkStream(stream, connection)
      },
    },
  })
  const scheduler =
    schedulers.length === 0
      ? undefined
      : createSchedulerLink({
          node,
          clusterKey,
          addresses: schedulers,
          announce: () => ({
            addresses: node.addresses(),
            zone,
            ...(options.seed === true && { seed: true }),
          }),
          random: options.random,
          log,
        })
  let running: Promise<void> | undefined

  return {
    peerId: node.peerId,
    scheduler,
    addresses: node.addresses,
    start: async () => {
      await dataPort.start()
      try {
        await node.start()
      } catch (error) {
        await dataPort.stop()
        throw error
      }
      running = scheduler?.run(stopping.signal)
    },
    stop: async () => {
      stopping.abort(new Error('the exchange stops'))
      const open = [...links.values(), ...unused]
      for (const link of open) link.close()
      await Promise.all(open.map(link => link.ended))
      await Promise.all([running, node.stop(), dataPort.stop()])
    },
    link: async (peer, { signal }) => {
      signal.throwIfAborted()
      const open = links.get(peer.id)
      if (open !== undefined) return open
      if (stopping.signal.aborted) throw new DialError(peer.id, 'the exchange stops')
      if (peer.id === node.peerId) throw new DialError(peer.id, 'that is this peer itself')
      const failure = failures.get(peer.id)
      if (failure !== undefined) {
        if (clock.now() < failure.until) throw failure.error
        failures.delete(peer.id)
      }
      return attempts.run(peer.id, signal, attemptSignal => attempt(peer, attemptSignal))
    },
    onLink: linked.on,
  }
}
