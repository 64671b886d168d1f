const ABSOLUTE = /^([a-z][a-z0-9+.-]*):\/\/([^/?#\\]*)(.*)$/is
const HOST = /^(?:\[[0-9a-f:.]+\]|[\w.-]+)(?::\d{1,5})?$/i
const QUERY = /(?:[?#]|%(?:25)*(?:3f|23)).*$/is
/** What stands before a user name and a password, or after them, however often it is percent-encoded. */
const CREDENTIALS = /@|%(?:25)*40|(?::|%(?:25)*3a)(?:\/|%(?:25)*2f){2}/i
const HIDDEN = '...'

/**
 * What messages and logs may show of a request target or a URL that a client sent: of one with a scheme that and the host, of a
 * path no query, and nothing of what may hold a user name or a password.
 */
export function shownTarget(text: string): string {
  const [, scheme, authority = '', rest = ''] = ABSOLUTE.exec(text) ?? []
  if (scheme !== undefined) {
    const host = authority.slice(authority.lastIndexOf('@') + 1)
    // A password with a bare slash or question mark in it reaches beyond what looks like the host.
    return `${scheme}://${HOST.test(host) && !rest.includes('@') ? host : HIDDEN}`
  }
  const plain = text.replace(QUERY, '')
  if (plain.startsWith('/')) return CREDENTIALS.test(plain) ? `/${HIDDEN}` : plain
  return /^[\w./-]*$/.test(plain) || HOST.test(plain) ? plain : HIDDEN
}

/** The bytes that percent-encoding stands for; a % that begins none stands for itself (WHATWG URL 1.3). */
export function percentDecoded(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8').toString('latin1')
  const plain = bytes.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
  return Buffer.from(plain, 'latin1')
}
