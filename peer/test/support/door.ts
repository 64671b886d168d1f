import { type Clock, createLogger, createMetrics, systemClock } from '@darter/runtime'
import type { Digest } from '@darter/oci'
import { createRegistryOrigin } from '@darter/origin'
import { createAccess } from '../../src/access/access.ts'
import { createAdmission } from '../../src/access/admission.ts'
import { createCallerKey } from '../../src/access/caller.ts'
import { createDoorMetrics, createRegistryDoor } from '../../src/doors/index.ts'
import type { BlobReads, Facts, Finding } from '../../src/download/contract.ts'
import {
  type CertificateAuthority,
  createForwardProxy,
  createProxyHosts,
  createProxyMetrics,
} from '../../src/proxy/index.ts'
import { LayerHints } from '../../src/download/layer-hints.ts'
import { createManifests, createTags, openCatalog } from '../../src/tags/index.ts'
import { createUpstreamHealth } from '../../src/upstream-health.ts'
import { createSites } from '../../src/urls/sites.ts'
import { createUrls } from '../../src/urls/urls.ts'
import { createUpstreams, type Upstream } from '../../src/upstreams.ts'

/** Facts of a peer without a scheduler. */
export const lonelyFacts: Facts = {
  resolve: async (_key, find) => (await find())?.value,
  lastKnown: async () => undefined,
  publish: () => {},
}

/** Facts of several peers in one cluster. Those with a lifetime stay fresh until `expire` lets all of them grow old. */
export function clusterFacts(): Facts & { readonly expire: () => void } {
  const fresh = new Map<string, string>()
  const last = new Map<string, string>()
  const running = new Map<string, Promise<string | undefined>>()
  const tell = (key: string, { value, ttlMs }: Finding) => {
    last.set(key, value)
    if (ttlMs > 0) fresh.set(key, value)
    else fresh.delete(key)
  }
  return {
    resolve: async (key, find) => {
      const known = fresh.get(key)
      if (known !== undefined) return known
      const attempt =
        running.get(key) ??
        find()
          .then(finding => {
            if (finding !== undefined) tell(key, finding)
            return finding?.value
          })
          .finally(() => running.delete(key))
      running.set(key, attempt)
      return attempt
    },
    expire: () => fresh.clear(),
    lastKnown: async key => last.get(key),
    publish: facts => {
      for (const [key, finding] of facts) tell(key, finding)
    },
  }
}

/** Reads that keep whole blobs in memory and fetch what is missing straight from the origin. */
export interface MemoryReads extends BlobReads {
  readonly held: Map<Digest, Uint8Array>
  /** Changes the bytes of a body on their way, to see what a door does with a body that fails. */
  tamper: ((body: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>) | undefined
  /** How many reads are going on. */
  running: number
}

export function memoryReads(): MemoryReads {
  const held = new Map<Digest, Uint8Array>()
  const reads: MemoryReads = {
    held,
    tamper: undefined,
    running: 0,
    isHeld: digest => held.has(digest),
    knownSize: digest => held.get(digest)?.byteLength,
    keep: async ({ kind, ...request }) => {
      const { digest, upstream, repository, authorization, signal } = request
      if (held.has(digest)) return
      if (kind === 'manifest') return void (await reads.manifest(request))
      const { body } = await upstream.origin.openBlob(digest, { repository, authorization, signal })
      const pieces: Uint8Array[] = []
      for await (const piece of body) pieces.push(piece.slice())
      held.set(digest, Buffer.concat(pieces))
    },
    manifest: async ({ upstream, repository, authorization, digest, signal }) => {
      const known = held.get(digest)
      if (known) return { bytes: known, sources: { fromDisk: known.byteLength, fromPeers: 0, fromOrigin: 0 } }
      const accept = ['*/*', 'application/vnd.oci.image.manifest.v1+json']
      const { bytes } = await upstream.origin.getManifest(digest, {
        repository,
        authorization,
        accept,
        signal,
      })
      held.set(digest, bytes)
      return { bytes, sources: { fromDisk: 0, fromPeers: 0, fromOrigin: bytes.byteLength } }
    },
    open: async ({ upstream, repository, authorization, digest, span, signal }) => {
      let whole = held.get(digest)
      const fromDisk = whole !== undefined
      if (whole === undefined) {
        const { body } = await upstream.origin.openBlob(digest, { repository, authorization, signal })
        const pieces: Uint8Array[] = []
        for await (const piece of body) pieces.push(piece.slice())
        whole = Buffer.concat(pieces)
        held.set(digest, whole)
      }
      const size = whole.byteLength
      const chosen = span?.(size) ?? 'whole'
      if (chosen === 'unsatisfiable') return { unsatisfiable: true, size }
      const { from, to } = chosen === 'whole' ? { from: 0, to: size } : chosen
      let sent = 0
      const bytes = whole
      async function* pieces(): AsyncGenerator<Uint8Array> {
        // The one buffer is used again for each piece, as a real read may do.
        const buffer = Buffer.alloc(64 * 1024)
        reads.running++
        try {
          for (let at = from; at < to; at += buffer.length) {
            const piece = bytes.subarray(at, Math.min(at + buffer.length, to))
            buffer.set(piece)
            sent += piece.length
            yield buffer.subarray(0, piece.length)
          }
        } finally {
          reads.running--
        }
      }
      return {
        size,
        from,
        to,
        body: reads.tamper ? reads.tamper(pieces()) : pieces(),
        goesTo: () => {},
        sources: () => ({ fromDisk: fromDisk ? sent : 0, fromPeers: 0, fromOrigin: fromDisk ? 0 : sent }),
      }
    },
  }
  return reads
}

/** A line of the log. */
export type LogLine = Readonly<Record<string, unknown>>

/** Everything a peer's door is made of, over loopback. */
export async function startDoor(options: {
  readonly upstreams: readonly (Partial<Upstream> & { readonly name: string; readonly url: string })[]
  readonly default?: string
  readonly facts?: Facts
  readonly reads?: MemoryReads
  readonly catalogFile?: string
  readonly tagTtlMs?: number
  readonly accessTtlMs?: number
  readonly loopMarker?: string
  readonly idleTimeoutMs?: number
  readonly tunnelHosts?: readonly string[]
  readonly interceptHosts?: readonly string[]
  readonly authority?: CertificateAuthority
  readonly clock?: Clock
}) {
  const lines: LogLine[] = []
  const waiting: (() => void)[] = []
  const log = createLogger({
    level: 'debug',
    name: 'test',
    destination: {
      write: text => {
        lines.push(JSON.parse(text))
        for (const wake of waiting.splice(0)) wake()
      },
    },
  })
  const {
    facts = lonelyFacts,
    reads = memoryReads(),
    loopMarker = 'darter-test',
    clock = systemClock,
  } = options
  const { tagTtlMs = 0, accessTtlMs = 60_000 } = options
  const asked: string[] = []
  const origins = options.upstreams.map(({ name, url }) =>
    createRegistryOrigin({
      name,
      url,
      loopMarker,
      limits: { attempts: 1, connectTimeoutMs: 1000 },
      onRequest: record => asked.push(`${record.method} ${record.kind}`),
    }),
  )
  const upstreams = createUpstreams({
    upstreams: options.upstreams.map((upstream, at) => {
      const origin = upstream.origin ?? origins[at]
      if (origin === undefined) throw new Error('no origin')
      return { hosts: [], hasCredentials: false, isPublic: false, ...upstream, origin }
    }),
    default: options.default,
  })
  const catalog = await openCatalog({ file: options.catalogFile, clock, log })
  const health = createUpstreamHealth({ clock, downMs: 50 })
  const callerKey = createCallerKey()
  const access = createAccess({ catalog, facts, health, callerKey, clock, log, ttlMs: accessTtlMs })
  const tags = createTags({
    catalog,
    access,
    facts,
    health,
    callerKey,
    clock,
    log,
    ttlMs: tagTtlMs,
    share: true,
    accessTtlMs,
  })
  const hints = new LayerHints()
  const manifests = createManifests({ reads, catalog, facts, hints, clock, log, accessTtlMs })
  const metrics = createMetrics({ prefix: 'darter_' })
  const sites = createSites({
    allow: [],
    ca: undefined,
    configured: [],
    buckets: [],
    site: { loopMarker },
    log,
  })
  const urls = createUrls({ sites, facts, clock, ignoredQuery: [], accessTtlMs })
  const hosts = createProxyHosts({
    upstreams,
    addresses: options.upstreams.map(({ name, url }) => ({ name, url: new URL(url), ca: undefined })),
    tunnelHosts: (options.tunnelHosts ?? []).map(host => new URL(host)),
    interceptHosts: options.interceptHosts ?? [],
    site: { loopMarker },
  })
  const proxy = createForwardProxy({
    hosts,
    authority: options.authority,
    clock,
    log,
    metrics: createProxyMetrics(metrics),
  })
  const door = createRegistryDoor({
    upstreams,
    proxy,
    admission: createAdmission({ clock, ttlMs: 60_000 }),
    reads,
    access,
    catalog,
    tags,
    manifests,
    health,
    callerKey,
    clock,
    log,
    loopMarker,
    urls,
    metrics: createDoorMetrics(metrics),
    ...(options.idleTimeoutMs !== undefined && { idleTimeoutMs: options.idleTimeoutMs }),
  })
  const address = await door.listen({ host: '127.0.0.1', port: 0 })
  const forward = await door.listen({ host: '127.0.0.1', port: 0, forwards: true })
  return {
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    /** The port that is a forward proxy too. */
    proxyPort: forward.port,
    door,
    reads,
    catalog,
    metrics,
    upstreams,
    lines,
    /** The requests to the upstreams so far: method and kind. */
    asked,
    /** The next request line that fits, past or to come. */
    requestLine: async (fits: (line: LogLine) => boolean): Promise<LogLine> => {
      for (;;) {
        const found = lines.find(line => line['msg'] === 'request' && fits(line))
        if (found !== undefined) return found
        await new Promise<void>(resolve => waiting.push(resolve))
      }
    },
    stop: async () => {
      await door.close(AbortSignal.timeout(1000))
      await catalog.close()
      await urls.close()
      for (const origin of origins) await origin.close()
      await hosts.close()
    },
  }
}

export type TestDoor = Awaited<ReturnType<typeof startDoor>>
