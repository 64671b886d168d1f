import type { ServerResponse } from 'node:http'
import type { Clock, Counter, Gauge, Histogram, Logger, Metrics } from '@darter/runtime'
import type { ByteSources } from '../download/contract.ts'

/** What is known of one client request by the time that it is over. */
export interface RequestRecord {
  readonly method: string
  /** What kind of resource it was for; few values. */
  route: string
  upstream: string | undefined
  repository: string | undefined
  tag: string | undefined
  digest: string | undefined
  range: string | undefined
  /** A stable error code, or `cut`; undefined: as the connection ended. */
  outcome: string | undefined
  /** The error behind the outcome. */
  error: unknown
  /** It asks as clients of a forward proxy do, which want to know whose failure one is. */
  proxied: boolean
  /** An old answer served while the upstream is down. */
  stale: boolean
  bytes: number
  sources: () => ByteSources
  /** Says that the head of the answer is on its way. */
  readonly started: () => void
}

/** Numbers about a door's requests. */
export interface DoorMetrics {
  readonly requests: Counter<'route' | 'method' | 'status'>
  readonly bytes: Counter<'source'>
  readonly seconds: Histogram<'route'>
  readonly firstByteSeconds: Histogram<'route'>
  readonly running: Gauge
  readonly stale: Counter<'kind'>
}

/** Registers the metrics of the registry door; call once per {@link Metrics}. */
export function createDoorMetrics(metrics: Metrics): DoorMetrics {
  return {
    requests: metrics.counter({
      name: 'door_requests_total',
      help: 'Requests of clients that are over.',
      labels: ['route', 'method', 'status'],
    }),
    bytes: metrics.counter({
      name: 'door_sent_bytes_total',
      help: 'Bytes of blobs and manifests sent to clients, by where this peer had them from.',
      labels: ['source'],
    }),
    seconds: metrics.histogram({
      name: 'door_request_seconds',
      help: 'From the head of a request to the end of its answer.',
      labels: ['route'],
    }),
    firstByteSeconds: metrics.histogram({
      name: 'door_first_byte_seconds',
      help: 'From the head of a request to the head of its answer.',
      labels: ['route'],
    }),
    running: metrics.gauge({
      name: 'door_running_requests',
      help: 'Requests of clients that are being answered.',
    }),
    stale: metrics.counter({
      name: 'door_stale_answers_total',
      help: 'Answers given on the last word of an upstream that was down.',
      labels: ['kind'],
    }),
  }
}

const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'])
const NO_SOURCES = (): ByteSources => ({ fromDisk: 0, fromPeers: 0, fromOrigin: 0 })

/**
 * Starts the record of a request. When its connection or its answer ends, one line is logged and the metrics are
 * brought up to date. Credentials are no part of a record.
 */
export function openRecord(
  method: string,
  response: ServerResponse,
  options: { readonly clock: Clock; readonly log: Logger; readonly metrics: DoorMetrics },
): RequestRecord {
  const { clock, log, metrics } = options
  const begun = clock.now()
  let firstByte: number | undefined
  const record: RequestRecord = {
    method,
    route: 'unknown',
    upstream: undefined,
    repository: undefined,
    tag: undefined,
    digest: undefined,
    range: undefined,
    outcome: undefined,
    error: undefined,
    proxied: false,
    stale: false,
    bytes: 0,
    sources: NO_SOURCES,
    started: () => {
      firstByte ??= clock.now()
    },
  }
  metrics.running.inc()
  response.once('close', () => {
    const ms = clock.now() - begun
    const complete = response.writableFinished
    const outcome = record.outcome ?? (complete ? 'complete' : 'client-gone')
    const status = response.headersSent ? response.statusCode : 499
    const { fromDisk, fromPeers, fromOrigin } = record.sources()
    const label = METHODS.has(method) ? method : 'other'
    metrics.running.dec()
    metrics.requests.inc({ route: record.route, method: label, status: String(status) })
    metrics.seconds.observe({ route: record.route }, ms / 1000)
    if (firstByte !== undefined) {
      metrics.firstByteSeconds.observe({ route: record.route }, (firstByte - begun) / 1000)
    }
    metrics.bytes.inc({ source: 'disk' }, fromDisk)
    metrics.bytes.inc({ source: 'peers' }, fromPeers)
    metrics.bytes.inc({ source: 'origin' }, fromOrigin)
    if (record.stale) metrics.stale.inc({ kind: record.route })
    const line = {
      upstream: record.upstream,
      repository: record.repository,
      tag: record.tag,
      digest: record.digest,
      method,
      route: record.route,
      status,
      range: record.range,
      bytes: record.bytes,
      fromDisk,
      fromPeers,
      fromOrigin,
      ms: Math.round(ms),
      outcome,
      ...(record.stale && { stale: true }),
      ...(record.error !== undefined && { reason: reasonOf(record.error) }),
    }
    log.info(line, 'request')
  })
  return record
}

/** The error's own words and those of what caused it; a stack says nothing about an upstream. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message
}
