import { createExchange, type Exchange, loadClusterKey, loadOrCreateIdentity } from '@darter/exchange'
import { type Logger, type Metrics, systemClock, systemRandom } from '@darter/runtime'
import { createAloneExchange } from './alone.ts'
import type { PeerConfig } from './config.ts'
import type { DownloadMetrics } from './download/metrics.ts'
import type { RateLimits } from './download/rate-limits.ts'

/** How long a start waits for the scheduler: the first pulls after it should find the swarm. */
const SCHEDULER_WAIT_MS = 700

/**
 * This peer's place in its cluster, not started yet; one without anybody else where no cluster is configured. `source` answers
 * neighbours that ask for chunks.
 */
export async function openExchange(
  config: PeerConfig,
  rates: RateLimits,
  log: Logger,
  metrics: Metrics,
  downloads: DownloadMetrics,
  source: Parameters<typeof createExchange>[0]['source'],
): Promise<Exchange> {
  const { swarm } = config
  if (swarm.clusterKeyFile === undefined || swarm.schedulers.length === 0) return createAloneExchange()
  const refused = metrics.counter({
    name: 'swarm_refused_total',
    help: 'Strangers that were turned away at the swarm ports, by door and reason.',
    labels: ['door', 'reason'],
  })
  return createExchange({
    identity: await loadOrCreateIdentity(config.identityFile),
    clusterKey: await loadClusterKey(swarm.clusterKeyFile),
    host: swarm.host,
    port: swarm.port,
    dataPort: swarm.dataPort,
    announce: swarm.announce,
    schedulers: swarm.schedulers,
    zone: swarm.zone,
    seed: swarm.seed,
    uploadThrottle: rates.upload,
    downloadThrottle: rates.fromPeers,
    source,
    clock: systemClock,
    random: systemRandom,
    log,
    hooks: {
      onRefused: (door, reason) => refused.inc({ door, reason }),
      onLinks: open => downloads.links(open),
      onBytes: (direction, bytes) => {
        if (direction === 'sent') downloads.sentToPeer(bytes)
      },
    },
  })
}

/** Opens the swarm's ports and gives the scheduler a moment to answer; without it the peer starts all the same. */
export async function startExchange(exchange: Exchange): Promise<void> {
  await exchange.start()
  const { scheduler } = exchange
  if (scheduler === undefined || scheduler.connected) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const unsubscribe = scheduler.onUp(resolve)
  const timer = setTimeout(resolve, SCHEDULER_WAIT_MS)
  await promise
  clearTimeout(timer)
  unsubscribe()
}
