import { createHash } from 'node:crypto'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Digest, parseDigest } from '@darter/oci'
import { type Daemon, freePort, type Lab } from './lab.ts'
import { run } from './run.ts'
import { httpStatus } from './until.ts'

/** The realm of a registry's htpasswd challenge. */
export const REALM = 'darter-test'

/** Passwords by user. */
export type Passwords = Readonly<Record<string, string>>

/** How a registry knows its callers; everyone may do everything when it is left out. */
export type RegistryAuth =
  | { readonly htpasswd: Passwords }
  | {
      readonly token: {
        readonly url: string
        readonly service: string
        readonly issuer: string
        /** PEM of the certificate whose key signs the tokens. */
        readonly certificateFile: string
      }
    }

/** A real registry (docker-registry 2.8) with storage of its own. */
export interface Registry {
  /** `127.0.0.1:port` */
  readonly address: string
  readonly url: string
  /** Directory below which the blobs lie. */
  readonly storage: string
  /** The process that runs now, or ran last. */
  readonly daemon: Daemon
  /** Ends the process; the data stay. */
  stop(): Promise<void>
  /** Starts it again, on the same port with the same data. */
  start(): Promise<void>
  /** Replaces the users of one with htpasswd; it reads them again by itself. */
  setPasswords(passwords: Passwords): Promise<void>
}

async function writePasswords(path: string, passwords: Passwords): Promise<void> {
  const lines: string[] = []
  for (const [user, password] of Object.entries(passwords)) {
    const made = await run('htpasswd', ['-nbBC', '4', user, password])
    lines.push(made.stdout.toString('utf8').trim())
  }
  writeFileSync(path, `${lines.join('\n')}\n`)
}

/** Starts a registry; it answers when this resolves. Needs `docker-registry`, and `htpasswd` for passwords. */
export async function startRegistry(
  lab: Lab,
  options: { readonly name?: string; readonly auth?: RegistryAuth; readonly port?: number } = {},
): Promise<Registry> {
  const name = options.name ?? 'registry'
  const dir = lab.makeDir(name)
  const storage = join(dir, 'data')
  const passwordFile = join(dir, 'htpasswd')
  const port = options.port ?? (await freePort())
  const auth: Record<string, unknown> = {}
  if (options.auth !== undefined && 'htpasswd' in options.auth) {
    await writePasswords(passwordFile, options.auth.htpasswd)
    auth['htpasswd'] = { realm: REALM, path: passwordFile }
  } else if (options.auth !== undefined) {
    const { url, service, issuer, certificateFile } = options.auth.token
    auth['token'] = { realm: url, service, issuer, rootcertbundle: certificateFile }
  }
  const config = {
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: storage },
      redirect: { disable: true },
      delete: { enabled: true },
    },
    http: { addr: `127.0.0.1:${port}`, secret: 'not a secret', relativeurls: true },
    ...(Object.keys(auth).length > 0 ? { auth } : {}),
  }
  const configFile = join(dir, 'config.yml')
  // JSON is YAML.
  writeFileSync(configFile, JSON.stringify(config))
  const url = `http://127.0.0.1:${port}`
  let starts = 0
  const start = () => {
    const run = ++starts
    return lab.start({
      name: run === 1 ? name : `${name}-${run}`,
      command: 'docker-registry',
      args: ['serve', configFile],
      ready: async () => [200, 401].includes((await httpStatus(`${url}/v2/`)) ?? 0),
    })
  }
  let daemon = await start()
  return {
    address: `127.0.0.1:${port}`,
    url,
    storage,
    get daemon() {
      return daemon
    },
    stop: async () => void (await daemon.stop()),
    start: async () => {
      daemon = await start()
    },
    setPasswords: passwords => writePasswords(passwordFile, passwords),
  }
}

/**
 * Puts an image with one bare layer of zeros straight into a registry's storage, as a sparse file: gigabytes in a
 * moment. Returns the layer's digest.
 */
export async function plantSparseImage(
  registry: Registry,
  repository: string,
  tag: string,
  layerBytes: number,
): Promise<Digest> {
  const hash = createHash('sha256')
  const zeros = Buffer.alloc(4 * 1024 * 1024)
  for (let left = layerBytes; left > 0; left -= zeros.length)
    hash.update(zeros.subarray(0, Math.min(left, zeros.length)))
  const digest = parseDigest(`sha256:${hash.digest('hex')}`)
  const hex = digest.slice(7)
  const root = join(registry.storage, 'docker', 'registry', 'v2')
  const data = join(root, 'blobs', 'sha256', hex.slice(0, 2), hex)
  mkdirSync(data, { recursive: true })
  writeFileSync(join(data, 'data'), '')
  truncateSync(join(data, 'data'), layerBytes)
  const link = join(root, 'repositories', repository, '_layers', 'sha256', hex)
  mkdirSync(link, { recursive: true })
  writeFileSync(join(link, 'link'), digest)

  const config = Buffer.from(
    JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [digest] } }),
  )
  const configDigest = parseDigest(`sha256:${createHash('sha256').update(config).digest('hex')}`)
  const api = `${registry.url}/v2/${repository}`
  const started = await fetch(`${api}/blobs/uploads/`, { method: 'POST' })
  const upload = new URL(started.headers.get('location') ?? '', registry.url)
  upload.searchParams.set('digest', configDigest)
  const uploaded = await fetch(upload, { method: 'PUT', body: config })
  if (uploaded.status !== 201) throw new Error(`config: ${uploaded.status} ${await uploaded.text()}`)
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const put = await fetch(`${api}/manifests/${tag}`, {
    method: 'PUT',
    headers: { 'content-type': mediaType },
    body: JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: configDigest,
        size: config.length,
      },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size: layerBytes }],
    }),
  })
  if (put.status !== 201) throw new Error(`manifest: ${put.status} ${await put.text()}`)
  return digest
}
