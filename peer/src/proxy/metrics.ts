import type { Counter, Gauge, Metrics } from '@darter/runtime'

/** Numbers about the forward proxy's tunnels. */
export interface ProxyMetrics {
  readonly connects: Counter<'outcome'>
  readonly tunnels: Gauge
  readonly tunnelBytes: Counter<'direction'>
}

/** Registers the metrics of the forward proxy; call once per {@link Metrics}. */
export function createProxyMetrics(metrics: Metrics): ProxyMetrics {
  return {
    connects: metrics.counter({
      name: 'proxy_connects_total',
      help: 'CONNECT requests: intercepted, tunnelled, refused or failed.',
      labels: ['outcome'],
    }),
    tunnels: metrics.gauge({ name: 'proxy_open_tunnels', help: 'Tunnels that are open.' }),
    tunnelBytes: metrics.counter({
      name: 'proxy_tunnel_bytes_total',
      help: 'Bytes that went through tunnels, to and from the client.',
      labels: ['direction'],
    }),
  }
}
