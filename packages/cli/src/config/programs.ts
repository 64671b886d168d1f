import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { PeerConfig, S3UpstreamConfig, UpstreamConfig } from '@darter/peer'
import type { SchedulerConfig } from '@darter/scheduler'
import { ConfigError, type Problem, shownValue } from './errors.ts'
import type { Resolved } from './resolve.ts'
import type { Environment, OptionKey } from './schema.ts'
import {
  type BucketTarget,
  ENDPOINT,
  mergeUpstreams,
  readEndpoint,
  type UpstreamSetting,
} from './upstreams.ts'

/** The part of its file system that a store may take where no quota is configured. */
const QUOTA = 0.2
const SEED_QUOTA = 0.8

/** The file with the cluster key: the configured one, or the data directory's own. */
export function clusterKeyFile({ settings }: Resolved): string {
  return settings['cluster-key-file'] ?? join(settings['data-dir'], 'cluster.key')
}

/** The file with the token of a scheduler's admin endpoint: the configured one, or the data directory's own. */
export function adminTokenFile({ settings }: Resolved): string {
  return settings['scheduler.admin.token-file'] ?? join(settings['data-dir'], 'admin.token')
}

/** What a scheduler is made from. */
export function schedulerConfig(resolved: Resolved): SchedulerConfig {
  const { settings } = resolved
  return {
    identityFile: join(settings['data-dir'], 'scheduler.key'),
    clusterKeyFile: clusterKeyFile(resolved),
    preheatDir: join(settings['data-dir'], 'preheats'),
    listen: {
      host: settings['scheduler.host'],
      port: settings['scheduler.port'],
      announce: settings['scheduler.announce'],
      maxPeers: settings['scheduler.max-peers'],
    },
    admin: {
      host: settings['scheduler.admin.host'],
      port: settings['scheduler.admin.port'],
      tokenFile: adminTokenFile(resolved),
    },
    graceMs: settings['grace-time'],
  }
}

/**
 * What a peer is made from. Reads the files that hold passwords.
 * @param env - where AWS tools look for what a bucket's own settings do not say.
 * @throws {ConfigError} when values that are right by themselves do not fit each other, or a password cannot be read.
 */
export async function peerConfig(resolved: Resolved, env: Environment = process.env): Promise<PeerConfig> {
  const { settings } = resolved
  const merged = mergeUpstreams(settings.upstreams, settings['default-upstreams'])
  const problems = [...conflicts(resolved, merged)]
  const read = await Promise.allSettled(merged.map(setting => upstreamConfig(setting, env)))
  for (const outcome of read) if (outcome.status === 'rejected') problems.push(...outcome.reason.problems)
  if (problems.length > 0) throw new ConfigError(problems)

  const schedulers = settings.schedulers
  return {
    identityFile: join(settings['data-dir'], 'peer.key'),
    door: {
      host: settings['door.host'],
      port: settings['door.port'],
      upstreamPorts: settings['door.upstreams'],
    },
    proxy: proxyConfig(resolved),
    admin: { host: settings['admin.host'], port: settings['admin.port'] },
    upstreams: read.flatMap(outcome => (outcome.status === 'fulfilled' ? [outcome.value] : [])),
    defaultUpstream: defaultUpstream(resolved, merged),
    urls: {
      allow: settings['url.allow'],
      caFile: settings['url.ca'],
      ignoredQuery: settings['url.ignore-query'],
    },
    dockerConfigFile: settings['docker-config'],
    swarm: {
      host: settings['swarm.host'],
      port: settings['swarm.port'],
      dataPort: settings['swarm.data-port'],
      announce: settings['swarm.announce'],
      schedulers,
      clusterKeyFile: schedulers.length === 0 ? undefined : clusterKeyFile(resolved),
      zone: settings.zone,
      seed: settings.seed,
    },
    store: {
      dir: join(settings['data-dir'], 'store'),
      quota: settings['store.quota'] ?? { diskFraction: settings.seed ? SEED_QUOTA : QUOTA },
      highWatermark: settings['store.high-watermark'],
      lowWatermark: settings['store.low-watermark'],
      verify: settings['store.verify'],
      scrubBytesPerSecond: settings['store.scrub-rate'],
    },
    tags: { ttlMs: settings['tags.ttl'], shareResolutions: settings['tags.share'] },
    access: { ttlMs: settings['access.ttl'] },
    transfers: {
      uploadBytesPerSecond: settings['transfer.upload-rate'],
      downloadBytesPerSecond: settings['transfer.download-rate'],
      originBytesPerSecond: settings['transfer.origin-rate'],
      maxUploads: settings['transfer.max-uploads'],
      maxDownloads: settings['transfer.max-downloads'],
      progressTimeoutMs: settings['transfer.progress-timeout'],
    },
    prefetch: {
      enabled: settings['prefetch.enabled'],
      bytesPerSecond: settings['prefetch.rate'],
      threshold: settings['prefetch.threshold'],
    },
    graceMs: settings['grace-time'],
  }
}

/** The file with the authority of the forward proxy. */
export function authorityFile({ settings }: Resolved): string {
  return join(settings['data-dir'], 'proxy-ca.pem')
}

function proxyConfig(resolved: Resolved): PeerConfig['proxy'] {
  const { settings } = resolved
  const port = settings['proxy.port']
  if (port === undefined) return undefined
  return {
    host: settings['proxy.host'],
    port,
    tunnelHosts: settings['proxy.tunnel-hosts'],
    interceptHosts: settings['proxy.intercept-hosts'],
    authorityFile: authorityFile(resolved),
  }
}

/** The configured default, else docker.io where it is allowed, else the only upstream there is. */
function defaultUpstream({ settings }: Resolved, merged: readonly UpstreamSetting[]): string | undefined {
  const given = settings['default-upstream']
  if (given !== undefined) return given
  if (merged.some(({ name }) => name === 'docker.io')) return 'docker.io'
  const forImages = merged.filter(({ target }) => target.kind !== 's3')
  return forImages.length === 1 ? forImages[0]?.name : undefined
}

/** What is wrong between values that are right by themselves. */
function* conflicts({ settings, sources }: Resolved, merged: readonly UpstreamSetting[]): Generator<Problem> {
  const named = (key: OptionKey) => `${key} (${sources.get(key)})`
  const names = merged.filter(({ target }) => target.kind !== 's3').map(({ name }) => name)
  const listed = names.length === 0 ? 'none' : names.join(', ')

  const owners = new Map<string, string>()
  for (const { name, hosts } of merged) {
    for (const word of [name, ...(hosts ?? [])]) {
      const owner = owners.get(word)
      if (owner !== undefined) {
        yield `${named('upstreams')}: ${word} stands for ${owner} and for ${name}; each name and host may stand for one upstream only`
      }
      owners.set(word, name)
    }
  }
  const fallback = settings['default-upstream']
  if (fallback !== undefined && !names.includes(fallback)) {
    yield `${named('default-upstream')}: ${fallback} is not one of the upstreams: ${listed}`
  }
  for (const { upstream } of settings['door.upstreams']) {
    if (!names.includes(upstream)) {
      yield `${named('door.upstreams')}: ${upstream} is not one of the upstreams: ${listed}`
    }
  }
  if (settings['proxy.port'] === undefined) {
    for (const key of ['proxy.tunnel-hosts', 'proxy.intercept-hosts'] as const) {
      if (settings[key].length > 0) yield `${named(key)} means nothing without proxy.port`
    }
  }
  for (const host of settings['proxy.intercept-hosts']) {
    if (!owners.has(host)) {
      yield `${named('proxy.intercept-hosts')}: ${host} is not a name or a host of one of the upstreams: ${listed}`
    }
  }
  if (settings['store.low-watermark'] >= settings['store.high-watermark']) {
    yield `${named('store.low-watermark')} must be less than ${named('store.high-watermark')}`
  }
}

async function upstreamConfig(setting: UpstreamSetting, env: Environment): Promise<UpstreamConfig> {
  const { name, hosts = [], target, username } = setting
  if (target.kind === 'oci-layout') return { kind: 'oci-layout', name, hosts, path: target.path }
  const password = setting.password ?? (await readPassword(setting))
  if (target.kind === 's3') return s3Upstream(setting, target, password, env)
  return {
    kind: 'registry',
    name,
    hosts,
    url: target.url,
    caFile: setting.ca,
    credentials: username === undefined || password === undefined ? undefined : { username, password },
    dockerConfigFile: setting.dockerConfig,
    maxConnections: setting.maxConnections,
    public: setting.public,
  }
}

/**
 * A bucket, with what AWS tools read from the environment where its own settings are silent: `AWS_ENDPOINT_URL_S3`,
 * `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, `AWS_SHARED_CREDENTIALS_FILE` and their kind.
 */
function s3Upstream(
  { name, username, ca, maxConnections }: UpstreamSetting,
  target: BucketTarget,
  password: string | undefined,
  env: Environment,
): UpstreamConfig {
  const { bucket, prefix } = target
  const region = target.region ?? (env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || 'us-east-1')
  const given = target.endpoint ?? (env['AWS_ENDPOINT_URL_S3'] || env['AWS_ENDPOINT_URL'] || undefined)
  const endpoint = given === undefined ? `https://s3.${region}.amazonaws.com` : readEndpoint(given)
  if (endpoint === undefined) {
    const variable = env['AWS_ENDPOINT_URL_S3'] ? 'AWS_ENDPOINT_URL_S3' : 'AWS_ENDPOINT_URL'
    throw new ConfigError([`upstream ${name}: ${variable} must be ${ENDPOINT}, not ${shownValue(given)}`])
  }
  // A certificate for every bucket fits names without dots alone.
  const pathStyle = target.pathStyle ?? (given !== undefined || bucket.includes('.'))
  return {
    kind: 's3',
    name,
    hosts: [],
    bucket,
    prefix,
    endpoint,
    region,
    pathStyle,
    caFile: ca,
    credentials: s3Credentials(target, username, password, env),
    maxConnections,
  }
}

/** The upstream's own, else those of its profile, else those of the environment, else those of a file that is there. */
function s3Credentials(
  { profile, credentialsFile }: BucketTarget,
  username: string | undefined,
  password: string | undefined,
  env: Environment,
): S3UpstreamConfig['credentials'] {
  if (username !== undefined && password !== undefined) {
    return { accessKeyId: username, secretAccessKey: password }
  }
  const file =
    credentialsFile ??
    (env['AWS_SHARED_CREDENTIALS_FILE'] || join(env['HOME'] || homedir(), '.aws', 'credentials'))
  const shared = { file, profile: profile ?? (env['AWS_PROFILE'] || 'default') }
  if (profile !== undefined || credentialsFile !== undefined) return shared
  const [accessKeyId, secretAccessKey] = [env['AWS_ACCESS_KEY_ID'], env['AWS_SECRET_ACCESS_KEY']]
  if (accessKeyId && secretAccessKey) {
    return { accessKeyId, secretAccessKey, sessionToken: env['AWS_SESSION_TOKEN'] || undefined }
  }
  return existsSync(file) ? shared : undefined
}

/** The first line of the upstream's password file; undefined when it has none. */
async function readPassword({ name, passwordFile }: UpstreamSetting): Promise<string | undefined> {
  if (passwordFile === undefined) return undefined
  try {
    const line = (await readFile(passwordFile, 'utf8')).split(/\r?\n/, 1)[0]
    if (line !== undefined && line !== '') return line
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new ConfigError([`upstream ${name}: cannot read password-file: ${reason}`], { cause })
  }
  throw new ConfigError([`upstream ${name}: the first line of password-file ${passwordFile} is empty`])
}
