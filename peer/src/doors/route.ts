import type { IncomingMessage } from 'node:http'
import { NameInvalidError } from '@darter/oci'
import type { HostForwarder } from '@darter/origin'
import { HostNotAllowedError } from '../proxy/errors.ts'
import { authorityText, type ForwardProxy, type ProxiedTarget } from '../proxy/index.ts'
import type { Upstream, Upstreams } from '../upstreams.ts'
import { type ChosenUpstream, chooseUpstream, upstreamOfHost } from './choose-upstream.ts'
import { RouteUnknownError } from './errors.ts'
import { headerOf } from './exchange.ts'
import { type ParsedTarget, parseRegistryPath, type RegistryTarget } from './registry-path.ts'

/** A request of a registry's API. */
export interface RegistryRoute {
  readonly kind: 'registry'
  readonly parsed: ParsedTarget
  readonly chosen: ChosenUpstream
}

/** What a request is about. */
export type Route =
  | RegistryRoute
  /** None of a registry's requests: the host itself answers it. */
  | { readonly kind: 'host'; readonly forwarder: HostForwarder; readonly target: string }

/** What the port is for that a request came in by. */
export interface PortRole {
  /** The upstream of requests that name none; undefined: the default one. */
  readonly upstream: Upstream | undefined
  /** Requests that are none of a registry's are passed on to the hosts that the forward proxy allows. */
  readonly passesOn: boolean
}

/** Where clients ask at any port whether it answers, such as with `ping_url`. */
export const HEALTH_PATH = '/healthz'

/**
 * Finds out what a request is about. `proxied`: what it asks of another host, if it does.
 * @throws what {@link parseRegistryPath}, {@link chooseUpstream} and {@link ForwardProxy.hostOf} throw.
 */
export function routeOf(
  request: IncomingMessage,
  proxied: ProxiedTarget | undefined,
  role: PortRole,
  rooms: {
    readonly upstreams: Upstreams
    readonly proxy: ForwardProxy
    /** Told of a registry's resource as soon as it is known, before it is found out whose. */
    readonly onTarget: (target: RegistryTarget) => void
  },
): Route {
  const { upstreams, proxy, onTarget } = rooms
  const parse = (target: string): ParsedTarget => {
    const parsed = parseRegistryPath(target)
    onTarget(parsed.target)
    return parsed
  }
  if (proxied === undefined) {
    const url = registryFormOf(request.url ?? '')
    const parsed = parse(url)
    const hints = {
      name: parsed.target.name,
      query: parsed.query,
      header: headerOf(request, 'x-dragonfly-registry'),
      port: role.upstream,
    }
    return checked({ kind: 'registry', parsed, chosen: chooseUpstream(hints, upstreams) }, url)
  }
  const { authority, target } = proxied
  const host = proxy.hostOf(authority)
  try {
    if (host.upstream === undefined) throw new RouteUnknownError(target)
    const parsed = parse(target)
    const chosen = upstreamOfHost(host.upstream, parsed.target.name)
    return checked({ kind: 'registry', parsed, chosen }, target)
  } catch (error) {
    // A registry's host may have other things below /v2/, such as a token service.
    if (!(error instanceof RouteUnknownError)) throw error
    if (!role.passesOn) throw error
    if (host.forwarder === undefined) throw new HostNotAllowedError(authorityText(authority))
    return { kind: 'host', forwarder: host.forwarder, target }
  }
}

const BARE_BLOB = /^\/blobs\/([^?]+)\/([0-9a-f]{64})(\?.*)?$/

/**
 * `/blobs/[<upstream>/]<repository>/<64 hex digits>`, as nydusd's `http-proxy` backend asks, in the form of a registry; any other
 * target as it is.
 */
function registryFormOf(url: string): string {
  const [, name, hex, query = ''] = BARE_BLOB.exec(url) ?? []
  return name === undefined || hex === undefined ? url : `/v2/${name}/blobs/sha256:${hex}${query}`
}

function checked(route: RegistryRoute, url: string): RegistryRoute {
  const { target } = route.parsed
  const { repository } = route.chosen
  if (target.kind === 'root' || target.kind === 'catalog') {
    if (repository !== undefined) throw new RouteUnknownError(url)
  } else if (repository === undefined) {
    throw new NameInvalidError(target.name)
  }
  return route
}
