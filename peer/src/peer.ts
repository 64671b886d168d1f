import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import {
  type Component,
  createMetrics,
  type EarlyPort,
  type Logger,
  type Metrics,
  startAll,
  systemClock,
  systemRandom,
} from '@darter/runtime'
import { createAccess } from './access/access.ts'
import { createAdmission } from './access/admission.ts'
import { createCallerKey } from './access/caller.ts'
import { openExchange, startExchange } from './cluster.ts'
import type { PeerConfig } from './config.ts'
import { createScrubber, openStore } from './disk.ts'
import {
  type AdminDoor,
  createAdminDoor,
  createDoorMetrics,
  createRegistryDoor,
  type DoorAddress,
} from './doors/index.ts'
import { createFacts } from './download/facts.ts'
import { LayerHints } from './download/layer-hints.ts'
import { createDownloadMetrics } from './download/metrics.ts'
import { openPartStore } from './download/part-store.ts'
import { createRateLimits } from './download/rate-limits.ts'
import { createReads, type Reads } from './download/reads.ts'
import { openOrigins, openProxyHosts } from './origins.ts'
import {
  createForwardProxy,
  createProxyMetrics,
  type ForwardProxy,
  loadOrCreateAuthority,
  type ProxyHosts,
} from './proxy/index.ts'
import { createPreheats } from './preheat/preheats.ts'
import { createSeedRole } from './seed.ts'
import { createHintRecall, createManifests, createTags, openCatalog } from './tags/index.ts'
import { createUpstreamHealth } from './upstream-health.ts'
import { createUrls } from './urls/urls.ts'

/** Where a running peer is reached. */
export interface PeerAddresses {
  readonly door: DoorAddress
  /** The ports of single upstreams, in the order of the configuration. */
  readonly upstreamDoors: readonly (DoorAddress & { readonly upstream: string })[]
  /** The forward proxy; undefined where there is none. */
  readonly proxy: DoorAddress | undefined
  readonly admin: DoorAddress
  /** libp2p multiaddrs; empty for a peer without a scheduler. */
  readonly swarm: readonly string[]
}

/** What a peer says of itself to operators. */
export interface PeerStatus {
  readonly peerId: string
  readonly addresses: PeerAddresses
  readonly scheduler: 'connected' | 'not connected' | 'none configured'
  readonly upstreams: readonly { readonly name: string; readonly origin: string }[]
  readonly store: { readonly bytes: number; readonly quotaBytes: number; readonly blobs: number }
  readonly downloads: number
  /** Blob bytes that arrived since the start. */
  readonly received: { readonly fromPeers: number; readonly fromOrigin: number }
}

/** A peer as a component: start it, ask where it listens, stop it. */
export interface Peer extends Component {
  /** @throws {Error} before it has started. */
  addresses(): PeerAddresses
  status(): PeerStatus
}

/**
 * The composition root of a peer: everything that it is made of, in the order in which it starts.
 * `metrics`: the program's own; made here when left out. `early`: the door's port, where it is open already.
 */
export function createPeer(
  config: PeerConfig,
  deps: { readonly log: Logger; readonly metrics?: Metrics; readonly early?: EarlyPort | undefined },
): Peer {
  const { log } = deps
  let stopAll: (() => Promise<readonly Error[]>) | undefined
  let running: { readonly addresses: () => PeerAddresses; readonly status: () => PeerStatus } | undefined
  const must = (): NonNullable<typeof running> => {
    if (running === undefined) throw new Error('the peer has not started')
    return running
  }

  const start = async (): Promise<void> => {
    const clock = systemClock
    const random = systemRandom
    const metrics = deps.metrics ?? createMetrics({ prefix: 'darter_', process: true })
    const loopMarker = `darter-${randomBytes(8).toString('hex')}`
    const rates = createRateLimits(config.transfers, clock, metrics)
    const throttle = rates.fromOrigins
    const { upstreams, sites, site } = await openOrigins({ config, loopMarker, log, metrics, throttle })
    const hosts = await openProxyHosts({ config, upstreams, site })
    const proxy = await openForwardProxy(config, hosts, log, metrics)
    const downloadMetrics = createDownloadMetrics(metrics)

    let reads: Reads | undefined
    const exchange = await openExchange(config, rates, log, metrics, downloadMetrics, (...request) =>
      reads === undefined ? Promise.resolve('busy' as const) : reads.neighbourhood.serve(...request),
    )
    const store = await openStore(config.store, log, metrics)
    const facts = createFacts({ scheduler: exchange.scheduler, share: config.tags.shareResolutions })
    const hints = new LayerHints()
    reads = createReads({
      store,
      exchange,
      facts,
      clock,
      random,
      log,
      metrics: downloadMetrics,
      rates,
      prefetch: config.prefetch,
      hints,
      parts: await openPartStore(config.store.dir, store.usage().quotaBytes, log),
      zone: config.swarm.zone,
    })

    const urls = createUrls({
      sites,
      facts,
      clock,
      ignoredQuery: config.urls.ignoredQuery,
      accessTtlMs: config.access.ttlMs,
    })
    const { scheduler } = exchange
    const seedRole =
      config.swarm.seed && scheduler !== undefined
        ? [createSeedRole({ scheduler, upstreams, urls, reads, clock, log, metrics })]
        : []
    const catalog = await openCatalog({ file: join(config.store.dir, 'catalog.jsonl'), clock, log })
    const health = createUpstreamHealth({ clock })
    const callerKey = createCallerKey()
    const accessTtlMs = config.access.ttlMs
    const access = createAccess({ catalog, facts, health, callerKey, clock, log, ttlMs: accessTtlMs })
    const manifests = createManifests({ reads, catalog, facts, hints, clock, log, accessTtlMs })
    const { ttlMs, shareResolutions: share } = config.tags
    const tags = createTags({
      catalog,
      access,
      facts,
      health,
      callerKey,
      clock,
      log,
      ttlMs,
      share,
      accessTtlMs,
    })
    const admission = createAdmission({ clock, ttlMs: accessTtlMs })
    const rooms = { upstreams, admission, access, catalog, tags, manifests, urls, reads }
    const preheats = scheduler === undefined ? [] : [createPreheats({ scheduler, rooms, log })]
    const door = createRegistryDoor({
      ...rooms,
      proxy,
      health,
      callerKey,
      clock,
      log,
      metrics: createDoorMetrics(metrics),
      loopMarker,
    })

    const bound: {
      door?: DoorAddress
      proxy?: DoorAddress
      admin?: DoorAddress
      upstreamDoors: PeerAddresses['upstreamDoors']
    } = { upstreamDoors: [] }
    let doorState: 'starting' | 'open' | 'closing' = 'starting'
    const addresses = (): PeerAddresses => ({
      door: bound.door ?? config.door,
      admin: bound.admin ?? config.admin,
      upstreamDoors: bound.upstreamDoors,
      proxy: bound.proxy,
      swarm: exchange.addresses(),
    })
    const schedulerState = (): PeerStatus['scheduler'] => {
      if (exchange.scheduler === undefined) return 'none configured'
      return exchange.scheduler.connected ? 'connected' : 'not connected'
    }
    const status = (): PeerStatus => ({
      peerId: exchange.peerId,
      addresses: addresses(),
      scheduler: schedulerState(),
      upstreams: [
        ...upstreams.names().flatMap(name => {
          const origin = upstreams.find(name)?.origin
          return origin === undefined ? [] : [{ name, origin: origin.description }]
        }),
        ...config.upstreams.flatMap(upstream =>
          upstream.kind === 's3'
            ? [{ name: upstream.name, origin: `bucket ${upstream.bucket} at ${upstream.endpoint}` }]
            : [],
        ),
      ],
      store: store.usage(),
      downloads: reads.active,
      received: downloadMetrics.received(),
    })
    const admin: AdminDoor = createAdminDoor({
      metrics,
      log,
      status,
      // A pull works without a scheduler, so a peer that has lost its own is ready all the same.
      readiness: () => ({
        ready: doorState === 'open',
        parts: { door: doorState, scheduler: schedulerState() },
      }),
    })

    const components: Component[] = [
      {
        name: 'store',
        start: async () => {},
        stop: async () => {
          await catalog.close()
          await store.close()
        },
      },
      {
        name: 'origins',
        start: async () => {},
        stop: async () => {
          await Promise.all([
            ...upstreams.names().map(async name => await upstreams.find(name)?.origin.close()),
            urls.close(),
            hosts.close(),
          ])
        },
      },
      createScrubber(store, config.store.scrubBytesPerSecond, log),
      createHintRecall({ store, catalog, hints, log }),
      reads,
      facts,
      ...seedRole,
      ...preheats,
      { name: 'exchange', start: () => startExchange(exchange), stop: () => exchange.stop() },
      {
        name: 'admin door',
        start: async () => {
          bound.admin = await admin.listen(config.admin)
        },
        stop: () => admin.close(),
      },
      {
        name: 'registry door',
        start: async () => {
          const doors: PeerAddresses['upstreamDoors'][number][] = []
          for (const { port, upstream } of config.door.upstreamPorts) {
            const address = await door.listen({
              host: config.door.host,
              port,
              upstream: upstreams.find(upstream),
            })
            doors.push({ ...address, upstream })
          }
          bound.upstreamDoors = doors
          if (config.proxy !== undefined) {
            const { host, port } = config.proxy
            bound.proxy = await door.listen({ host, port, forwards: true })
          }
          bound.door = await door.listen({ ...config.door, early: deps.early })
          doorState = 'open'
        },
        stop: signal => {
          doorState = 'closing'
          return door.close(signal)
        },
      },
    ]
    stopAll = await startAll(components, {
      log,
      graceMs: config.graceMs,
      signal: new AbortController().signal,
    })
    running = { addresses, status }
    log.info({ peer: exchange.peerId, ...addresses() }, 'peer started')
  }

  return {
    name: 'peer',
    start,
    stop: async () => {
      const errors = await stopAll?.()
      if (errors !== undefined && errors.length > 0)
        throw new AggregateError(errors, 'parts of the peer did not stop well')
    },
    addresses: () => must().addresses(),
    status: () => must().status(),
  }
}

async function openForwardProxy(
  config: PeerConfig,
  hosts: ProxyHosts,
  log: Logger,
  metrics: Metrics,
): Promise<ForwardProxy> {
  const { interceptHosts = [], authorityFile = '' } = config.proxy ?? {}
  const authority =
    interceptHosts.length === 0 ? undefined : await loadOrCreateAuthority(authorityFile, systemClock)
  return createForwardProxy({
    hosts,
    authority,
    clock: systemClock,
    log,
    metrics: createProxyMetrics(metrics),
  })
}
