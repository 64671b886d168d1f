import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Digest, parseDigest } from '@darter/oci'

/** A real docker-registry on loopback. */
export interface TestRegistry {
  readonly url: string
  readonly host: string
  /** Ends the process; the data stay. */
  stop(): Promise<void>
  /** Starts it again on the same port with the same data. */
  start(): Promise<void>
  /** Replaces the password file; the registry reads it again by itself. */
  setPasswords(htpasswd: string): Promise<void>
  /** Ends it and removes its data. */
  remove(): Promise<void>
}

/** Starts a registry; `htpasswd`: the lines of its password file. */
export async function startRegistry(options: { readonly htpasswd?: string } = {}): Promise<TestRegistry> {
  const dir = await mkdtemp(join(tmpdir(), 'darter-door-'))
  const port = await freePort()
  const passwords = join(dir, 'htpasswd')
  if (options.htpasswd !== undefined) await writeFile(passwords, options.htpasswd)
  const config = {
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: join(dir, 'data') },
      redirect: { disable: true },
      delete: { enabled: true },
    },
    http: { addr: `127.0.0.1:${port}`, secret: 'x' },
    ...(options.htpasswd !== undefined && { auth: { htpasswd: { realm: 'test', path: passwords } } }),
  }
  await writeFile(join(dir, 'config.yml'), JSON.stringify(config))
  const url = `http://127.0.0.1:${port}`
  let child: ChildProcess | undefined
  const start = async () => {
    child = spawn('docker-registry', ['serve', join(dir, 'config.yml')], { stdio: 'ignore' })
    for (let tries = 0; tries < 400; tries++) {
      const status = await fetch(`${url}/v2/`).then(
        answer => answer.status,
        () => 0,
      )
      if (status === 200 || status === 401) return
      await delay(25)
    }
    throw new Error('the registry did not start')
  }
  const stop = async () => {
    const running = child
    child = undefined
    if (running === undefined || running.exitCode !== null) return
    const ended = new Promise(resolve => running.once('exit', resolve))
    running.kill('SIGKILL')
    await ended
  }
  await start()
  return {
    url,
    host: `127.0.0.1:${port}`,
    start,
    stop,
    setPasswords: htpasswd => writeFile(passwords, htpasswd),
    remove: async () => {
      await stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise(resolve => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

export function digestOf(bytes: Uint8Array | string): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`)
}

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'

/** What was pushed. */
export interface PushedImage {
  readonly manifest: Digest
  readonly manifestBytes: string
  readonly layer: Digest
  readonly layerBytes: Buffer
  readonly config: Digest
}

/** Uploads a blob in one piece, through whatever registry API is at `base` (a URL below which `blobs/` lies). */
export async function pushBlob(
  base: string,
  bytes: Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Response> {
  const begun = await fetch(`${base}/blobs/uploads/`, { method: 'POST', headers })
  const location = new URL(begun.headers.get('location') ?? 'missing:', begun.url)
  location.searchParams.set('digest', digestOf(bytes))
  return fetch(location, { method: 'PUT', headers, body: bytes })
}

/** Pushes an image with one layer of `size` pseudo-random bytes. `headers` such as an authorization. */
export async function pushImage(
  base: string,
  tag: string,
  options: {
    readonly size?: number
    readonly salt?: string
    readonly headers?: Record<string, string>
    readonly query?: string
  } = {},
): Promise<PushedImage> {
  const { size = 100_000, salt = '', headers = {}, query = '' } = options
  const layerBytes = Buffer.alloc(size)
  for (let at = 0, n = 0; at < size; at += 32, n++) {
    createHash('sha256').update(`${salt}${n}`).digest().copy(layerBytes, at)
  }
  const configBytes = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', salt }))
  for (const blob of [layerBytes, configBytes]) {
    const done = await pushBlob(base, blob, headers)
    if (done.status !== 201) throw new Error(`blob: ${done.status} ${await done.text()}`)
  }
  const manifestBytes = JSON.stringify({
    schemaVersion: 2,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(configBytes),
      size: configBytes.length,
    },
    layers: [
      {
        mediaType: 'application/vnd.oci.image.layer.v1.tar',
        digest: digestOf(layerBytes),
        size: layerBytes.length,
      },
    ],
  })
  const put = await fetch(`${base}/manifests/${tag}${query}`, {
    method: 'PUT',
    headers: { ...headers, 'content-type': OCI_MANIFEST },
    body: manifestBytes,
  })
  if (put.status !== 201) throw new Error(`manifest: ${put.status} ${await put.text()}`)
  return {
    manifest: digestOf(manifestBytes),
    manifestBytes,
    layer: digestOf(layerBytes),
    layerBytes,
    config: digestOf(configBytes),
  }
}
