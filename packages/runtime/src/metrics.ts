import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export type { Counter, Gauge, Histogram } from 'prom-client'

/** Seconds, for what takes from a millisecond (a chunk from a neighbour) to minutes (a whole layer). */
export const SECONDS_BUCKETS: readonly number[] = [
  0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600,
]

/** What a metric of any kind says of itself. */
export interface MetricOptions<L extends string> {
  /** Without the prefix. Lower case, words joined by `_`, the unit last (`_seconds`, `_bytes`); counters end in `_total`. */
  readonly name: string
  /** One sentence for whoever reads `/metrics`. */
  readonly help: string
  /** Every label's values must be few and bounded: never a digest, a repository or a caller's text. */
  readonly labels?: readonly L[]
}

/** The metrics of one program. */
export interface Metrics {
  counter<const L extends string = never>(options: MetricOptions<L>): Counter<L>
  /** With `collect`, the value is asked for at each reading instead of being kept current. */
  gauge<const L extends string = never>(
    options: MetricOptions<L> & { readonly collect?: (gauge: Gauge<L>) => void },
  ): Gauge<L>
  /** `buckets` are upper bounds in the unit that the name ends in; {@link SECONDS_BUCKETS} by default. */
  histogram<const L extends string = never>(
    options: MetricOptions<L> & { readonly buckets?: readonly number[] },
  ): Histogram<L>
  /** Everything in the Prometheus text format, and the content type to send it with. */
  expose(): Promise<{ readonly contentType: string; readonly body: string }>
}

/**
 * Metrics in a registry of their own.
 * `process`: also the usual ones of the process (CPU, memory, event loop, garbage collection). They hold timers and an
 * observer until the process ends, so only a program's composition root asks for them.
 */
export function createMetrics(options: {
  /** Put before every name, such as `darter_`. Process metrics keep their customary names. */
  readonly prefix: string
  readonly process?: boolean
}): Metrics {
  const registry = new Registry()
  const registers = [registry]
  if (options.process === true) collectDefaultMetrics({ register: registry })

  const described = <L extends string>({ name, help, labels = [] }: MetricOptions<L>) => {
    if (!/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(name)) throw new RangeError(`bad metric name: ${name}`)
    return { name: `${options.prefix}${name}`, help, labelNames: labels, registers }
  }

  return {
    counter: metric => {
      if (!metric.name.endsWith('_total')) throw new RangeError(`a counter ends in _total: ${metric.name}`)
      return new Counter(described(metric))
    },
    gauge: ({ collect, ...metric }) =>
      new Gauge({
        ...described(metric),
        ...(collect === undefined
          ? {}
          : {
              collect() {
                collect(this)
              },
            }),
      }),
    histogram: ({ buckets = SECONDS_BUCKETS, ...metric }) =>
      new Histogram({ ...described(metric), buckets: [...buckets] }),
    expose: async () => ({ contentType: registry.contentType, body: await registry.metrics() }),
  }
}
