import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { quoted } from '@darter/oci'
import { withTimeout } from '@darter/runtime'
import type { Credentials, CredentialSource } from './credentials.ts'
import { OriginCredentialsError } from './errors.ts'

/** The key that Docker keeps the credentials of docker.io under. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/'
const DOCKER_HUB_HOSTS = ['docker.io', 'index.docker.io', 'registry-1.docker.io']
const MAX_OUTPUT_BYTES = 64 * 1024
/** What a helper prints, with exit code 1, for a host that it does not know. */
const NOT_FOUND = 'credentials not found in native keychain'

interface DockerConfig {
  readonly auths: Readonly<Record<string, unknown>>
  readonly credHelpers: Readonly<Record<string, unknown>>
  readonly credsStore: unknown
}

/**
 * Reads an upstream's credentials from a docker (or podman) `config.json`: `credHelpers`, then `credsStore`, then
 * `auths`. The file is read, and a helper run, each time; a missing file means no credentials. The source throws
 * {@link OriginCredentialsError} for an unreadable file and a failing helper.
 */
export function createDockerConfigSource(options: {
  readonly file: string
  /** The names that the upstream may be listed under: its own and its URL's host. */
  readonly hosts: readonly string[]
  /** The longest that a credential helper may take, in ms; 10 s by default. */
  readonly helperTimeoutMs?: number
  /** The environment that helpers are found and run in; the process's own by default. */
  readonly env?: NodeJS.ProcessEnv
}): CredentialSource {
  const { file, helperTimeoutMs = 10_000, env = process.env } = options
  const hub = options.hosts.some(host => DOCKER_HUB_HOSTS.includes(host))
  const hosts = [...new Set([...options.hosts, ...(hub ? DOCKER_HUB_HOSTS : [])])]
  const server = hub ? DOCKER_HUB_KEY : hosts[0]

  return async signal => {
    const config = await readConfig(file, signal)
    if (!config) return undefined
    const helper = hosts.map(host => config.credHelpers[host]).find(found => found !== undefined)
    const program = helper ?? config.credsStore
    if (program !== undefined && program !== '' && server !== undefined) {
      const found = await askHelper(program, server, { timeoutMs: helperTimeoutMs, env, signal })
      if (found) return found
    }
    const entry = Object.entries(config.auths).find(([key]) => hosts.includes(hostOfKey(key)))
    return entry && readEntry(entry[1], file)
  }
}

async function readConfig(file: string, signal: AbortSignal): Promise<DockerConfig | undefined> {
  let text: string
  try {
    text = await readFile(file, { encoding: 'utf8', signal })
  } catch (cause) {
    signal.throwIfAborted()
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined
    throw new OriginCredentialsError(`${file} cannot be read`, { cause })
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // The parser's message quotes the text, which holds secrets: it is not passed on.
    throw new OriginCredentialsError(`${file} is not JSON`)
  }
  const root = asObject(parsed)
  return {
    auths: asObject(root['auths']),
    credHelpers: asObject(root['credHelpers']),
    credsStore: root['credsStore'],
  }
}

/** `https://index.docker.io/v1/` and `ghcr.io` alike. */
function hostOfKey(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
}

function readEntry(value: unknown, file: string): Credentials | undefined {
  const { auth, identitytoken, username, password } = asObject(value)
  if (typeof identitytoken === 'string' && identitytoken !== '') {
    return { kind: 'identityToken', token: identitytoken }
  }
  if (typeof auth === 'string' && auth !== '') {
    const decoded = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '')
    const colon = decoded.indexOf(':')
    if (colon < 1)
      throw new OriginCredentialsError(`${file} has an "auth" that is not base64 of name:password`)
    return { kind: 'password', username: decoded.slice(0, colon), password: decoded.slice(colon + 1) }
  }
  return typeof username === 'string' && typeof password === 'string' && username !== ''
    ? { kind: 'password', username, password }
    : undefined
}

/** Runs `docker-credential-<name> get` (the protocol of docker-credential-helpers). */
async function askHelper(
  name: unknown,
  server: string,
  options: { readonly timeoutMs: number; readonly env: NodeJS.ProcessEnv; readonly signal: AbortSignal },
): Promise<Credentials | undefined> {
  const { timeoutMs, env, signal } = options
  // The name becomes part of a program's name: a path in it would run anything.
  if (typeof name !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) {
    throw new OriginCredentialsError(`${quoted(String(name))} is not the name of a credential helper`)
  }
  const program = `docker-credential-${name}`
  using deadline = withTimeout(
    signal,
    timeoutMs,
    () => new OriginCredentialsError(`${program} took longer than ${timeoutMs} ms and was killed`),
  )
  const output = await new Promise<string | undefined>((resolve, reject) => {
    const child = execFile(program, ['get'], { env, maxBuffer: MAX_OUTPUT_BYTES }, (error, stdout) => {
      deadline.signal.removeEventListener('abort', onAbort)
      if (!error) resolve(stdout)
      else if (stdout.trim() === NOT_FOUND) resolve(undefined)
      else
        reject(new OriginCredentialsError(`${program} failed (${error.code ?? error.signal ?? 'no reason'})`))
    })
    const onAbort = () => {
      child.kill('SIGKILL')
      // What the helper itself started may hold its pipes open for longer.
      child.stdout?.destroy()
      child.stderr?.destroy()
      reject(deadline.signal.reason)
    }
    deadline.signal.addEventListener('abort', onAbort, { once: true })
    child.stdin?.on('error', () => {})
    child.stdin?.end(server)
  })
  if (output === undefined) return undefined
  let parsed: unknown
  try {
    parsed = JSON.parse(output)
  } catch {
    throw new OriginCredentialsError(`${program} did not print JSON`)
  }
  const { Username, Secret } = asObject(parsed)
  if (typeof Username !== 'string' || typeof Secret !== 'string' || Secret === '') return undefined
  return Username === '<token>'
    ? { kind: 'identityToken', token: Secret }
    : { kind: 'password', username: Username, password: Secret }
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : {}
}
