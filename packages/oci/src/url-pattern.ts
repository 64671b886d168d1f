/** Which URLs the configuration allows: scheme, host and port. */
export interface UrlPattern {
  readonly scheme: 'https:' | 'http:'
  /** `host`: that very host; `domain`: every host below it; `any`: every host. */
  readonly kind: 'host' | 'domain' | 'any'
  /** Lower case, IPv6 in brackets; '' for `any`. */
  readonly host: string
  /** '' for the scheme's own. */
  readonly port: string
}

/** What {@link parseUrlPattern} takes. */
export const URL_PATTERN_FORM =
  'HOST, *.DOMAIN or *, with http:// before it where TLS is not wanted, and :PORT'

const PATTERN =
  /^(?:(https?):\/\/)?(\*|(?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\])(?::(\d{1,5}))?\/?$/

/** Reads a pattern of allowed URLs; undefined when it is none. */
export function parseUrlPattern(text: string): UrlPattern | undefined {
  const match = PATTERN.exec(text.toLowerCase())
  if (match === null) return undefined
  const [, scheme = 'https', host = '', port = ''] = match
  const kind = host === '*' ? 'any' : host.startsWith('*.') ? 'domain' : 'host'
  const name = kind === 'any' ? '' : kind === 'domain' ? host.slice(2) : host
  const probe = `${scheme}://${name === '' ? 'any' : name}${port === '' ? '' : `:${port}`}`
  if (!URL.canParse(probe)) return undefined
  // As a URL says it: an IPv6 address shortened, the scheme's own port left out.
  const url = new URL(probe)
  return {
    scheme: scheme === 'http' ? 'http:' : 'https:',
    kind,
    host: kind === 'any' ? '' : url.hostname,
    port: url.port,
  }
}

/** The pattern as {@link parseUrlPattern} takes it. */
export function formatUrlPattern({ scheme, kind, host, port }: UrlPattern): string {
  const name = kind === 'any' ? '*' : kind === 'domain' ? `*.${host}` : host
  return `${scheme === 'http:' ? 'http://' : ''}${name}${port === '' ? '' : `:${port}`}`
}

/** The narrowest of the patterns that allow a URL; undefined when none does. */
export function allowedBy(patterns: readonly UrlPattern[], url: URL): UrlPattern | undefined {
  const fitting = patterns.filter(({ scheme, kind, host, port }) => {
    if (url.protocol !== scheme || url.port !== port) return false
    if (kind === 'any') return true
    return kind === 'host' ? url.hostname === host : url.hostname.endsWith(`.${host}`)
  })
  const kinds = ['host', 'domain', 'any'] as const
  return kinds.map(kind => fitting.find(pattern => pattern.kind === kind)).find(found => found !== undefined)
}
