import type { Origin } from '@darter/origin'

/** A registry (or directory) that this peer may be asked for. */
export interface Upstream {
  /** The name clients know it by, lower case, such as `docker.io`. */
  readonly name: string
  /** Other names that clients use for it, such as `registry-1.docker.io`; lower case. */
  readonly hosts: readonly string[]
  readonly origin: Origin
  /** Everyone who reaches the door may read what is cached: the upstream is not asked about the caller. */
  readonly isPublic: boolean
  /**
   * Credentials are configured for it, so that its answers to a caller without any are this peer's own and not
   * everybody's: they are never shared in the cluster.
   */
  readonly hasCredentials: boolean
}

/** The allowed upstreams. Nothing else is ever contacted. */
export interface Upstreams {
  /** What a client that names none means. */
  readonly default: Upstream | undefined
  /** The upstream known by its name or a further one, in any case; undefined when it is not allowed. */
  find(name: string): Upstream | undefined
  /** The names that are allowed, further ones left out, in the order of the configuration. */
  names(): string[]
}

/**
 * The table of allowed upstreams. An upstream's own name wins over another's further name.
 * @throws {RangeError} when two upstreams have one name, or the default is not among them.
 */
export function createUpstreams(options: {
  readonly upstreams: readonly Upstream[]
  /** Any name of the default; none by default. */
  readonly default?: string | undefined
}): Upstreams {
  const table = new Map<string, Upstream>()
  for (const upstream of options.upstreams) {
    if (table.has(upstream.name)) throw new RangeError(`two upstreams are called ${upstream.name}`)
    table.set(upstream.name, upstream)
  }
  for (const upstream of options.upstreams) {
    for (const host of upstream.hosts) if (!table.has(host)) table.set(host, upstream)
  }
  const find = (name: string) => table.get(name.toLowerCase())
  const chosen = options.default === undefined ? undefined : find(options.default)
  if (options.default !== undefined && chosen === undefined) {
    throw new RangeError(`the default upstream ${options.default} is not one of the configured upstreams`)
  }
  return { default: chosen, find, names: () => options.upstreams.map(upstream => upstream.name) }
}
