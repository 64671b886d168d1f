import { homedir } from 'node:os'
import { join } from 'node:path'
import { LOG_LEVELS } from '@darter/runtime'
import {
  choice,
  count,
  duration,
  host,
  label,
  list,
  path,
  percentage,
  port,
  positiveDuration,
  queryParameter,
  rate,
  rateLimit,
  schedulerAddress,
  sizeOrFraction,
  toggle,
  tunnelHost,
  upstreamName,
  upstreamPort,
  urlPattern,
  type ValueType,
} from './types.ts'
import { upstream } from './upstreams.ts'

/** The programs that options are for. */
export type Program = 'peer' | 'scheduler'

/** The environment as a process has it. */
export type Environment = Readonly<Record<string, string | undefined>>

/** One row of the table of options. */
export interface Option<T> {
  readonly type: ValueType<T>
  /** The default as a file would say it; undefined for none. */
  default(env: Environment): unknown
  /** How help and documentation name the default. */
  readonly defaultText: string
  /** What it means, with its unit where the type does not say it. One or two sentences. */
  readonly description: string
  /** For a switch that is on by default: what turning it off means. */
  readonly off?: string
  /** Heading in help and documentation. */
  readonly group: string
  readonly programs: readonly Program[]
  /** The flag where it is not simply the key with dashes. */
  readonly flag?: string
  /** Set for an option that may be left without a value. */
  readonly unset?: true
}

type Row = Pick<Option<unknown>, 'description' | 'off' | 'group' | 'programs' | 'flag'>

/** An option with a default. */
function option<T>(
  type: ValueType<T>,
  fallback: string | number | boolean | readonly string[],
  row: Row,
): Option<T> {
  const text = [fallback].flat().join(', ')
  return { type, default: () => fallback, defaultText: text === '' ? 'none' : text, ...row }
}

/** An option that has no value unless it is given. */
function optional<T>(type: ValueType<T>, row: Row): Option<T | undefined> {
  return {
    type: {
      ...type,
      schema: context => type.schema(context),
      show: value => (value === undefined ? undefined : type.show(value)),
    },
    default: () => undefined,
    defaultText: 'none',
    unset: true,
    ...row,
  }
}

const PEER = ['peer'] as const
const SCHEDULER = ['scheduler'] as const
const BOTH = ['peer', 'scheduler'] as const
const LOOPBACK = '127.0.0.1'
/** Query parameters that say who may read and until when, not what: those of signed URLs at the usual places. */
const SIGNING_PARAMETERS = [
  'X-Amz-*',
  'X-Goog-*',
  'AWSAccessKeyId',
  'GoogleAccessId',
  'Signature',
  'Expires',
  'Policy',
  'Key-Pair-Id',
]

const general = { group: 'General', programs: BOTH }
const door = { group: 'Registry door and admin', programs: PEER }
const proxy = { group: 'Forward proxy', programs: PEER }
const upstreams = { group: 'Upstreams', programs: PEER }
const swarm = { group: 'Swarm', programs: PEER }
const store = { group: 'Store', programs: PEER }
const transfer = { group: 'Transfers and memories', programs: PEER }
const scheduler = { group: 'Scheduler', programs: SCHEDULER }

/**
 * Every option of the programs: from this table come the flags and their help, the environment variables, the keys
 * of the configuration file, and docs/reference/options.md. A key's dots are levels in the file.
 */
export const OPTIONS = {
  'data-dir': {
    type: path,
    default: (env: Environment) =>
      join(env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state'), 'darter'),
    defaultText: '$XDG_STATE_HOME/darter, or ~/.local/state/darter',
    description: 'Directory for identities, the cluster key and the store; made when it is missing.',
    ...general,
  },
  'log.level': option(choice(LOG_LEVELS), 'info', {
    description: 'The least important messages that are logged.',
    ...general,
  }),
  'log.format': option(choice(['auto', 'text', 'json']), 'auto', {
    description: 'Form of the log on standard error; auto: text on a terminal, else JSON.',
    ...general,
  }),
  'grace-time': option(positiveDuration, '10s', {
    description: 'After a request to stop, how long running responses may take to end.',
    ...general,
  }),

  'door.host': option(host, LOOPBACK, {
    description:
      'Address that the registry door listens on. Whoever reaches it can read what upstreams let everyone read.',
    ...door,
  }),
  'door.port': option(port, 5001, { description: 'Port of the registry door.', ...door }),
  'door.upstreams': option(list(upstreamPort), [], {
    description: 'A further port of the door where every request is for one upstream.',
    flag: '--door-upstream',
    ...door,
  }),
  'admin.host': option(host, LOOPBACK, {
    description: 'Address of the peer’s /healthz, /readyz and /metrics.',
    ...door,
  }),
  'admin.port': option(port, 5002, {
    description: 'Port of the peer’s /healthz, /readyz and /metrics.',
    ...door,
  }),

  'proxy.host': option(host, LOOPBACK, {
    description:
      'Address that the forward proxy listens on. Whoever reaches it can reach the hosts that it allows.',
    ...proxy,
  }),
  'proxy.port': optional(port, {
    description:
      'Port of the forward proxy, for clients such as nydusd that take a proxy. Without it there is none.',
    ...proxy,
  }),
  'proxy.tunnel-hosts': option(list(tunnelHost), [], {
    description:
      'A host that clients may reach through the forward proxy besides the upstreams, such as a token service. A name never leads to this machine or to a link-local address.',
    flag: '--proxy-tunnel-host',
    ...proxy,
  }),
  'proxy.intercept-hosts': option(list(upstreamName), [], {
    description:
      'A name or host of an upstream whose TLS ends at the forward proxy, so that https requests for it are served by the swarm. Its clients have to trust the authority that `darter ca` prints.',
    flag: '--proxy-intercept-host',
    ...proxy,
  }),

  upstreams: option(list(upstream), [], {
    description:
      'A registry or a directory that clients may pull from; replaces the one with the same name in the default list.',
    flag: '--upstream',
    ...upstreams,
  }),
  'default-upstreams': option(toggle, true, {
    description:
      'Allow the well-known public registries: docker.io, ghcr.io, quay.io, registry.k8s.io, gcr.io, mcr.microsoft.com, public.ecr.aws.',
    off: 'Allow none but the upstreams that are configured here.',
    ...upstreams,
  }),
  'default-upstream': optional(upstreamName, {
    description:
      'The upstream of requests that name none. Without it: docker.io if that is allowed, or the only one there is.',
    ...upstreams,
  }),
  'docker-config': optional(path, {
    description: 'A docker config.json with credentials for upstreams that have none of their own.',
    ...upstreams,
  }),

  'url.allow': option(list(urlPattern), [], {
    description:
      'A host that URLs may be read from, besides those of the upstreams. A host that is named may lie anywhere; *.DOMAIN reaches public and private networks, * public ones alone.',
    ...upstreams,
  }),
  'url.ca': optional(path, {
    description:
      'PEM file with the certificate authorities to trust for the hosts of url.allow instead of the system’s.',
    ...upstreams,
  }),
  'url.ignore-query': option(list(queryParameter), SIGNING_PARAMETERS, {
    description:
      'A query parameter that does not count for what the content of a URL is, such as a signature; a * at the end stands for anything.',
    ...upstreams,
  }),

  'swarm.host': option(host, LOOPBACK, {
    description: 'IP address that other peers reach this one at; 0.0.0.0 for every interface.',
    ...swarm,
  }),
  'swarm.port': option(port, 5003, {
    description: 'Port of libp2p: identity, control, neighbours.',
    ...swarm,
  }),
  'swarm.data-port': option(port, 5004, { description: 'Port for the bodies of chunks.', ...swarm }),
  'swarm.announce': option(list(host), [], {
    description: 'Address that other peers are told to dial instead of those that are bound.',
    ...swarm,
  }),
  schedulers: option(list(schedulerAddress), [], {
    description: 'Address of the scheduler with its id; without one the peer works alone.',
    flag: '--scheduler',
    ...swarm,
  }),
  zone: option(label, '', {
    description:
      'Name of this machine’s rack, room or network. Peers of one zone get most of their chunks from each other.',
    ...swarm,
  }),
  seed: option(toggle, false, {
    description:
      'Be a seed: fetch what nobody in the cluster has once for all, when the scheduler asks, and keep much for long.',
    ...swarm,
  }),
  'cluster-key-file': {
    type: path,
    default: (_env: Environment) => undefined,
    defaultText: 'cluster.key in the data directory',
    description:
      'File with the key that every peer of the cluster must hold; a scheduler makes it when it is missing.',
    unset: true,
    group: 'Swarm',
    programs: BOTH,
  } satisfies Option<string> as Option<string | undefined>,

  'store.quota': {
    ...optional(sizeOrFraction, {
      description: 'The most that the store holds: a size, or a percentage of its file system.',
      ...store,
    }),
    defaultText: '20%; 80% for a seed',
  },
  'store.high-watermark': option(percentage, '95%', {
    description: 'Part of the quota above which the least recently used blobs are evicted.',
    ...store,
  }),
  'store.low-watermark': option(percentage, '85%', {
    description: 'Part of the quota at which eviction ends.',
    ...store,
  }),
  'store.verify': option(choice(['once', 'always']), 'once', {
    description:
      'When a stored chunk’s hash is checked again: at its first read after a start, or at every read.',
    ...store,
  }),
  'store.scrub-rate': option(rate, '10MiB/s', {
    description: 'How fast stored chunks are re-read and checked in the background.',
    ...store,
  }),

  'transfer.upload-rate': option(rateLimit, 0, {
    description: 'Bytes per second that are sent to other peers, all together, such as 50MiB; 0: unlimited.',
    ...transfer,
  }),
  'transfer.download-rate': option(rateLimit, 0, {
    description:
      'Bytes per second that other peers and origins together may send here, such as 50MiB; 0: unlimited. What is already here goes to clients without a limit.',
    ...transfer,
  }),
  'transfer.origin-rate': option(rateLimit, 0, {
    description:
      'Bytes per second that origins may send here, over all upstreams and URLs, such as 50MiB; 0: unlimited.',
    ...transfer,
  }),
  'transfer.max-uploads': option(count(1, 1024), 32, {
    description:
      'Chunks sent to other peers at the same moment; with an upload rate at most one for each 128KiB/s of it, and at least 2.',
    ...transfer,
  }),
  'transfer.max-downloads': option(count(1, 256), 16, {
    description: 'Chunks fetched at the same moment, over all downloads; each takes up to 4 MiB of memory.',
    ...transfer,
  }),
  'transfer.progress-timeout': option(positiveDuration, '10s', {
    description:
      'An origin that sends no byte for this long is given up; the read goes on elsewhere or again.',
    ...transfer,
  }),
  'prefetch.enabled': option(toggle, true, {
    description:
      'Once clients have read enough of a blob in ranges, fetch the rest of it in the background: after what they wait for, and shared with the other peers.',
    off: 'Fetch no more of a blob than the ranges that clients ask for.',
    flag: '--prefetch',
    ...transfer,
  }),
  'prefetch.threshold': option(percentage, '10%', {
    description: 'The part of a blob that ranges have to have touched before the rest is fetched.',
    ...transfer,
  }),
  'prefetch.rate': option(rateLimit, 0, {
    description:
      'Bytes per second that are fetched in the background, over all blobs, such as 20MiB; 0: unlimited. A chunk comes at once.',
    ...transfer,
  }),
  'tags.ttl': option(duration, '10s', {
    description: 'How long a tag’s digest is used without asking the upstream again.',
    ...transfer,
  }),
  'tags.share': option(toggle, true, {
    description: 'Share what tags stand for with the other peers, through the scheduler.',
    off: 'Resolve tags without telling or asking the other peers.',
    ...transfer,
  }),
  'access.ttl': option(duration, '60s', {
    description: 'How long an upstream’s yes or no for a caller and a repository is remembered.',
    ...transfer,
  }),

  'scheduler.host': option(host, LOOPBACK, {
    description: 'IP address that peers reach the scheduler at; 0.0.0.0 for every interface.',
    ...scheduler,
  }),
  'scheduler.port': option(port, 5005, { description: 'Port of the scheduler.', ...scheduler }),
  'scheduler.announce': option(list(host), [], {
    description: 'Address that peers are told to dial instead of those that are bound.',
    ...scheduler,
  }),
  'scheduler.max-peers': option(count(1, 1_000_000), 10_000, {
    description:
      'Peers at the same moment; more are turned away and work alone. Each takes a file descriptor and about 0.1 MiB.',
    ...scheduler,
  }),
  'scheduler.admin.host': option(host, LOOPBACK, {
    description: 'Address of the scheduler’s /healthz, /readyz and /metrics.',
    ...scheduler,
  }),
  'scheduler.admin.port': option(port, 5006, {
    description: 'Port of the scheduler’s /healthz, /readyz, /metrics and /preheats.',
    ...scheduler,
  }),
  'scheduler.admin.token-file': {
    ...optional(path, {
      description:
        'File with the token that clients of the scheduler’s /preheats must send; a scheduler makes it when it is missing.',
      ...scheduler,
    }),
    defaultText: 'admin.token in the data directory',
  },
}

/** Name of an option: its path in the configuration file. */
export type OptionKey = keyof typeof OPTIONS

/** All options with their values. */
export type Settings = {
  readonly [K in OptionKey]: (typeof OPTIONS)[K] extends Option<infer T> ? T : never
}

/** The rows of {@link OPTIONS}, in order. */
export function optionRows(): readonly (readonly [OptionKey, Option<unknown>])[] {
  return Object.entries(OPTIONS) as (readonly [OptionKey, Option<unknown>])[]
}

/** The flag of an option, such as `--door-port`; for a toggle the positive form. */
export function flagOf(key: OptionKey, row: Option<unknown>): string {
  return row.flag ?? `--${key.replaceAll('.', '-')}`
}

/** The environment variable of an option, such as `DARTER_DOOR_PORT`. */
export function variableOf(key: OptionKey): string {
  return `DARTER_${key.replaceAll(/[.-]/g, '_').toUpperCase()}`
}
