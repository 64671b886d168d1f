import { isIP } from 'node:net'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { formatUrlPattern, parseUrlPattern, URL_PATTERN_FORM } from '@darter/oci'
import { isNameable } from '@darter/origin'
import {
  BYTES_FORM,
  DURATION_FORM,
  formatBytes,
  formatDuration,
  formatRate,
  parseBytes,
  parseDuration,
  parseRate,
  RATE_FORM,
} from '@darter/runtime'
import { z } from 'zod'

/** What reading a value may depend on besides the value. */
export interface ReadContext {
  /** Relative paths start here: the configuration file's directory, or the working directory. */
  readonly baseDir: string
}

/**
 * A type of option. Its schema takes what a flag or an environment variable (text) or a YAML file (text, number,
 * boolean, list) holds. The message of each of its issues completes the sentence "... is not".
 */
export interface ValueType<T> {
  schema(context: ReadContext): z.ZodType<T>
  /** What is allowed, such as `a port number, 0 to 65535`. */
  readonly allowed: string
  /** For help, such as `PORT`; empty for a switch that takes no value. */
  readonly placeholder: string
  /** The value as a YAML file would say it, secrets masked. */
  show(value: T): unknown
  /** May be given many times; a flag adds one, an environment variable holds several with commas between them. */
  readonly many?: boolean
}

/** Text, or a number as YAML reads it when it stands without quotes. */
const scalar = (allowed: string) => z.union([z.string(), z.number().transform(String)], { error: allowed })

/** A type that a function reads from text; it throws or returns undefined for text that is not allowed. */
function textType<T>(options: {
  readonly allowed: string
  readonly placeholder: string
  readonly read: (text: string, context: ReadContext) => T | undefined
  readonly show: (value: T) => unknown
}): ValueType<T> {
  const { allowed, placeholder, read, show } = options
  return {
    allowed,
    placeholder,
    show,
    schema: context =>
      scalar(allowed).transform((text, issues) => {
        try {
          const value = read(text, context)
          if (value !== undefined) return value
        } catch {
          // The reason is `allowed`, like for every other text that cannot be read.
        }
        issues.addIssue({ code: 'custom', message: allowed })
        return z.NEVER
      }),
  }
}

const matching = (pattern: RegExp, allowed: string, placeholder: string) =>
  textType({
    allowed,
    placeholder,
    read: text => (pattern.test(text) ? text : undefined),
    show: text => text,
  })

function wholeNumber(text: string, min: number, max: number): number | undefined {
  const value = Number(text)
  return /^\d{1,15}$/.test(text) && value >= min && value <= max ? value : undefined
}

/** A TCP port, 0 for any free one. */
export const port = textType({
  allowed: 'a port number, 0 to 65535 (0: any free one)',
  placeholder: 'PORT',
  read: text => wholeNumber(text, 0, 65_535),
  show: value => value,
})

/** A whole number between bounds. */
export const count = (min: number, max: number) =>
  textType({
    allowed: `a whole number, ${min} to ${max}`,
    placeholder: 'N',
    read: text => wholeNumber(text, min, max),
    show: value => value,
  })

/** An IP address or host name. IPv6 without brackets. */
export const host = matching(
  /^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|[0-9a-f:.]*:[0-9a-f:.]*)$/i,
  'an IP address or a host name',
  'HOST',
)

/** Text without control characters. */
export const label = matching(/^[\w.:/-]{0,64}$/, 'a word of up to 64 letters, digits or . _ - : /', 'NAME')

/** A path, made absolute. A leading `~/` stands for the home directory. */
export const path = textType({
  allowed: 'a path',
  placeholder: 'PATH',
  read: (text, { baseDir }) =>
    text === '' || text.includes('\0')
      ? undefined
      : text === '~' || text.startsWith('~/')
        ? join(homedir(), text.slice(1))
        : resolve(baseDir, text),
  show: text => text,
})

/** Milliseconds. */
export const duration = textType({
  allowed: DURATION_FORM,
  placeholder: 'DURATION',
  read: parseDuration,
  show: formatDuration,
})

/** Milliseconds, more than 0 and at most what a timer can wait for. */
export const positiveDuration = textType({
  allowed: `${DURATION_FORM}, from 1ms to 24d`,
  placeholder: 'DURATION',
  read: text => {
    const ms = parseDuration(text)
    return ms >= 1 && ms <= 24 * 86_400_000 ? ms : undefined
  },
  show: formatDuration,
})

/** Bytes per second. */
export const rate = textType({
  allowed: `${RATE_FORM}; 0 for none`,
  placeholder: 'RATE',
  read: parseRate,
  show: formatRate,
})

/** The least rate that transfers may be held to, in bytes per second: below it neighbours would take a peer for dead. */
const MIN_RATE_LIMIT = 64 * 1024

/** Bytes per second, 0 for no limit. */
export const rateLimit = textType({
  allowed: `${RATE_FORM}, at least ${formatRate(MIN_RATE_LIMIT)}; 0 for no limit`,
  placeholder: 'RATE',
  read: text => {
    const bytesPerSecond = parseRate(text)
    return bytesPerSecond === 0 || bytesPerSecond >= MIN_RATE_LIMIT ? bytesPerSecond : undefined
  },
  show: formatRate,
})

function fraction(text: string): number | undefined {
  const match = /^(\d{1,3}(?:\.\d{1,3})?)%$/.exec(text)
  const percent = Number(match?.[1])
  return percent > 0 && percent <= 100 ? percent / 100 : undefined
}

const showFraction = (value: number) => `${Number((value * 100).toFixed(3))}%`

/** A fraction, 0..1, written as a percentage. */
export const percentage = textType({
  allowed: 'a percentage, more than 0% and at most 100%, such as 85%',
  placeholder: 'PERCENT',
  read: fraction,
  show: showFraction,
})

/** Bytes, or a fraction of a disk. */
export type SizeOrFraction = { readonly bytes: number } | { readonly diskFraction: number }

/** A size, or a percentage of the disk. */
export const sizeOrFraction = textType<SizeOrFraction>({
  allowed: `${BYTES_FORM}, or a percentage of the disk such as 20%`,
  placeholder: 'SIZE',
  read: text => {
    const diskFraction = fraction(text)
    return diskFraction === undefined ? { bytes: parseBytes(text) } : { diskFraction }
  },
  show: quota => ('bytes' in quota ? formatBytes(quota.bytes) : showFraction(quota.diskFraction)),
})

/** One of a few words. */
export function choice<const W extends string>(words: readonly W[]): ValueType<W> {
  return textType({
    allowed: `one of ${words.join(', ')}`,
    placeholder: words.join('|'),
    read: text => words.find(word => word === text),
    show: word => word,
  })
}

/** Yes or no: `true` or `false`, in YAML without quotes. */
export const toggle: ValueType<boolean> = {
  allowed: 'true or false',
  placeholder: '',
  schema: () =>
    z.union([z.boolean(), z.enum(['true', 'false']).transform(text => text === 'true')], {
      error: 'true or false',
    }),
  show: value => value,
}

/** A libp2p multiaddr of a scheduler: TCP, ending in its id. */
export const schedulerAddress = matching(
  /^\/(?:ip4\/[\d.]{7,15}|ip6\/[0-9a-f:]{2,39}|dns[46]?\/[a-z0-9.-]{1,253})\/tcp\/\d{1,5}\/p2p\/[1-9A-Za-z]{20,80}$/i,
  'a multiaddr that ends in /p2p/ and the id of the scheduler, such as /ip4/192.0.2.1/tcp/5005/p2p/12D3Koo... (`darter scheduler` prints its own)',
  'MULTIADDR',
)

/** The name of an upstream in the path form and in `?ns=`. */
export const upstreamName = matching(
  /^[a-z0-9](?:[a-z0-9.-]{0,126}[a-z0-9])?(?::\d{1,5})?$/,
  'a name of an upstream: lower-case letters, digits, dots and dashes, such as docker.io',
  'NAME',
)

/** A port of its own for an upstream, `5010=ghcr.io`. */
export const upstreamPort = textType({
  allowed: 'PORT=NAME with a port number and the name of an upstream, such as 5010=ghcr.io',
  placeholder: 'PORT=NAME',
  read: text => {
    const at = text.indexOf('=')
    const number = wholeNumber(text.slice(0, at), 0, 65_535)
    const upstream = text.slice(at + 1)
    return at > 0 && number !== undefined && upstreamName.schema({ baseDir: '' }).safeParse(upstream).success
      ? { port: number, upstream }
      : undefined
  },
  show: ({ port, upstream }) => `${port}=${upstream}`,
})

/** Which hosts URLs may be read from. */
export const urlPattern = textType({
  allowed: `a host that URLs may be read from: ${URL_PATTERN_FORM}`,
  placeholder: 'HOST',
  read: parseUrlPattern,
  show: formatUrlPattern,
})

/** The name of a query parameter, with `*` at the end for all that begin so. */
export const queryParameter = matching(
  /^[\w.~-]{1,64}\*?$/,
  'the name of a query parameter, such as X-Amz-*',
  'NAME',
)

/** A host that the forward proxy may lead to, as an origin: `auth.docker.io`, `10.0.0.5:8443`, `http://10.0.0.5:8080`. */
export const tunnelHost = textType({
  allowed:
    'HOST or HOST:PORT (443 where none is given), or http://HOST[:PORT], with no path; no link-local address',
  placeholder: 'HOST',
  read: text => {
    const url = new URL(text.includes('://') ? text : `https://${text}`)
    const bare = url.pathname === '/' && url.search === '' && url.hash === '' && url.username === ''
    const host = url.hostname.replace(/^\[|\]$/g, '')
    const allowed = isIP(host) === 0 || isNameable(host)
    return bare && allowed && /^https?:$/.test(url.protocol) ? url.origin : undefined
  },
  show: origin => origin.replace('https://', ''),
})

const MAX_LIST = 256

/** Many values of one type, at most 256. */
export function list<T>(item: ValueType<T>): ValueType<readonly T[]> {
  return {
    allowed: item.allowed,
    placeholder: item.placeholder,
    many: true,
    schema: context =>
      z.preprocess(
        raw => (Array.isArray(raw) ? raw : [raw]),
        z.array(item.schema(context)).max(MAX_LIST, { error: `a list of at most ${MAX_LIST}` }),
      ),
    show: values => values.map(value => item.show(value)),
  }
}
