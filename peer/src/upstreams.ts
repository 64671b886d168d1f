import type { Origin } from '@darter/origin'

/** A registry (or directory) that this peer may be asked for. */
export interface Upstream {
  /** The name clients know it by, lower case, such as `docker.io`. */
  readonly name: string
  readonly origin: Origin
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
  /** The upstream known by a name or an alias, in any case; undefined when it is not allowed. */
  find(name: string): Upstream | undefined
  /** The names that are allowed, aliases left out, in the order of the configuration. */
  names(): string[]
}

/** Other names of well-known registries: the hosts that really serve them. */
export const WELL_KNOWN_ALIASES: Readonly<Record<string, readonly string[]>> = {
  'docker.io': ['index.docker.io', 'registry-1.docker.io'],
}

/**
 * The table of allowed upstreams. A configured upstream's own name wins over another's alias.
 * @throws {RangeError} when two upstreams have one name, or the default is not among them.
 */
export function createUpstreams(options: {
  readonly upstreams: readonly Upstream[]
  /** Name or alias of the default; none by default. */
  readonly default?: string | undefined
  /** More names by upstream name; {@link WELL_KNOWN_ALIASES} by default. */
  readonly aliases?: Readonly<Record<string, readonly string[]>>
}): Upstreams {
  const table = new Map<string, Upstream>()
  for (const upstream of options.upstreams) {
    const name = upstream.name.toLowerCase()
    if (table.has(name)) throw new RangeError(`two upstreams are called ${name}`)
    table.set(name, upstream)
  }
  for (const [name, aliases] of Object.entries(options.aliases ?? WELL_KNOWN_ALIASES)) {
    const upstream = table.get(name)
    if (upstream === undefined) continue
    for (const alias of aliases) if (!table.has(alias)) table.set(alias, upstream)
  }
  const find = (name: string) => table.get(name.toLowerCase())
  const chosen = options.default === undefined ? undefined : find(options.default)
  if (options.default !== undefined && chosen === undefined) {
    throw new RangeError(`the default upstream ${options.default} is not one of the configured upstreams`)
  }
  return { default: chosen, find, names: () => options.upstreams.map(upstream => upstream.name) }
}
