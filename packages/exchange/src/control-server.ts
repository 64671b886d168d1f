import type { KeyObject } from 'node:crypto'
import { type Logger, withTimeout } from '@darter/runtime'
import {
  type Announcement,
  CONTROL_PROTOCOL,
  LIMITS,
  type PeerAddress,
  type PeerMessage,
  type SchedulerMessage,
  peerMessages,
  schedulerMessages,
} from '@darter/wire'
import type { Connection, Stream } from '@libp2p/interface'
import { admitAsListener, say } from './admission.ts'
import { type Channel, createChannel, encodeOrLog } from './channel.ts'
import type { AdmittedPeer, ControlServer } from './contract.ts'
import { AdmissionError, asError } from './errors.ts'
import { createEvent } from './events.ts'
import { createHeartbeat } from './heartbeat.ts'
import type { ExchangeHooks } from './hooks.ts'
import type { Identity } from './identity.ts'
import { addressesOf, createNode } from './node.ts'
import { HANDSHAKE_MS } from './times.ts'

/** What a {@link ControlServer} is made of. */
export interface ControlServerOptions {
  readonly identity: Identity
  readonly clusterKey: KeyObject
  /** IP address that the control port is bound to. */
  readonly host: string
  /** TCP port; 0: any free one. */
  readonly port: number
  /** IP addresses or host names that {@link ControlServer.addresses} tells instead of those that are bound. */
  readonly announce?: readonly string[]
  /** Silence after which a peer counts as gone, in ms (default 5000). */
  readonly deadMs?: number
  /**
   * Beyond so many peers (default 250) each may be silent longer, in proportion to how many there are: signs of life must not
   * be most of what a scheduler does.
   */
  readonly peersAtFullBeat?: number
  /**
   * Handshakes that may be under way at the same moment (default 32). Those who come beyond that wait a little or are told
   * when to come back, so that a crowd at the door neither times out together nor keeps those inside waiting.
   */
  readonly handshakesAtOnce?: number
  /** Peers at the same moment (default 10 000). */
  readonly maxPeers?: number
  readonly log: Logger
  readonly hooks?: ExchangeHooks
}

/** The scheduler's door: admits peers that prove the cluster key, and carries the messages between them and the scheduler. */
export function createControlServer(options: ControlServerOptions): ControlServer {
  const {
    identity,
    clusterKey,
    host,
    port,
    announce = [],
    deadMs = 5000,
    peersAtFullBeat = 250,
    maxPeers = 10_000,
    handshakesAtOnce = 32,
    log,
    hooks = {},
  } = options
  const admitted = createEvent<[AdmittedPeer]>('peer', log)
  const peers = new Map<string, AdmittedPeer>()
  const refuse = (error: AdmissionError, connection: Connection) => {
    hooks.onRefused?.('control', error.reason)
    log.warn(
      { from: connection.remoteAddr.toString(), reason: error.reason, detail: error.message },
      'control stream refused',
    )
  }

  const serve = async (stream: Stream, connection: Connection): Promise<void> => {
    const channel = createChannel(stream)
    const id = connection.remotePeer.toString()
    let announced: Announcement | undefined
    try {
      using deadline = withTimeout(
        undefined,
        HANDSHAKE_MS,
        () => new AdmissionError('timeout', `the handshake took longer than ${HANDSHAKE_MS} ms`),
      )
      const parties = {
        protocol: CONTROL_PROTOCOL,
        dialer: id,
        listener: node.peerId,
      }
      announced = await admitAsListener(channel, parties, { clusterKey, signal: deadline.signal })
      if (peers.size >= maxPeers) throw new AdmissionError('full', `${maxPeers} peers are connected already`)
    } catch (error) {
      const reason = asError(error)
      if (reason instanceof AdmissionError) refuse(reason, connection)
      connection.abort(reason)
      return
    }
    node.admit(connection)
    channel.admit()
    peers.get(id)?.close('it connected again')
    const peer = createPeer(id, announced, channel, connection)
    peers.set(id, peer)
    peer.onClose(() => {
      if (peers.get(id) === peer) peers.delete(id)
    })
    say(channel, { type: 'welcome', deadMs: peer.deadMs })
    admitted.emit(peer)
    await peer.run()
  }

  /** How long a peer may be silent now that there are so many. */
  const fittingSilence = (): number =>
    Math.min(LIMITS.deadMs, Math.round(deadMs * Math.max(1, peers.size / peersAtFullBeat)))

  const createPeer = (
    id: string,
    announced: Announcement | undefined,
    channel: Channel,
    connection: Connection,
  ): AdmittedPeer & { run(): Promise<void> } => {
    const messages = createEvent<[PeerMessage]>('peer message', log)
    const closed = createEvent<[]>('peer closed', log)
    let open = true
    const end = (reason: Error) => {
      if (!open) return
      open = false
      heartbeat.stop()
      channel.abort(reason)
      connection.abort(reason)
      log.debug({ peer: id, reason: reason.message }, 'control stream closed')
      closed.emit()
    }
    let allowedMs = fittingSilence()
    const heartbeat = createHeartbeat({
      deadMs: allowedMs,
      progress: () => channel.received,
      beat: () => {
        // Told in place of a sign of life: no burst of messages when there are twice as many peers, or half.
        const fitting = fittingSilence()
        if (fitting < allowedMs * 2 && fitting * 2 > allowedMs) return channel.beat()
        allowedMs = fitting
        heartbeat.allow(fitting)
        send({ type: 'silence', deadMs: fitting })
      },
      dead: () => end(new Error(`nothing came for ${allowedMs} ms`)),
    })
    const send = (message: SchedulerMessage): boolean => {
      if (!open) return false
      const bytes = encodeOrLog(schedulerMessages, message, log)
      if (bytes === undefined) return false
      const sent = channel.send(bytes)
      if (!sent) end(new Error('its queue of messages is full, or its stream is closed'))
      return sent
    }
    const address: PeerAddress = {
      id,
      addresses: addressesOf({ id, addresses: announced?.addresses ?? [] }).map(String),
      zone: announced?.zone ?? '',
    }
    return {
      address,
      seed: announced?.seed === true,
      get deadMs() {
        return allowedMs
      },
      send,
      onMessage: messages.on,
      onClose: closed.on,
      close: reason => end(new Error(reason)),
      run: async () => {
        try {
          for await (const bytes of channel.messages) {
            if (bytes.length > 0) messages.emit(peerMessages.decode(bytes))
          }
          end(new Error('the peer closed the stream'))
        } catch (error) {
          if (open) log.warn({ peer: id, detail: asError(error).message }, 'control stream broke')
          end(asError(error))
        }
      },
    }
  }

  const node = createNode({
    identity,
    clusterKey,
    log,
    hooks,
    host,
    port,
    announce,
    maxConnections: maxPeers + 1000,
    handshakesAtOnce,
    protocols: {
      // Not awaited: the stream outlives its negotiation. `serve` reports what goes wrong itself.
      [CONTROL_PROTOCOL]: (stream, connection) => {
        void serve(stream, connection)
      },
    },
  })

  return {
    peerId: node.peerId,
    addresses: node.addresses,
    start: node.start,
    stop: async () => {
      for (const peer of peers.values()) peer.close('the scheduler stops')
      await node.stop()
    },
    onPeer: admitted.on,
  }
}
