import type { ControlServer } from '@darter/exchange'
import type { Clock, Component, Logger } from '@darter/runtime'
import type { Random } from '@darter/swarm'
import type { SchedulerMessage } from '@darter/wire'
import { type DirectoryEvents, type Outgoing, SwarmDirectory } from './directory.ts'
import type { SchedulerMetrics } from './metrics.ts'

const TICK_MS = 100

/** The scheduler at work: the thin edge between the control streams and the {@link SwarmDirectory}. */
export interface SchedulerService extends Component {
  readonly directory: SwarmDirectory
}

/** Joins a control server and a directory; it starts and stops the server. */
export function createService(options: {
  readonly server: ControlServer
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly metrics: SchedulerMetrics
}): SchedulerService {
  const { server, clock, log, metrics } = options
  const directory = new SwarmDirectory({ random: options.random, events: noteEvents(log, metrics) })
  const senders = new Map<string, (message: SchedulerMessage) => boolean>()
  let timer: NodeJS.Timeout | undefined
  let unsubscribe: (() => void) | undefined

  const deliver = (outgoing: readonly Outgoing[]): void => {
    for (const { to, message } of outgoing) senders.get(to)?.(message)
  }

  return {
    name: 'scheduler',
    directory,
    start: async () => {
      unsubscribe = server.onPeer(peer => {
        const { id } = peer.address
        // A peer that comes back before its old stream was missed replaces itself.
        if (senders.has(id)) deliver(directory.peerLeft(id, clock.now()))
        const send = (message: SchedulerMessage): boolean => peer.send(message)
        senders.set(id, send)
        directory.peerJoined(peer.address, peer.seed)
        log.info(
          { peer: id, zone: peer.address.zone, seed: peer.seed, peers: directory.peers },
          'peer joined',
        )
        peer.onMessage(message => {
          if (senders.get(id) !== send) return
          const from = clock.now()
          deliver(directory.receive(id, message, from))
          metrics.message(message.type, clock.now() - from)
        })
        peer.onClose(() => {
          if (senders.get(id) !== send) return
          senders.delete(id)
          deliver(directory.peerLeft(id, clock.now()))
          log.info({ peer: id, peers: directory.peers }, 'peer left')
        })
      })
      await server.start()
      timer = setInterval(() => deliver(directory.tick(clock.now())), TICK_MS)
    },
    stop: async () => {
      clearInterval(timer)
      unsubscribe?.()
      await server.stop()
    },
  }
}

function noteEvents(log: Logger, metrics: SchedulerMetrics): DirectoryEvents {
  return {
    onBlame: (accused, accuser, blob, deed) => {
      metrics.blamed(deed)
      log.warn({ peer: accused, accuser, blob, deed }, 'a peer was blamed')
    },
    onLease: (blob, peer, chunks) => {
      metrics.leased()
      log.debug({ blob, peer, chunks }, 'leased')
    },
    onLeaseLapsed: (blob, peer) => {
      metrics.lapsed()
      log.info({ blob, peer }, 'a lease made no progress and lapsed')
    },
    onSeedAsked: (blob, seed) => {
      metrics.seedAsked()
      log.debug({ blob, seed }, 'a seed was asked to fetch a blob')
    },
    onSeedDeclined: (blob, seed, reason) => {
      metrics.seedDeclined(reason)
      log.info({ blob, seed, reason }, 'a seed does not fetch a blob; the others read it')
    },
    onContradiction: (blob, peer) =>
      log.warn({ blob, peer }, 'chunk lists contradict each other: none is believed'),
    onRefused: (peer, type, why) => log.warn({ peer, type, why }, 'a message was refused'),
  }
}
