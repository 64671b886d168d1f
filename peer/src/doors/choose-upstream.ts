import { parseRepositoryName, type RepositoryName } from '@darter/oci'
import type { Upstream, Upstreams } from '../upstreams.ts'
import { TargetInvalidError, UpstreamNotAllowedError, UpstreamNotNamedError } from './errors.ts'

/** How a client said which upstream it means; what is sent back to it must lead through the door in the same form. */
export interface AddressForm {
  /** What stood before the repository in the path, such as `docker.io/`; '' for nothing. */
  readonly prefix: string
  /** The value of the query parameter `ns`. */
  readonly ns: string | undefined
}

/** The upstream that a request is for. */
export interface ChosenUpstream {
  readonly upstream: Upstream
  /** Below the upstream; undefined where the request names none (`/v2/`). */
  readonly repository: RepositoryName | undefined
  readonly form: AddressForm
}

/** What a request says about its upstream. */
export interface UpstreamHints {
  /** From the path, still with the registry's name if that stands before it. */
  readonly name: string | undefined
  readonly query: URLSearchParams
  /** The value of `X-Dragonfly-Registry`: a host or a URL. */
  readonly header: string | undefined
  /** The upstream of the port that the request came in by. */
  readonly port: Upstream | undefined
}

/**
 * Finds the upstream, in this order: the path, `?ns=`, `X-Dragonfly-Registry`, the port, the default. A hint that names
 * an upstream which is not allowed is refused and never falls through to the next one.
 * @throws {UpstreamNotAllowedError} {@link UpstreamNotNamedError}
 * @throws {NameInvalidError} {@link TargetInvalidError}
 */
export function chooseUpstream(hints: UpstreamHints, upstreams: Upstreams): ChosenUpstream {
  const ns = singleNs(hints)
  const [first, rest] = splitFirst(hints.name)
  const named = first === undefined ? undefined : upstreams.find(first)
  if (named !== undefined && first !== undefined) {
    const repository = rest === undefined ? undefined : parseRepositoryName(expand(named, rest))
    return { upstream: named, repository, form: { prefix: `${first}/`, ns } }
  }
  if (first?.includes(':')) throw new UpstreamNotAllowedError(first)
  const upstream = fromHints(hints, ns, upstreams) ?? fromDefault(first, upstreams)
  const repository = hints.name === undefined ? undefined : parseRepositoryName(hints.name)
  return { upstream, repository, form: { prefix: '', ns } }
}

/**
 * The upstream that a client asks by the host's own name, as through a forward proxy: nothing in the path or the query
 * names another one.
 * @throws {NameInvalidError}
 */
export function upstreamOfHost(upstream: Upstream, name: string | undefined): ChosenUpstream {
  const repository = name === undefined ? undefined : parseRepositoryName(expand(upstream, name))
  return { upstream, repository, form: { prefix: '', ns: undefined } }
}

function singleNs({ query, name = '' }: Pick<UpstreamHints, 'query' | 'name'>): string | undefined {
  const values = new Set(query.getAll('ns'))
  if (values.size > 1) throw new TargetInvalidError(`/v2/${name}`, 'names two registries in "ns"')
  const [value] = values
  return value === '' ? undefined : value
}

/** The first component and what follows it; only the first for an API root with a host. */
function splitFirst(name: string | undefined): [string | undefined, string | undefined] {
  if (name === undefined) return [undefined, undefined]
  const slash = name.indexOf('/')
  return slash < 0 ? [name, undefined] : [name.slice(0, slash), name.slice(slash + 1)]
}

/** Docker Hub keeps its own images under `library/`, and clients may leave that out. */
function expand(upstream: Upstream, repository: string): string {
  return upstream.name === 'docker.io' && !repository.includes('/') ? `library/${repository}` : repository
}

function fromHints(hints: UpstreamHints, ns: string | undefined, upstreams: Upstreams): Upstream | undefined {
  const hint = ns ?? (hints.header === undefined ? undefined : hostOf(hints.header))
  if (hint === undefined) return hints.port
  const upstream = upstreams.find(hint)
  if (upstream === undefined) throw new UpstreamNotAllowedError(hint)
  return upstream
}

function hostOf(header: string): string {
  const text = header.trim()
  if (!text.includes('://')) return text.replace(/\/.*$/, '')
  return URL.canParse(text) ? new URL(text).host : text
}

function fromDefault(first: string | undefined, upstreams: Upstreams): Upstream {
  if (first !== undefined && looksLikeHost(first)) throw new UpstreamNotAllowedError(first)
  if (upstreams.default === undefined) throw new UpstreamNotNamedError(upstreams.names())
  return upstreams.default
}

/** As image references are read: a first component with a dot, or `localhost`, is a registry. */
function looksLikeHost(component: string): boolean {
  return component.includes('.') || component === 'localhost'
}
