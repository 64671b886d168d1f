import { randomBytes } from 'node:crypto'
import type { ControlServer } from '@darter/exchange'
import type { Clock, Component, Logger } from '@darter/runtime'
import type { Random } from '@darter/swarm'
import { type SchedulerMessage, withoutSecrets } from '@darter/wire'
import { type DirectoryEvents, type Outgoing, SwarmDirectory } from './directory.ts'
import type { SchedulerMetrics } from './metrics.ts'
import type { PreheatJobs } from './preheat-api.ts'
import { createPreheatJournal } from './preheat-journal.ts'
import { NoSuchPeersError, parsePreheatScope } from './preheat-request.ts'
import { PreheatBook } from './preheats.ts'

const TICK_MS = 100
/** How often what changed of preheats is written to disk, but for starts and cancellations, which are at once. */
const SAVE_MS = 1000

/** The scheduler at work: the thin edge between the control streams and the {@link SwarmDirectory}. */
export interface SchedulerService extends Component {
  readonly directory: SwarmDirectory
  readonly preheats: PreheatJobs
}

/** Joins a control server and a directory; it starts and stops the server. */
export function createService(options: {
  readonly server: ControlServer
  /** Where preheats are kept over restarts. */
  readonly preheatDir: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly metrics: SchedulerMetrics
}): SchedulerService {
  const { server, clock, log, metrics } = options
  const directory = new SwarmDirectory({ random: options.random, events: noteEvents(log, metrics) })
  const preheats = new PreheatBook({
    newId: () => randomBytes(16).toString('hex'),
    wall: () => clock.wall(),
    events: {
      onEnded: (state, ms) => metrics.preheatEnded(state, ms),
      onPeerEnded: state => metrics.preheatPeerEnded(state),
      onHeld: bytes => metrics.preheated(bytes),
    },
  })
  const journal = createPreheatJournal({
    directory: options.preheatDir,
    log,
    snapshot: id => preheats.record(id),
  })
  const senders = new Map<string, (message: SchedulerMessage) => boolean>()
  let timer: NodeJS.Timeout | undefined
  let unsubscribe: (() => void) | undefined
  let savedAt = clock.now()

  const save = (): void => {
    savedAt = clock.now()
    for (const id of preheats.takeUnsaved()) journal.save(id)
  }

  const deliver = (outgoing: readonly Outgoing[]): void => {
    for (const { to, message } of outgoing) senders.get(to)?.(message)
  }

  const left = (id: string): void => {
    preheats.left(id, clock.now())
    deliver(directory.peerLeft(id, clock.now()))
  }

  return {
    name: 'scheduler',
    directory,
    preheats: {
      start: async request => {
        const scope = parsePreheatScope(request.to)
        if (scope === undefined) throw new NoSuchPeersError(request.to)
        const { id, out } = preheats.start(request, scope, directory.members(), clock.now())
        const { target, to } = request
        log.info({ job: id, target: withoutSecrets(target), to, peers: out.length }, 'preheat started')
        save()
        deliver(out)
        await journal.saved()
        return id
      },
      cancel: async id => {
        const cancelled = preheats.cancel(id, clock.now())
        save()
        if (cancelled !== undefined) deliver(cancelled.out)
        await journal.saved()
        return cancelled !== undefined
      },
      view: (id, since) => preheats.view(id, since),
      list: () => preheats.list(),
      get running() {
        return preheats.running
      },
    },
    start: async () => {
      const kept = await journal.load()
      preheats.restore(kept, clock.now())
      if (kept.length > 0) {
        log.info(
          { jobs: kept.length, running: preheats.running },
          'preheats from before the start were taken up',
        )
      }
      unsubscribe = server.onPeer(peer => {
        const { id } = peer.address
        // A peer that comes back before its old stream was missed replaces itself.
        if (senders.has(id)) left(id)
        const send = (message: SchedulerMessage): boolean => peer.send(message)
        senders.set(id, send)
        directory.peerJoined(peer.address, peer.seed)
        log.info(
          { peer: id, zone: peer.address.zone, seed: peer.seed, peers: directory.peers },
          'peer joined',
        )
        deliver(preheats.joined(id, clock.now()))
        peer.onMessage(message => {
          if (senders.get(id) !== send) return
          const from = clock.now()
          if (message.type === 'preheat-state') preheats.told(id, message, from)
          deliver(directory.receive(id, message, from))
          metrics.message(message.type, clock.now() - from)
        })
        peer.onClose(() => {
          if (senders.get(id) !== send) return
          senders.delete(id)
          left(id)
          log.info({ peer: id, peers: directory.peers }, 'peer left')
        })
      })
      await server.start()
      timer = setInterval(() => {
        deliver(directory.tick(clock.now()))
        deliver(preheats.tick(clock.now()))
        if (clock.now() - savedAt >= SAVE_MS) save()
      }, TICK_MS)
    },
    stop: async () => {
      clearInterval(timer)
      unsubscribe?.()
      try {
        await server.stop()
      } finally {
        save()
        await journal.saved()
      }
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
