import { allowedBy, type UrlPattern } from '@darter/oci'
import { createUrlSite, type UrlSite, type UrlSiteOptions } from '@darter/origin'
import type { Logger } from '@darter/runtime'
import { LRUCache } from 'lru-cache'
import { UrlInvalidError, UrlNotAllowedError } from './errors.ts'

/** A site that may be read, and how far it is trusted. */
export interface AllowedSite {
  readonly site: UrlSite
  /** Scheme and host, for logs. */
  readonly place: string
  /**
   * The configuration names it, so that its word for which digest its content has counts as much as an upstream's. Not so
   * where anything is allowed.
   */
  readonly named: boolean
  /** Requests carry credentials of this peer: what it answers is not everybody's. */
  readonly hasCredentials: boolean
  /** The caller's own headers go there. */
  readonly takesHeaders: boolean
}

/** The sites that may be read. Nothing else is ever contacted, but for where they redirect to. */
export interface Sites {
  /**
   * The site of a URL, and the URL as the site is asked for it.
   * @throws {UrlNotAllowedError}
   */
  find(url: URL): AllowedSite & { readonly url: URL }
  close(): Promise<void>
}

/** A site whose place the configuration gives. */
export interface ConfiguredSite {
  /** `https://host[:port]`. */
  readonly origin: string
  readonly ca: string | undefined
}

/** Objects that may be read by `s3://` URLs. */
export interface Bucket {
  readonly bucket: string
  /** Only objects whose keys begin so. */
  readonly prefix: string
  readonly site: UrlSite
  urlOf(key: string, versionId: string | undefined): URL
  readonly hasCredentials: boolean
}

/** What all sites are made with. */
export type SiteOptions = Pick<UrlSiteOptions, 'loopMarker' | 'limits' | 'throttle' | 'onRequest'>

/** Connections to more hosts than this are not kept. */
const MAX_SITES = 64
/** The highest rank (see address-guard.ts) of a host that a pattern allows without naming it: public, or private too. */
const ADDRESS_LIMITS = { any: 0, domain: 1, host: undefined } as const

export function createSites(options: {
  readonly allow: readonly UrlPattern[]
  /** PEM of authorities for hosts that only a pattern allows; the system's when left out. */
  readonly ca: string | undefined
  /** Where upstreams are: allowed without a pattern, and verified like them. */
  readonly configured: readonly ConfiguredSite[]
  readonly buckets: readonly Bucket[]
  readonly site: SiteOptions
  readonly log: Logger
}): Sites {
  const { allow, ca, configured, buckets, log } = options
  /** Those with requests under way too, until they have ended. */
  const open = new Set<UrlSite>()
  const sites = new LRUCache<string, AllowedSite>({
    max: MAX_SITES,
    dispose: ({ site, place }) => {
      site
        .retire()
        .catch(error => log.warn({ err: error, place }, 'connections did not end well'))
        .finally(() => open.delete(site))
    },
  })

  const create = (url: URL): AllowedSite => {
    const own = configured.find(({ origin }) => origin === url.origin)
    const pattern = allowedBy(allow, url)
    if (own === undefined && pattern === undefined) {
      throw new UrlNotAllowedError(url.origin, `the option --url-allow ${patternFor(url)}`)
    }
    const kind = own === undefined ? (pattern?.kind ?? 'any') : 'host'
    const site = createUrlSite({
      ...options.site,
      site: new URL(url.origin),
      ca: own === undefined ? ca : own.ca,
      addressLimit: ADDRESS_LIMITS[kind],
    })
    open.add(site)
    return { site, place: url.origin, named: kind !== 'any', hasCredentials: false, takesHeaders: true }
  }

  return {
    find: url => {
      if (url.protocol === 's3:') return findObject(url, buckets)
      let found = sites.get(url.origin)
      if (found === undefined) {
        found = create(url)
        sites.set(url.origin, found)
      }
      return { ...found, url }
    },
    close: async () => {
      await Promise.all([...open, ...buckets.map(({ site }) => site)].map(site => site.close()))
    },
  }
}

function patternFor(url: URL): string {
  return url.protocol === 'http:' ? url.origin : url.host
}

/** The object of an `s3://bucket/key` URL. @throws {UrlNotAllowedError} {@link UrlInvalidError} */
function findObject(url: URL, buckets: readonly Bucket[]): AllowedSite & { readonly url: URL } {
  const place = `s3://${url.hostname}`
  const key = keyOf(url)
  const found = buckets.find(({ bucket, prefix }) => bucket === url.hostname && key.startsWith(prefix))
  if (found === undefined) throw new UrlNotAllowedError(place, `the option --upstream NAME=${place}`)
  const versionId = url.searchParams.get('versionId') ?? undefined
  const { site, hasCredentials, urlOf } = found
  return { site, place, named: true, hasCredentials, takesHeaders: false, url: urlOf(key, versionId) }
}

function keyOf(url: URL): string {
  const shown = `s3://${url.hostname}`
  // Other queries are other requests than for an object's bytes.
  const others = [...url.searchParams.keys()].filter(name => name !== 'versionId')
  if (others.length > 0) throw new UrlInvalidError(shown, 'may have no query but versionId')
  let key: string
  try {
    key = decodeURIComponent(url.pathname.slice(1))
  } catch {
    throw new UrlInvalidError(shown, 'is not well percent-encoded')
  }
  if (key === '') throw new UrlInvalidError(shown, 'names a bucket and no object in it')
  const parts = key.split('/')
  if (parts.includes('.') || parts.includes('..'))
    throw new UrlInvalidError(shown, 'has a dot as a part of its path')
  return key
}
