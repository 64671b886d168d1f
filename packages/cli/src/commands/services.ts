import type { Peer, PeerConfig } from '@darter/peer'
import { type EarlyPort, openEarlyPort, runService } from '@darter/runtime'
import type { Scheduler, SchedulerConfig } from '@darter/scheduler'
import { clientLines, joinLines } from '../banner.ts'
import { ConfigError } from '../config/errors.ts'
import { clusterKeyFile, peerConfig, schedulerConfig } from '../config/programs.ts'
import type { Resolved } from '../config/resolve.ts'
import { createLoggers } from '../logging.ts'

/** Tells people what has started; a log in JSON has it already. */
function announce({ settings }: Resolved, paragraphs: readonly string[]): void {
  if (settings['log.format'] === 'json' || settings['log.level'] === 'silent') return
  process.stderr.write(`\n${paragraphs.join('\n\n')}\n\n`)
}

const clients = (config: PeerConfig, peer: Peer) =>
  clientLines({
    addresses: peer.addresses(),
    upstreams: config.upstreams.flatMap(({ kind, name }) => (kind === 's3' ? [] : [name])),
    defaultUpstream: config.defaultUpstream,
  })

const joining = (config: SchedulerConfig, scheduler: Scheduler) =>
  joinLines({ control: scheduler.addresses().control, clusterKeyFile: config.clusterKeyFile })

/** Clients that come while the rest of a peer is loaded and started wait for that: they would take a refusal for a failure. */
function openDoorEarly({ door }: PeerConfig): Promise<EarlyPort | undefined> {
  return openEarlyPort(door, 1024)
}

/** Runs a peer until a signal. */
export async function runPeer(resolved: Resolved): Promise<number> {
  const config = await peerConfig(resolved)
  const early = await openDoorEarly(config)
  const log = (await createLoggers(resolved.settings))('peer')
  const { createPeer } = await import('@darter/peer')
  const peer = createPeer(config, { log, early })
  const onReady = () => announce(resolved, [clients(config, peer)])
  return runService({ components: [peer], log, graceMs: config.graceMs, onReady })
}

/** Runs a scheduler until a signal. */
export async function runScheduler(resolved: Resolved): Promise<number> {
  const config = schedulerConfig(resolved)
  const log = (await createLoggers(resolved.settings))('scheduler')
  const { createScheduler } = await import('@darter/scheduler')
  const scheduler = createScheduler(config, { log })
  const onReady = () => announce(resolved, [joining(config, scheduler)])
  return runService({ components: [scheduler], log, graceMs: config.graceMs, onReady })
}

/** Runs a scheduler and a peer of it in this process until a signal. */
export async function runUp(resolved: Resolved): Promise<number> {
  const { settings, sources } = resolved
  if (settings.schedulers.length > 0) {
    throw new ConfigError([
      `schedulers (${sources.get('schedulers')}) means nothing here: \`darter up\` runs a scheduler of its own; \`darter peer\` joins another`,
    ])
  }
  const config = await peerConfig(resolved)
  const early = await openDoorEarly(config)
  const schedulerSettings = schedulerConfig(resolved)
  const logger = await createLoggers(settings)
  const [{ createPeer }, { createScheduler }] = await Promise.all([
    import('@darter/peer'),
    import('@darter/scheduler'),
  ])
  const scheduler = createScheduler(schedulerSettings, { log: logger('scheduler') })
  let peer: Peer | undefined
  // The peer is told of the scheduler by its address, which is known once that has started.
  const joined = {
    name: 'peer',
    start: async () => {
      const schedulers = scheduler.addresses().control
      const swarm = { ...config.swarm, schedulers, clusterKeyFile: clusterKeyFile(resolved) }
      peer = createPeer({ ...config, swarm }, { log: logger('peer'), early })
      await peer.start()
    },
    stop: async (signal: AbortSignal) => peer?.stop(signal),
  }
  const onReady = () => {
    if (peer !== undefined) announce(resolved, [clients(config, peer), joining(schedulerSettings, scheduler)])
  }
  return runService({
    components: [scheduler, joined],
    log: logger('darter'),
    graceMs: config.graceMs,
    onReady,
  })
}
