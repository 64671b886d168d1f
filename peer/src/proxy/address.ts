import { TargetInvalidError } from '../doors/errors.ts'

/** A host and a port as a client wrote them. */
export interface Authority {
  /** Lower case; an IPv6 address in brackets. */
  readonly host: string
  readonly port: number
}

const AUTHORITY = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9])?)(?::([0-9]{1,5}))?$/

/** Reads `host` or `host:port`; undefined when it is neither. */
export function parseAuthority(text: string, defaultPort: number | undefined): Authority | undefined {
  const match = AUTHORITY.exec(text.toLowerCase())
  const [, host, digits] = match ?? []
  const port = digits === undefined ? defaultPort : Number(digits)
  if (host === undefined || port === undefined || port < 1 || port > 65_535) return undefined
  return { host, port }
}

/** `host:port` */
export function authorityText({ host, port }: Authority): string {
  return `${host}:${port}`
}

/** A request target in absolute form (RFC 9112 3.2.2), taken apart. */
export interface AbsoluteTarget {
  readonly authority: Authority
  /** Path and query as they came; begins with a slash. */
  readonly target: string
}

/**
 * Reads an absolute-form target; undefined for any other form.
 * @throws {TargetInvalidError} when its host is malformed or it holds credentials.
 */
export function parseAbsoluteForm(url: string): AbsoluteTarget | undefined {
  const match = /^(https?):\/\/([^/?#]*)(.*)$/is.exec(url)
  if (match === null) return undefined
  const [, scheme = '', text = '', rest = ''] = match
  const authority = parseAuthority(text, scheme.toLowerCase() === 'https' ? 443 : 80)
  if (authority === undefined) {
    const reason = text.includes('@')
      ? 'holds a user name or a password: they belong in an Authorization header'
      : 'names no host that could be asked'
    throw new TargetInvalidError(url, reason)
  }
  return { authority, target: rest.startsWith('/') ? rest : `/${rest}` }
}
