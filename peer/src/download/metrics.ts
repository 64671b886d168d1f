import type { Metrics } from '@darter/runtime'

/** Neighbours that metrics name one by one. */
const MAX_NAMED = 1000

/** What downloads count. */
export interface DownloadMetrics {
  receivedFromPeer(bytes: number): void
  receivedFromOrigin(bytes: number): void
  sentToPeer(bytes: number): void
  blamed(deed: string, neighbour: string): void
  originFailed(): void
  digestMismatch(): void
  storeFull(): void
  links(open: number): void
  downloads(active: number): void
  /** Tells how to find out how many bytes of chunks that are not whole are kept. */
  parts(bytes: () => number): void
  /** Blob bytes that arrived since the start, by source. */
  received(): { readonly fromPeers: number; readonly fromOrigin: number }
}

/** Registers the metrics of downloads and of the exchange with neighbours. */
export function createDownloadMetrics(metrics: Metrics): DownloadMetrics {
  const received = metrics.counter({
    name: 'received_bytes_total',
    help: 'Blob bytes that arrived, by source.',
    labels: ['source'],
  })
  const sent = metrics.counter({
    name: 'sent_to_peers_bytes_total',
    help: 'Chunk bytes that neighbours asked for.',
  })
  const blamed = metrics.counter({
    name: 'neighbour_failures_total',
    help: 'Neighbours that sent wrong bytes, stalled or vanished, by deed and peer; the 1000 first ones are named.',
    labels: ['deed', 'peer'],
  })
  const originFailures = metrics.counter({
    name: 'origin_read_failures_total',
    help: 'Reads of an origin that failed after the retries inside.',
  })
  const mismatches = metrics.counter({
    name: 'digest_mismatches_total',
    help: 'Blobs whose chunks were all there and whose digest was wrong.',
  })
  const full = metrics.counter({
    name: 'store_full_total',
    help: 'Downloads that went on without keeping anything since the store had no room.',
  })
  const links = metrics.gauge({ name: 'links', help: 'Open links to neighbours.' })
  const downloads = metrics.gauge({ name: 'downloads', help: 'Blobs being downloaded.' })
  const totals = { fromPeers: 0, fromOrigin: 0 }
  const known = new Set<string>()
  for (const source of ['peer', 'origin']) received.inc({ source }, 0)
  return {
    receivedFromPeer: bytes => {
      totals.fromPeers += bytes
      received.inc({ source: 'peer' }, bytes)
    },
    receivedFromOrigin: bytes => {
      totals.fromOrigin += bytes
      received.inc({ source: 'origin' }, bytes)
    },
    received: () => ({ ...totals }),
    sentToPeer: bytes => sent.inc(bytes),
    blamed: (deed, neighbour) => {
      // Bounded, whatever ids strangers make up.
      const named = known.has(neighbour) || known.size < MAX_NAMED
      if (named) known.add(neighbour)
      blamed.inc({ deed, peer: named ? neighbour : 'other' })
    },
    originFailed: () => originFailures.inc(),
    digestMismatch: () => mismatches.inc(),
    storeFull: () => full.inc(),
    links: open => links.set(open),
    downloads: active => downloads.set(active),
    parts: bytes =>
      void metrics.gauge({
        name: 'range_parts_bytes',
        help: 'Bytes kept of chunks that ranges brought a part of.',
        collect: gauge => gauge.set(bytes()),
      }),
  }
}
