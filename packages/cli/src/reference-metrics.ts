import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createPeer } from '@darter/peer'
import {
  type Component,
  createLogger,
  createMetrics,
  type MetricOptions,
  type Metrics,
} from '@darter/runtime'
import { createScheduler } from '@darter/scheduler'
import { clusterKeyFile, peerConfig, schedulerConfig } from './config/programs.ts'
import { resolveSettings } from './config/resolve.ts'
import { readFlags } from './config/sources.ts'

const PREFIX = 'darter_'

interface Metric {
  readonly name: string
  readonly kind: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labels: readonly string[]
}

/** Metrics that note what is registered with them. */
function recordingMetrics(): { readonly metrics: Metrics; readonly registered: readonly Metric[] } {
  const real = createMetrics({ prefix: PREFIX })
  const registered: Metric[] = []
  const note = <L extends string>(kind: Metric['kind'], { name, help, labels = [] }: MetricOptions<L>) => {
    registered.push({ name: `${PREFIX}${name}`, kind, help, labels })
  }
  return {
    registered,
    metrics: {
      counter: options => {
        note('counter', options)
        return real.counter(options)
      },
      gauge: options => {
        note('gauge', options)
        return real.gauge(options)
      },
      histogram: options => {
        note('histogram', options)
        return real.histogram(options)
      },
      expose: real.expose,
    },
  }
}

/** Starts a scheduler and a peer on loopback, in a directory that is removed again, and lists what each measures. */
async function registeredMetrics(): Promise<Readonly<Record<'peer' | 'scheduler', readonly Metric[]>>> {
  const directory = await mkdtemp(join(tmpdir(), 'darter-docs-'))
  const ports = ['door', 'admin', 'swarm', 'swarm.data', 'scheduler', 'scheduler.admin']
  const flags = new Map<string, unknown>([
    ['data-dir', directory],
    ['default-upstreams', false],
    ...ports.map(name => [name === 'swarm.data' ? 'swarm.data-port' : `${name}.port`, '0'] as const),
  ])
  const resolved = resolveSettings([readFlags(flags as Parameters<typeof readFlags>[0])], {})
  const log = createLogger({ level: 'silent', name: 'docs' })
  const started: Component[] = []
  const start = async <C extends Component>(component: C): Promise<C> => {
    await component.start()
    started.push(component)
    return component
  }
  const [ofScheduler, ofPeer] = [recordingMetrics(), recordingMetrics()]
  try {
    const scheduler = await start(
      createScheduler(schedulerConfig(resolved), { log, metrics: ofScheduler.metrics }),
    )
    const config = await peerConfig(resolved)
    const swarm = {
      ...config.swarm,
      seed: true,
      schedulers: scheduler.addresses().control,
      clusterKeyFile: clusterKeyFile(resolved),
    }
    await start(createPeer({ ...config, swarm }, { log, metrics: ofPeer.metrics }))
  } finally {
    for (const component of started.toReversed()) await component.stop(AbortSignal.timeout(5000))
    await rm(directory, { recursive: true, force: true })
  }
  return { peer: ofPeer.registered, scheduler: ofScheduler.registered }
}

const PREAMBLE = `<!-- Generated from the running programs by \`npm run docs\`; do not edit. -->

# Metrics

\`/metrics\` of the admin endpoints speaks the Prometheus text format. Beside the metrics below, both programs tell the
usual ones of a Node process (\`process_*\`, \`nodejs_*\`): CPU, memory, event loop, garbage collection. Under \`darter up\`
the peer and the scheduler have an endpoint each.
`

/** The text of docs/reference/metrics.md. */
export async function metricsText(): Promise<string> {
  const { peer, scheduler } = await registeredMetrics()
  const table = (metrics: readonly Metric[]) =>
    metrics
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map(
        ({ name, kind, labels, help }) =>
          `| \`${name}\` | ${kind} | ${labels.map(label => `\`${label}\``).join(', ')} | ${help} |`,
      )
      .join('\n')
  const head = '| Name | Kind | Labels | Meaning |\n| --- | --- | --- | --- |'
  return `${PREAMBLE}\n## Of a peer\n\n${head}\n${table(peer)}\n\n## Of a scheduler\n\n${head}\n${table(scheduler)}\n`
}
