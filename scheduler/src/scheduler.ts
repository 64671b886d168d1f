import {
  type ControlServer,
  createControlServer,
  loadOrCreateClusterKey,
  loadOrCreateIdentity,
  loadOrCreateToken,
} from '@darter/exchange'
import {
  type Component,
  createMetrics,
  type Logger,
  type Metrics,
  startAll,
  systemClock,
  systemRandom,
} from '@darter/runtime'
import { createAdmin } from './admin.ts'
import type { SchedulerConfig } from './config.ts'
import { createSchedulerMetrics } from './metrics.ts'
import { createService, type SchedulerService } from './service.ts'

/** Where a running scheduler is reached. */
export interface SchedulerAddresses {
  /** libp2p multiaddrs that end in `/p2p/<its id>`: what peers pin. */
  readonly control: readonly string[]
  readonly admin: { readonly host: string; readonly port: number }
}

/** A scheduler as a component: start it, ask where it listens, stop it. */
export interface Scheduler extends Component {
  /** @throws {Error} before it has started. */
  addresses(): SchedulerAddresses
}

/** The composition root of a scheduler. `metrics`: the program's own; made here when left out. */
export function createScheduler(
  config: SchedulerConfig,
  deps: { readonly log: Logger; readonly metrics?: Metrics },
): Scheduler {
  const { log } = deps
  let server: ControlServer | undefined
  let admin: SchedulerAddresses['admin'] | undefined
  let stopAll: (() => Promise<readonly Error[]>) | undefined

  const addresses = (): SchedulerAddresses => {
    if (server === undefined || admin === undefined) throw new Error('the scheduler has not started')
    return { control: server.addresses(), admin }
  }

  const start = async (): Promise<void> => {
    const metrics = deps.metrics ?? createMetrics({ prefix: 'darter_', process: true })
    let running: SchedulerService | undefined
    const counts = createSchedulerMetrics(metrics, () => running)
    const refused = metrics.counter({
      name: 'scheduler_refused_total',
      help: 'Strangers that were turned away at the control port, by reason, and members that were told to come back (busy).',
      labels: ['reason'],
    })
    const control = createControlServer({
      identity: await loadOrCreateIdentity(config.identityFile),
      clusterKey: await loadOrCreateClusterKey(config.clusterKeyFile),
      ...config.listen,
      log,
      hooks: { onRefused: (_door, reason) => refused.inc({ reason }) },
    })
    const service = createService({
      server: control,
      preheatDir: config.preheatDir,
      clock: systemClock,
      random: systemRandom,
      log,
      metrics: counts,
    })
    running = service
    let ready = false
    const app = createAdmin({
      metrics,
      token: await loadOrCreateToken(config.admin.tokenFile),
      preheats: service.preheats,
      isReady: () => ready,
      status: () => ({
        peerId: control.peerId,
        addresses: control.addresses(),
        ...service.directory.status(),
      }),
    })
    const adminDoor: Component = {
      name: 'scheduler admin',
      start: async () => {
        const { host, port: wanted } = config.admin
        await app.listen({ host, port: wanted, listenTextResolver: () => '' })
        const bound = app.server.address()
        const port = bound !== null && typeof bound === 'object' ? bound.port : wanted
        admin = { host, port }
        ready = true
      },
      stop: () => app.close(),
    }
    stopAll = await startAll([service, adminDoor], {
      log,
      graceMs: config.graceMs,
      signal: new AbortController().signal,
    })
    server = control
    log.info(addresses(), 'scheduler started')
  }

  return {
    name: 'scheduler',
    start,
    stop: async () => {
      const errors = await stopAll?.()
      if (errors !== undefined && errors.length > 0) {
        throw new AggregateError(errors, 'parts of the scheduler did not stop well')
      }
    },
    addresses,
  }
}
