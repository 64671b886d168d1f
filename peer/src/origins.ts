import { readFile } from 'node:fs/promises'
import {
  type CredentialSource,
  createDockerConfigSource,
  createLayoutOrigin,
  createRegistryOrigin,
  createS3Site,
  createSharedCredentialsSource,
  type UrlSiteOptions,
} from '@darter/origin'
import type { Logger, Metrics, Throttle } from '@darter/runtime'
import type {
  DirectoryUpstreamConfig,
  PeerConfig,
  RegistryUpstreamConfig,
  S3UpstreamConfig,
  UpstreamConfig,
} from './config.ts'
import { type Bucket, createSites, type SiteOptions, type Sites } from './urls/sites.ts'
import { createProxyHosts, type ProxyHosts, type UpstreamAddress } from './proxy/index.ts'
import { createUpstreams, type Upstream, type Upstreams } from './upstreams.ts'

/** How long the credential helpers may take at the start, ms. */
const HELPER_MS = 15_000

/**
 * The allowed upstreams, each with its origin, the sites that URLs may be read from, and what connections to other hosts are made
 * with. Reads the files of private certificate authorities.
 * @throws what reading those files throws.
 */
export async function openOrigins(options: {
  readonly config: PeerConfig
  readonly loopMarker: string
  readonly log: Logger
  readonly metrics: Metrics
  /** The limit on what all of them send. */
  readonly throttle: Throttle | undefined
}): Promise<{ readonly upstreams: Upstreams; readonly sites: Sites; readonly site: SiteOptions }> {
  const { config, loopMarker, log, metrics, throttle } = options
  const requests = metrics.counter({
    name: 'origin_requests_total',
    help: 'Requests to origins, retries, redirects and token requests included.',
    labels: ['kind', 'status'],
  })
  const progressTimeoutMs = config.transfers.progressTimeoutMs
  const onRequest: UrlSiteOptions['onRequest'] = ({ kind, status }) =>
    requests.inc({ kind, status: status === undefined ? 'none' : `${status}` })
  const upstreams = await Promise.all(
    config.upstreams.filter(isForImages).map(async (upstream): Promise<Upstream> => {
      const { name } = upstream
      if (upstream.kind === 'oci-layout') {
        const origin = createLayoutOrigin({ name, directory: upstream.path, progressTimeoutMs, throttle })
        return { name, hosts: upstream.hosts, origin, hasCredentials: false, isPublic: true }
      }
      const credentials = await credentialsOf(upstream, config.dockerConfigFile)
      const origin = createRegistryOrigin({
        name,
        url: upstream.url,
        ca: await readCa(upstream.caFile),
        // Public registries hand out tokens to everybody: readers without any get one that way.
        credentials: credentials ?? (async () => ({ kind: 'anonymous' })),
        loopMarker,
        limits: {
          progressTimeoutMs,
          ...(upstream.maxConnections !== undefined && { connections: upstream.maxConnections }),
        },
        throttle,
        log,
        onRequest,
      })
      return {
        name,
        hosts: upstream.hosts,
        origin,
        hasCredentials: credentials !== undefined,
        isPublic: upstream.public,
      }
    }),
  )
  const configured = await Promise.all(
    config.upstreams.flatMap(upstream =>
      upstream.kind === 'registry'
        ? [readCa(upstream.caFile).then(ca => ({ origin: new URL(upstream.url).origin, ca }))]
        : [],
    ),
  )
  const site = { loopMarker, limits: { progressTimeoutMs }, throttle, onRequest }
  const buckets = await Promise.all(
    config.upstreams.flatMap(upstream => (upstream.kind === 's3' ? [openBucket(upstream, site)] : [])),
  )
  const urlCa = await readCa(config.urls.caFile)
  const sites = createSites({ allow: config.urls.allow, ca: urlCa, configured, buckets, site, log })
  return { upstreams: createUpstreams({ upstreams, default: config.defaultUpstream }), sites, site }
}

/** Whether registry clients can be served from it. */
function isForImages(upstream: UpstreamConfig): upstream is RegistryUpstreamConfig | DirectoryUpstreamConfig {
  return upstream.kind !== 's3'
}

async function openBucket(config: S3UpstreamConfig, site: SiteOptions): Promise<Bucket> {
  const { bucket, prefix, credentials } = config
  const { site: opened, urlOf } = createS3Site({
    ...site,
    endpoint: new URL(config.endpoint),
    bucket,
    pathStyle: config.pathStyle,
    region: config.region,
    ca: await readCa(config.caFile),
    limits: {
      ...site.limits,
      ...(config.maxConnections !== undefined && { connections: config.maxConnections }),
    },
    credentials:
      credentials !== undefined && 'file' in credentials
        ? createSharedCredentialsSource(credentials)
        : async () => credentials,
  })
  return { bucket, prefix, site: opened, urlOf, hasCredentials: credentials !== undefined }
}

async function readCa(file: string | undefined): Promise<string | undefined> {
  return file === undefined ? undefined : await readFile(file, 'utf8')
}

/**
 * The hosts that clients may ask for by their own names. Reads the files of private certificate authorities.
 * @throws what reading those files throws.
 */
export async function openProxyHosts(options: {
  readonly config: PeerConfig
  readonly upstreams: Upstreams
  /** As {@link openOrigins} makes it. */
  readonly site: SiteOptions
}): Promise<ProxyHosts> {
  const { config, upstreams, site } = options
  const addresses = await Promise.all(
    config.upstreams.map(async (upstream): Promise<UpstreamAddress> => {
      const { name } = upstream
      if (upstream.kind !== 'registry') return { name, url: undefined, ca: undefined }
      return { name, url: new URL(upstream.url), ca: await readCa(upstream.caFile) }
    }),
  )
  const { tunnelHosts = [], interceptHosts = [] } = config.proxy ?? {}
  return createProxyHosts({
    upstreams,
    addresses,
    tunnelHosts: tunnelHosts.map(origin => new URL(origin)),
    interceptHosts,
    site,
  })
}

/**
 * Where an upstream's credentials come from. A docker config without any for it counts as none: what its registry then
 * answers, it answers to everybody, and the cluster may share it.
 */
async function credentialsOf(
  { name, url, hosts, credentials, dockerConfigFile }: RegistryUpstreamConfig,
  commonFile: string | undefined,
): Promise<CredentialSource | undefined> {
  if (credentials !== undefined) return async () => ({ kind: 'password', ...credentials })
  const file = dockerConfigFile ?? commonFile
  if (file === undefined) return undefined
  const source = createDockerConfigSource({ file, hosts: [name, ...hosts, new URL(url).host] })
  const found = await source(AbortSignal.timeout(HELPER_MS))
  return found === undefined ? undefined : source
}
