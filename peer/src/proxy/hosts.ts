import { isIP } from 'node:net'
import { type HostForwarder, createHostForwarder, isOutward } from '@darter/origin'
import type { SiteOptions } from '../urls/sites.ts'
import type { Upstream, Upstreams } from '../upstreams.ts'
import { type Authority, authorityText, parseAuthority } from './address.ts'

/** A host that clients may ask for by its own name. */
export interface ProxyHost {
  /** What the registry API of this host is answered by; undefined: it is no registry. */
  readonly upstream: Upstream | undefined
  /** Where requests go that are none of a registry's; undefined: nowhere. */
  readonly forwarder: HostForwarder | undefined
  /** The port that a tunnel may lead to; undefined: there is no tunnel. */
  readonly tunnelPort: number | undefined
  /** TLS for it ends at the proxy. */
  readonly intercepted: boolean
}

/** The allow list of the forward proxy. */
export interface ProxyHosts {
  /** The host behind what a client wrote; undefined when it may not be reached. */
  find(authority: Authority): ProxyHost | undefined
  /** Ends the connections to all hosts. */
  close(): Promise<void>
}

/** Where an upstream's registry really is. */
export interface UpstreamAddress {
  readonly name: string
  /** Undefined for what is no registry. */
  readonly url: URL | undefined
  /** PEM of its certificate authorities; undefined: the system's. */
  readonly ca: string | undefined
}

const HTTP = 80
const HTTPS = 443

/**
 * The upstreams by all of their names and by their URLs' hosts, and what the operator lists besides. Plain HTTP for a
 * host with TLS is upgraded: it goes on by https. Hosts on this machine, and link-local ones, are reached only as the
 * registries that they are, unless they are listed by address.
 */
export function createProxyHosts(options: {
  readonly upstreams: Upstreams
  readonly addresses: readonly UpstreamAddress[]
  /** Origins (`https://host[:port]`, or `http://`) that are passed on to, or tunnelled to. */
  readonly tunnelHosts: readonly URL[]
  /** Names or hosts of upstreams whose TLS ends at the proxy. */
  readonly interceptHosts: readonly string[]
  /** What the connections to them are made with. */
  readonly site: SiteOptions
}): ProxyHosts {
  const { upstreams, addresses, tunnelHosts, interceptHosts, site } = options
  const table = new Map<string, ProxyHost>()
  const forwarders = new Map<string, HostForwarder>()
  const forwarder = (url: URL, ca?: string): HostForwarder => {
    const made = forwarders.get(url.origin) ?? createHostForwarder({ ...site, url, ca })
    forwarders.set(url.origin, made)
    return made
  }
  const intercepts = new Set(interceptHosts.map(host => host.toLowerCase()))

  for (const { name, url, ca } of addresses) {
    const upstream = upstreams.find(name)
    if (upstream === undefined) continue
    const reachable =
      url !== undefined && mayPass(url.hostname) ? forwarder(new URL(url.origin), ca) : undefined
    const names = [upstream.name, ...upstream.hosts, ...(url === undefined ? [] : [url.host])]
    for (const alias of names) {
      const bare = parseAuthority(alias, HTTPS)
      if (bare === undefined) continue
      const host: ProxyHost = {
        upstream,
        forwarder: reachable,
        tunnelPort: url === undefined || !mayPass(bare.host) ? undefined : bare.port,
        intercepted: intercepts.has(alias) || intercepts.has(upstream.name),
      }
      const hasPort = parseAuthority(alias, undefined) !== undefined
      const ports = hasPort ? [bare.port] : [HTTPS, HTTP]
      for (const port of ports) {
        const key = authorityText({ host: bare.host, port })
        if (!table.has(key)) table.set(key, host)
      }
    }
  }
  for (const url of tunnelHosts) {
    const secure = url.protocol === 'https:'
    const port = url.port === '' ? (secure ? HTTPS : HTTP) : Number(url.port)
    for (const one of secure && port === HTTPS ? [HTTPS, HTTP] : [port]) {
      const key = authorityText({ host: url.hostname, port: one })
      const known = table.get(key)
      table.set(key, {
        upstream: known?.upstream,
        intercepted: known?.intercepted === true,
        forwarder: forwarder(url),
        tunnelPort: port,
      })
    }
  }
  return {
    find: authority => table.get(authorityText(authority)),
    close: async () => {
      await Promise.all([...forwarders.values()].map(one => one.close()))
    },
  }
}

/** Names are judged when they are resolved. */
function mayPass(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '')
  return isIP(host) === 0 || isOutward(host)
}
