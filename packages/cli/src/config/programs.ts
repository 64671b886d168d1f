import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PeerConfig, UpstreamConfig } from '@darter/peer'
import type { SchedulerConfig } from '@darter/scheduler'
import { ConfigError, type Problem } from './errors.ts'
import type { Resolved } from './resolve.ts'
import type { OptionKey } from './schema.ts'
import { mergeUpstreams, type UpstreamSetting } from './upstreams.ts'

/** The file with the cluster key: the configured one, or the data directory's own. */
export function clusterKeyFile({ settings }: Resolved): string {
  return settings['cluster-key-file'] ?? join(settings['data-dir'], 'cluster.key')
}

/** What a scheduler is made from. */
export function schedulerConfig(resolved: Resolved): SchedulerConfig {
  const { settings } = resolved
  return {
    identityFile: join(settings['data-dir'], 'scheduler.key'),
    clusterKeyFile: clusterKeyFile(resolved),
    listen: {
      host: settings['scheduler.host'],
      port: settings['scheduler.port'],
      announce: settings['scheduler.announce'],
    },
    admin: { host: settings['scheduler.admin.host'], port: settings['scheduler.admin.port'] },
    graceMs: settings['grace-time'],
  }
}

/**
 * What a peer is made from. Reads the files that hold passwords.
 * @throws {ConfigError} when values that are right by themselves do not fit each other, or a password cannot be read.
 */
export async function peerConfig(resolved: Resolved): Promise<PeerConfig> {
  const { settings } = resolved
  const merged = mergeUpstreams(settings.upstreams, settings['default-upstreams'])
  const problems = [...conflicts(resolved, merged)]
  const read = await Promise.allSettled(merged.map(upstreamConfig))
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
    },
    store: {
      dir: join(settings['data-dir'], 'store'),
      quota: settings['store.quota'],
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
    graceMs: settings['grace-time'],
  }
}

/** The configured default, else docker.io where it is allowed, else the only upstream there is. */
function defaultUpstream({ settings }: Resolved, merged: readonly UpstreamSetting[]): string | undefined {
  const given = settings['default-upstream']
  if (given !== undefined) return given
  if (merged.some(({ name }) => name === 'docker.io')) return 'docker.io'
  return merged.length === 1 ? merged[0]?.name : undefined
}

/** What is wrong between values that are right by themselves. */
function* conflicts({ settings, sources }: Resolved, merged: readonly UpstreamSetting[]): Generator<Problem> {
  const named = (key: OptionKey) => `${key} (${sources.get(key)})`
  const names = merged.map(({ name }) => name)
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
  if (settings['store.low-watermark'] >= settings['store.high-watermark']) {
    yield `${named('store.low-watermark')} must be less than ${named('store.high-watermark')}`
  }
}

async function upstreamConfig(setting: UpstreamSetting): Promise<UpstreamConfig> {
  const { name, hosts = [], target, username } = setting
  if (target.kind === 'oci-layout') return { kind: 'oci-layout', name, hosts, path: target.path }
  const password = setting.password ?? (await readPassword(setting))
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
