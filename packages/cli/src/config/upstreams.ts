import { z } from 'zod'
import { count, path, type ReadContext, upstreamName, type ValueType } from './types.ts'

/** A bucket of an S3-compatible object store; undefined is what nothing is said of. */
export interface BucketTarget {
  readonly kind: 's3'
  readonly bucket: string
  /** '', or ends in a slash. */
  readonly prefix: string
  /** `https://host[:port]`. */
  readonly endpoint?: string | undefined
  readonly region?: string | undefined
  readonly pathStyle?: boolean | undefined
  readonly profile?: string | undefined
  readonly credentialsFile?: string | undefined
}

/** An upstream as the configuration says it, before its secrets are read from their files. */
export interface UpstreamSetting {
  readonly name: string
  readonly target:
    | { readonly kind: 'registry'; readonly url: string }
    | { readonly kind: 'oci-layout'; readonly path: string }
    | BucketTarget
  /** Undefined: those that the default list has for the name. */
  readonly hosts: readonly string[] | undefined
  readonly ca: string | undefined
  readonly username: string | undefined
  readonly password: string | undefined
  readonly passwordFile: string | undefined
  readonly dockerConfig: string | undefined
  /** Connections to one host at the same moment; undefined: the default. */
  readonly maxConnections: number | undefined
  readonly public: boolean
}

const TARGET =
  'https://HOST[:PORT][/PATH] (http:// for an upstream without TLS) without user, query or fragment, oci-layout:DIRECTORY, or s3://BUCKET[/PREFIX]'
const REGION = 'a name such as eu-central-1'
/** What an endpoint has to be, for people. */
export const ENDPOINT = 'https://HOST[:PORT], or http:// without TLS'
const S3_KEYS = ['endpoint', 'region', 'path-style', 'profile', 'credentials-file'] as const

const ALLOWED = `NAME=URL, or in YAML a map with name, url and more; the URL is ${TARGET}`

/** What an upstream takes in YAML. */
export const UPSTREAM_KEYS = [
  'name',
  'url',
  'hosts',
  'ca',
  'username',
  'password',
  'password-file',
  'docker-config',
  'max-connections',
  'public',
  ...S3_KEYS,
] as const

/** What stands in place of a secret. */
export const MASK = '********'

function readTarget(text: string, { baseDir }: ReadContext): UpstreamSetting['target'] | undefined {
  if (text.startsWith('oci-layout:')) {
    const directory = path.schema({ baseDir }).safeParse(text.slice('oci-layout:'.length))
    return directory.success ? { kind: 'oci-layout', path: directory.data } : undefined
  }
  const [, bucket, prefix = ''] =
    /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([^?#]*))?$/.exec(text) ?? []
  if (bucket !== undefined) {
    // A prefix ends with a part of the path: `models` is not meant to open `models-of-others`.
    return { kind: 's3', bucket, prefix: prefix === '' ? '' : `${prefix.replace(/\/+$/, '')}/` }
  }
  if (!/^https?:\/\/[^/\s]/.test(text) || !URL.canParse(text)) return undefined
  const url = new URL(text)
  if (url.username !== '' || url.password !== '' || /[?#]/.test(text)) return undefined
  return { kind: 'registry', url: url.href.replace(/\/+$/, '') }
}

/** The origin of an endpoint's URL; undefined when it is none, or more than that. */
export function readEndpoint(text: string): string | undefined {
  if (!/^https?:\/\/[^/\s?#@]+\/?$/.test(text) || !URL.canParse(text)) return undefined
  return new URL(text).origin
}

function showTarget(target: UpstreamSetting['target']): string {
  if (target.kind === 'registry') return target.url
  if (target.kind === 'oci-layout') return `oci-layout:${target.path}`
  return `s3://${target.bucket}${target.prefix === '' ? '' : `/${target.prefix}`}`
}

function showBucket({ endpoint, region, pathStyle, profile, credentialsFile }: BucketTarget) {
  return {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...(pathStyle === undefined ? {} : { 'path-style': pathStyle }),
    ...(profile === undefined ? {} : { profile }),
    ...(credentialsFile === undefined ? {} : { 'credentials-file': credentialsFile }),
  }
}

const text = (allowed: string) => z.string({ error: allowed }).min(1, { error: allowed })

function mapSchema(context: ReadContext): z.ZodType<UpstreamSetting> {
  const file = path.schema(context)
  return z
    .strictObject(
      {
        name: upstreamName.schema(context),
        url: text(TARGET).transform((url, issues) => {
          const target = readTarget(url, context)
          if (target !== undefined) return target
          issues.addIssue({ code: 'custom', message: TARGET })
          return z.NEVER
        }),
        hosts: z
          .array(upstreamName.schema(context), { error: 'a list of host names' })
          .max(32, { error: 'a list of at most 32 host names' })
          .optional(),
        ca: file.optional(),
        username: text('a user name').optional(),
        password: text('a password in quotes').optional(),
        'password-file': file.optional(),
        'docker-config': file.optional(),
        'max-connections': count(1, 1024).schema(context).optional(),
        public: z.boolean({ error: 'true or false' }).optional(),
        endpoint: text(ENDPOINT)
          .transform((given, issues) => {
            const endpoint = readEndpoint(given)
            if (endpoint !== undefined) return endpoint
            issues.addIssue({ code: 'custom', message: ENDPOINT })
            return z.NEVER
          })
          .optional(),
        region: z
          .string({ error: REGION })
          .regex(/^[a-z0-9-]{1,64}$/, { error: REGION })
          .optional(),
        'path-style': z.boolean({ error: 'true or false' }).optional(),
        profile: text('the name of a profile').optional(),
        'credentials-file': file.optional(),
      },
      { error: issue => (issue.code === 'invalid_type' ? ALLOWED : undefined) },
    )
    .superRefine((upstream, issues) => {
      const passwords = [upstream.password, upstream['password-file']].filter(given => given !== undefined)
      const state = (key: string, statement: string) =>
        issues.addIssue({ code: 'custom', path: [key], params: { statement } })
      if (upstream.username !== undefined && passwords.length !== 1) {
        state('username', 'needs exactly one of password and password-file beside it')
      }
      if (upstream.username === undefined && passwords.length > 0) {
        state(upstream.password === undefined ? 'password-file' : 'password', 'needs a username beside it')
      }
      if (upstream.url.kind === 'oci-layout') {
        for (const key of ['ca', 'username', 'docker-config', 'max-connections'] as const) {
          if (upstream[key] !== undefined) state(key, 'means nothing for a directory')
        }
      }
      if (upstream.url.kind === 's3') {
        for (const key of ['hosts', 'docker-config', 'public'] as const) {
          if (upstream[key] !== undefined) state(key, 'means nothing for a bucket')
        }
        if (upstream.username !== undefined) {
          for (const key of ['profile', 'credentials-file'] as const) {
            if (upstream[key] !== undefined) state(key, 'means nothing beside a username')
          }
        }
      } else {
        for (const key of S3_KEYS) {
          if (upstream[key] !== undefined) state(key, 'means nothing but for an s3:// URL')
        }
      }
      if (
        upstream.url.kind === 'registry' &&
        upstream.url.url.startsWith('http:') &&
        upstream.ca !== undefined
      ) {
        state('ca', 'means nothing for an http:// URL')
      }
    })
    .transform(upstream => ({
      name: upstream.name,
      target:
        upstream.url.kind === 's3'
          ? {
              ...upstream.url,
              endpoint: upstream.endpoint,
              region: upstream.region,
              pathStyle: upstream['path-style'],
              profile: upstream.profile,
              credentialsFile: upstream['credentials-file'],
            }
          : upstream.url,
      hosts: upstream.hosts,
      ca: upstream.ca,
      username: upstream.username,
      password: upstream.password,
      passwordFile: upstream['password-file'],
      dockerConfig: upstream['docker-config'],
      maxConnections: upstream['max-connections'],
      public: upstream.public ?? upstream.url.kind === 'oci-layout',
    }))
}

/** `NAME=URL`, or a map. */
export const upstream: ValueType<UpstreamSetting> = {
  allowed: ALLOWED,
  placeholder: 'NAME=URL',
  schema: context =>
    z.preprocess(raw => {
      if (typeof raw !== 'string') return raw
      const at = raw.indexOf('=')
      return at < 0 ? raw : { name: raw.slice(0, at), url: raw.slice(at + 1) }
    }, mapSchema(context)),
  show: setting => ({
    name: setting.name,
    url: showTarget(setting.target),
    ...(setting.hosts === undefined ? {} : { hosts: setting.hosts }),
    ...(setting.ca === undefined ? {} : { ca: setting.ca }),
    ...(setting.username === undefined ? {} : { username: setting.username }),
    ...(setting.password === undefined ? {} : { password: MASK }),
    ...(setting.passwordFile === undefined ? {} : { 'password-file': setting.passwordFile }),
    ...(setting.dockerConfig === undefined ? {} : { 'docker-config': setting.dockerConfig }),
    ...(setting.maxConnections === undefined ? {} : { 'max-connections': setting.maxConnections }),
    ...(setting.target.kind === 'registry' ? { public: setting.public } : {}),
    ...(setting.target.kind === 's3' ? showBucket(setting.target) : {}),
  }),
}

const registry = (name: string, url = `https://${name}`, hosts: readonly string[] = []): UpstreamSetting => ({
  name,
  target: { kind: 'registry', url },
  hosts,
  ca: undefined,
  username: undefined,
  password: undefined,
  passwordFile: undefined,
  dockerConfig: undefined,
  maxConnections: undefined,
  public: false,
})

/** The well-known public registries, and the hosts that really serve them. */
export const DEFAULT_UPSTREAMS: readonly UpstreamSetting[] = [
  registry('docker.io', 'https://registry-1.docker.io', ['index.docker.io', 'registry-1.docker.io']),
  registry('ghcr.io'),
  registry('quay.io'),
  registry('registry.k8s.io'),
  registry('gcr.io'),
  registry('mcr.microsoft.com'),
  registry('public.ecr.aws'),
]

/** The configured upstreams, then those of the default list whose names they do not take. */
export function mergeUpstreams(
  configured: readonly UpstreamSetting[],
  withDefaults: boolean,
): readonly UpstreamSetting[] {
  const names = new Set(configured.map(({ name }) => name))
  const known = new Map(DEFAULT_UPSTREAMS.map(setting => [setting.name, setting]))
  return [
    ...configured.map(setting => ({
      ...setting,
      hosts: setting.hosts ?? known.get(setting.name)?.hosts ?? [],
    })),
    ...(withDefaults ? DEFAULT_UPSTREAMS.filter(({ name }) => !names.has(name)) : []),
  ]
}
