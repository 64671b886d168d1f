import type { Exchange } from '@darter/exchange'
import { type Digest, MANIFEST_MEDIA_TYPES, ManifestInvalidError, MAX_MANIFEST_BYTES } from '@darter/oci'
import { type Clock, type Component, createChunkBuffers, type Logger } from '@darter/runtime'
import { BlobSizeMismatchError, type ChunkStore, type StoredBlob, StoreIoError } from '@darter/store'
import type { Random } from '@darter/swarm'
import type { SchedulerMessage } from '@darter/wire'
import { ByteBudget } from './byte-budget.ts'
import type {
  BlobRead,
  BlobReads,
  BlobSource,
  ByteSources,
  ContentKind,
  Facts,
  OpenBlobRequest,
} from './contract.ts'
import { Download } from './download.ts'
import type { PrefetchConfig } from './prefetch.ts'
import { Prefetcher } from './prefetch.ts'
import { RangeRecords } from './ranges.ts'
import { PeerStoppingError } from './errors.ts'
import { keepWhole } from './keep.ts'
import type { LayerHints } from './layer-hints.ts'
import type { DownloadMetrics } from './metrics.ts'
import { createNeighbourhood, type Neighbourhood } from './neighbourhood.ts'
import type { PartStore } from './part-store.ts'
import { isEmptyDigest } from './prefix-hasher.ts'
import type { DownloadRates } from './rate-limits.ts'
import { createSpanReader } from './span-reader.ts'

const LINGER_MS = 5_000
/** Blobs that are read at the same moment for what they say of others. */
const MAX_TABLES_BYTES = 32 * 1024 * 1024
const SIZE_FACT_MS = 300_000
/** Blobs that are remembered for a wrong chunk list; a scrub finds again what was forgotten. */
const MAX_REFUTED = 1024

/** The reads, as a component, and what the composition root wires to the exchange. */
export interface Reads extends BlobReads, Component {
  readonly neighbourhood: Neighbourhood
  /** Downloads at work now. */
  readonly active: number
}

/**
 * Blobs through the store, the swarm and the origin: one {@link Download} for each blob, however many callers.
 */
export function createReads(options: {
  readonly store: ChunkStore
  readonly exchange: Exchange
  readonly facts: Facts
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly metrics: DownloadMetrics
  readonly rates: DownloadRates
  readonly prefetch: PrefetchConfig
  readonly hints: LayerHints
  /** What ranges brought; closed with the reads. */
  readonly parts: PartStore
  /** The zone that this machine is in; '' when not told. */
  readonly zone: string
}): Reads {
  const { store, exchange, facts, log, metrics } = options
  const scheduler = exchange.scheduler
  const downloads = new Map<Digest, Download>()
  const ending = new Map<Digest, Promise<void>>()
  const unsubscribe: (() => void)[] = []
  /** Blobs whose chunk list was wrong: they are believed by their digest alone. */
  const refuted = new Set<Digest>()
  let stopped = false

  const neighbourhood = createNeighbourhood({
    exchange,
    store,
    log,
    clock: options.clock,
    random: options.random,
    maxUploads: options.rates.maxUploads,
    findDownload: blob => downloads.get(blob),
    downloads: () => [...downloads.values()],
  })
  const ranges = {
    records: new RangeRecords(options.parts),
    prefetcher: new Prefetcher(options.prefetch, options.clock),
    budget: new ByteBudget(options.rates.maxInFlightBytes),
    hints: options.hints,
    tables: new ByteBudget(MAX_TABLES_BYTES),
    readBlob: async (source: BlobSource, digest: Digest, size: number, signal: AbortSignal) => {
      const { upstream, repository, authorization, via } = source
      const request = { upstream, repository, via, digest, size, signal }
      const read = await readWhole(
        authorization === undefined ? request : { ...request, authorization },
        'blob',
      )
      return read.bytes
    },
  }
  metrics.parts(() => ranges.records.bytes)
  const context = {
    ...options,
    ranges,
    scheduler,
    neighbourhood,
    budget: new ByteBudget(options.rates.maxInFlightBytes),
    buffers: createChunkBuffers(),
  }

  const startDownload = (
    stored: StoredBlob,
    kind: ContentKind,
    source: BlobSource,
    trustHeld: boolean,
  ): Download => {
    const { digest } = stored
    const download = new Download({
      stored,
      kind,
      source,
      context,
      trustHeld,
      listRefuted: refuted.has(digest),
      lingerMs: LINGER_MS,
      onEnd: () => {
        if (downloads.get(digest) !== download) return
        downloads.delete(digest)
        metrics.downloads(downloads.size)
        const ended = download.ended.finally(() => ending.delete(digest))
        ending.set(digest, ended)
      },
    })
    downloads.set(digest, download)
    metrics.downloads(downloads.size)
    download.start()
    return download
  }

  /** The running download of a blob, or its complete record, or a new download. */
  const begin = async (
    digest: Digest,
    size: number,
    kind: ContentKind,
    source: BlobSource,
    trustHeld = false,
  ): Promise<Download | StoredBlob> => {
    for (;;) {
      if (stopped) throw new PeerStoppingError()
      const running = downloads.get(digest)
      if (running?.open === true) {
        if (running.stored.layout.size !== size)
          throw new BlobSizeMismatchError(digest, running.stored.layout.size, size)
        return running
      }
      const last = ending.get(digest)
      if (last !== undefined) {
        await last
        continue
      }
      const stored = await store.open(digest, size)
      if (stored.complete) return stored
      if (downloads.has(digest) || ending.has(digest) || stopped) {
        stored.release()
        continue
      }
      return startDownload(stored, kind, source, trustHeld)
    }
  }

  const describe = async (
    source: BlobSource & { digest: Digest; signal: AbortSignal },
    kind: ContentKind,
  ): Promise<number> => {
    const { upstream, repository, authorization, via, digest, signal } = source
    const request = { repository, via, signal, ...(authorization === undefined ? {} : { authorization }) }
    const ask = async (): Promise<number> => {
      const { origin } = upstream
      if (kind === 'blob') return (await origin.headBlob(digest, request)).size
      return (await origin.headManifest(digest, { ...request, accept: MANIFEST_MEDIA_TYPES })).size
    }
    if (authorization !== undefined || upstream.hasCredentials) return await ask()
    const key = `size ${digest}`
    const isSize = (text: string | undefined): boolean => text !== undefined && /^\d{1,15}$/.test(text)
    try {
      const found = await facts.resolve(
        key,
        async () => ({ value: String(await ask()), ttlMs: SIZE_FACT_MS }),
        signal,
      )
      return isSize(found) ? Number(found) : await ask()
    } catch (error) {
      const last = await facts.lastKnown(key, signal)
      if (!isSize(last)) throw error
      return Number(last)
    }
  }

  const sizeOf = async (
    request: BlobSource & { digest: Digest; size?: number | undefined; signal: AbortSignal },
    kind: ContentKind,
  ): Promise<number> => request.size ?? knownSize(request.digest) ?? (await describe(request, kind))

  const knownSize = (digest: Digest): number | undefined => {
    const running = downloads.get(digest)
    if (running !== undefined) return running.stored.layout.size
    return store.info(digest)?.size
  }

  const open = async (request: OpenBlobRequest, kind: ContentKind): Promise<OpenedRead> => {
    const { digest } = request
    const size = await sizeOf(request, kind)
    const chosen = request.span?.(size) ?? 'whole'
    if (chosen === 'unsatisfiable') return { unsatisfiable: true, size }
    const span = chosen === 'whole' ? { from: 0, to: size } : chosen
    if (size === 0 && isEmptyDigest(digest)) return emptyRead()
    let found: Download | StoredBlob
    try {
      found = await begin(digest, size, kind, request)
    } catch (error) {
      if (error instanceof StoreIoError) {
        log.error({ err: error, blob: digest }, 'the store cannot be used: served straight from the origin')
        return spans.direct(request, kind, size, span)
      }
      if (!(error instanceof BlobSizeMismatchError)) throw error
      // Someone's manifest is wrong about the size; the origin's own word and the digest decide for this caller.
      log.warn({ blob: digest, size }, 'two sizes are told for one blob: served straight from the origin')
      const actual = await describe(request, kind)
      return spans.direct(request, kind, actual, request.span === undefined ? { from: 0, to: actual } : span)
    }
    return await spans.read(found, request, kind, span)
  }

  const readWhole = async (
    request: OpenBlobRequest,
    kind: ContentKind,
  ): Promise<{ readonly bytes: Uint8Array; readonly sources: ByteSources }> => {
    const read = await open(request, kind)
    if ('unsatisfiable' in read) throw new RangeError('a whole blob is always satisfiable')
    const parts: Uint8Array[] = []
    for await (const piece of read.body) parts.push(Uint8Array.from(piece))
    return { bytes: Buffer.concat(parts), sources: read.sources() }
  }

  const spans = createSpanReader({ store, log, metrics, begin })

  const onScheduler = (message: SchedulerMessage): void => {
    if (!('blob' in message) || message.type === 'seed') return
    const download = downloads.get(message.blob)
    if (download === undefined) {
      if (message.type === 'lease') {
        scheduler?.send({ type: 'lease-end', blob: message.blob, lease: message.lease, outcome: 'released' })
      }
      return
    }
    switch (message.type) {
      case 'neighbours':
        download.neighbours(message.peers)
        break
      case 'lease':
        download.leased(message.lease, message.from, message.to)
        break
      case 'lease-void':
        download.leaseVoid(message.lease)
        break
      case 'verified':
        download.verified(message.hashes)
        break
    }
  }

  /** Says everything that is held to a scheduler that knows nothing (any more). */
  const announce = async (): Promise<void> => {
    for (const { digest, heldChunks } of store.list()) {
      if (stopped) return
      if (heldChunks === 0 || downloads.has(digest)) continue
      const stored = await store.find(digest)
      if (stored === undefined) continue
      const { size } = stored.layout
      // A download that began meanwhile speaks for itself.
      if (!stopped && !downloads.has(digest)) {
        scheduler?.send({ type: 'join', blob: digest, size, held: stored.held.toBytes(), wants: false })
      }
      stored.release()
    }
  }

  const startAnnouncing = (): void => {
    announce().catch(error => {
      if (!stopped) log.error({ err: error }, 'announcing what is held failed')
    })
  }

  return {
    name: 'downloads',
    neighbourhood,
    get active() {
      return downloads.size
    },
    start: async () => {
      unsubscribe.push(
        store.onDropped((digest, chunk) => {
          downloads.get(digest)?.chunkDropped(chunk)
          neighbourhood.pushLost(digest, chunk)
          scheduler?.send({ type: 'dropped', blob: digest, chunks: [chunk] })
        }),
        store.onRefuted(digest => {
          if (refuted.size >= MAX_REFUTED) refuted.clear()
          refuted.add(digest)
        }),
        store.onRemoved(digest => {
          ranges.records.ended(digest)
          neighbourhood.blobRemoved(digest)
          scheduler?.send({ type: 'leave', blob: digest })
        }),
      )
      if (scheduler === undefined) return
      unsubscribe.push(
        scheduler.onMessage(onScheduler),
        scheduler.onUp(() => {
          for (const download of downloads.values()) download.schedulerChanged(true)
          startAnnouncing()
        }),
        scheduler.onDown(() => {
          for (const download of downloads.values()) download.schedulerChanged(false)
        }),
      )
      // What an unclean stop left in doubt is announced once it was checked.
      void store.recovered.then(() => {
        if (!stopped && scheduler.connected) startAnnouncing()
      })
    },
    stop: async () => {
      stopped = true
      for (const end of unsubscribe.splice(0)) end()
      const running = [...downloads.values()]
      for (const download of running) download.stop()
      await Promise.all([...running.map(download => download.ended), ...ending.values()])
      neighbourhood.close()
      await ranges.records.close()
    },
    open: request => open(request, 'blob'),
    keep: async request => {
      const { digest, kind, onHeld, background, signal } = request
      const size = await sizeOf(request, kind)
      if (size === 0 && isEmptyDigest(digest)) return
      const found = await begin(digest, size, kind, request)
      await keepWhole(found, request, { onHeld: bytes => onHeld?.(bytes), background, signal })
    },
    knownSize,
    isHeld: digest => store.info(digest)?.complete === true,
    manifest: async request => {
      const size = await sizeOf(request, 'manifest')
      if (size > MAX_MANIFEST_BYTES)
        throw new ManifestInvalidError(`has ${size} bytes, more than ${MAX_MANIFEST_BYTES}`)
      return await readWhole({ ...request, size }, 'manifest')
    },
  }
}

type OpenedRead = Awaited<ReturnType<BlobReads['open']>>

function emptyRead(): BlobRead {
  return {
    from: 0,
    to: 0,
    size: 0,
    body: (async function* () {})(),
    goesTo: () => {},
    sources: () => ({ fromDisk: 0, fromPeers: 0, fromOrigin: 0 }),
  }
}
