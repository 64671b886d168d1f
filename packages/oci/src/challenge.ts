/** One challenge of a `WWW-Authenticate` header (RFC 9110 11.6.1). */
export interface Challenge {
  /** Lower case, such as `basic` or `bearer`. */
  readonly scheme: string
  /** Names in lower case; values unquoted. The first of several parameters of one name counts. */
  readonly params: ReadonlyMap<string, string>
}

/** The longest `WWW-Authenticate` header that is read, in characters. */
export const MAX_CHALLENGE_HEADER = 16_384

const TOKEN = String.raw`[!#$%&'*+.^_\`|~0-9A-Za-z-]+`
const SEPARATORS = /[ \t]*(?:,[ \t]*)*/y
const PARAM = new RegExp(
  String.raw`(${TOKEN})[ \t]*=[ \t]*(?:(${TOKEN})|"((?:[^"\\]|\\[^])*)")(?=[ \t]*(?:,|$))`,
  'y',
)
const SCHEME = new RegExp(String.raw`(${TOKEN})(?= |[ \t]*(?:,|$))`, 'y')
const TOKEN68 = /[ ]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y

/**
 * Reads the challenges of a `WWW-Authenticate` header: several of them, quoted strings and lists with empty elements
 * included. What follows a malformed part is left out; a header over {@link MAX_CHALLENGE_HEADER} reads as none.
 * A `token68` is skipped, as no scheme in use by registries carries one here.
 */
export function parseChallenges(header: string): Challenge[] {
  if (header.length > MAX_CHALLENGE_HEADER) return []
  const found: Challenge[] = []
  let params: Map<string, string> | undefined
  let at = 0
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const match = pattern.exec(header)
    if (match) at = pattern.lastIndex
    return match
  }
  for (;;) {
    take(SEPARATORS)
    if (at >= header.length) return found
    const param = params && take(PARAM)
    if (params && param) {
      const [, name = '', plain, quotedValue = ''] = param
      const key = name.toLowerCase()
      if (!params.has(key)) params.set(key, plain ?? quotedValue.replace(/\\([^])/g, '$1'))
      continue
    }
    const scheme = take(SCHEME)
    if (!scheme) return found
    params = new Map()
    found.push({ scheme: (scheme[1] ?? '').toLowerCase(), params })
    take(TOKEN68)
  }
}
