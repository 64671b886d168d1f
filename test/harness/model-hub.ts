import { createHash, randomUUID } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { join } from 'node:path'
import { type Lab, run } from '@darter/testing'
import { listen } from './listen.ts'

/**
 * A model hub over TLS, with an authority of its own, that behaves like Hugging Face's: files of a repository lie at
 * `/<repository>/resolve/<revision>/<file>`, large ones are redirected to signed URLs of another host, which is the
 * store.
 */
export interface ModelHub {
  /** `https://127.0.0.1:port` */
  readonly url: string
  /** PEM of the authority that both hosts' certificates come from. */
  readonly caFile: string
  /** Requests that reached the store, where the bytes come from. */
  readonly stored: readonly StoreRequest[]
  /** Requests that reached the hub itself. */
  readonly asked: readonly { readonly method: string; readonly path: string; readonly token: boolean }[]
  /** Bytes of bodies that the store sent. */
  storeBytes(): number
  reset(): void
  digest(file: string): string
}

interface StoreRequest {
  readonly headers: IncomingMessage['headers']
  readonly signature: string | null
  bytes: number
}

const COMMIT = 'c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00'
/** What is larger lies in the store. */
const LARGE_BYTES = 64 * 1024

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
/** How git names a file: the entity tag of what lies in the repository itself. */
const gitName = (bytes: Uint8Array) =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')

async function makeCertificates(lab: Lab) {
  const dir = lab.makeDir('hub-certificates')
  const at = (name: string) => join(dir, name)
  const key = (file: string) => [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    file,
  ]
  await run('openssl', [
    ...[
      'req',
      '-x509',
      ...key(at('ca.key')),
      '-days',
      '2',
      '-subj',
      '/CN=test authority',
      '-out',
      at('ca.pem'),
    ],
    ...['-addext', 'basicConstraints=critical,CA:TRUE'],
  ])
  await run('openssl', ['req', ...key(at('key.pem')), '-subj', '/CN=127.0.0.1', '-out', at('request.pem')])
  writeFileSync(at('names'), 'subjectAltName=IP:127.0.0.1\n')
  await run('openssl', [
    ...[
      'x509',
      '-req',
      '-in',
      at('request.pem'),
      '-CA',
      at('ca.pem'),
      '-CAkey',
      at('ca.key'),
      '-CAcreateserial',
    ],
    ...['-days', '2', '-extfile', at('names'), '-out', at('cert.pem')],
  ])
  return {
    caFile: at('ca.pem'),
    tls: { key: readFileSync(at('key.pem')), cert: readFileSync(at('cert.pem')) },
  }
}

/** Sends bytes, or the single range of them that is asked for; what was sent is told. */
function send(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  headers: Readonly<Record<string, string>>,
  onSent: (count: number) => void,
): void {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  const start = Number(from ?? 0)
  const end = to === undefined || to === '' ? bytes.length : Number(to) + 1
  const part = bytes.subarray(start, end)
  response.writeHead(from === undefined ? 200 : 206, {
    ...headers,
    'accept-ranges': 'bytes',
    'content-length': part.length,
    ...(from !== undefined && {
      'content-range': `bytes ${start}-${start + part.length - 1}/${bytes.length}`,
    }),
  })
  if (request.method === 'HEAD') {
    response.end()
    return
  }
  onSent(part.length)
  response.end(part)
}

/** Starts a hub with one private repository that a token opens. */
export async function startModelHub(
  lab: Lab,
  options: {
    readonly repository: string
    readonly token: string
    readonly files: Readonly<Record<string, Buffer>>
  },
): Promise<ModelHub> {
  const { repository, token, files } = options
  const { caFile, tls } = await makeCertificates(lab)
  const signatures = new Set<string>()
  let stored: StoreRequest[] = []
  let asked: { method: string; path: string; token: boolean }[] = []
  const byHash = new Map(Object.values(files).map(bytes => [sha256(bytes), bytes]))

  const storePort = await listen(
    lab,
    createServer(tls, (request, response) => {
      const url = new URL(request.url ?? '/', 'https://store')
      const signature = url.searchParams.get('Signature')
      const entry: StoreRequest = { headers: request.headers, signature, bytes: 0 }
      stored.push(entry)
      const bytes = byHash.get(url.pathname.slice(1))
      if (bytes === undefined || signature === null || !signatures.has(signature)) {
        response.writeHead(403).end('<Error><Code>AccessDenied</Code></Error>')
        return
      }
      send(request, response, bytes, { etag: `"${randomUUID()}"` }, count => (entry.bytes += count))
    }),
  )

  const resolve = (request: IncomingMessage, response: ServerResponse, file: string): void => {
    const bytes = files[file]
    if (bytes === undefined) {
      response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end('Entry not found')
      return
    }
    const common = { 'x-repo-commit': COMMIT }
    if (bytes.length <= LARGE_BYTES) {
      send(request, response, bytes, { ...common, etag: `"${gitName(bytes)}"` }, () => {})
      return
    }
    const signature = randomUUID()
    signatures.add(signature)
    const hash = sha256(bytes)
    const location = `https://127.0.0.1:${storePort}/${hash}?Expires=9999999999&Signature=${signature}&Key-Pair-Id=K`
    response.writeHead(302, {
      ...common,
      location,
      etag: `"${randomUUID()}"`,
      'x-linked-etag': `"${hash}"`,
      'x-linked-size': bytes.length,
    })
    response.end()
  }

  const tell = (response: ServerResponse, value: unknown): void => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
  }

  const hubPort = await listen(
    lab,
    createServer(tls, (request, response) => {
      const url = new URL(request.url ?? '/', 'https://hub')
      const isKnown = request.headers.authorization === `Bearer ${token}`
      asked.push({ method: request.method ?? '', path: url.pathname, token: isKnown })
      const path = decodeURIComponent(url.pathname)
      const api = `/api/models/${repository}`
      if (!isKnown) {
        response
          .writeHead(401, { 'x-error-code': 'GatedRepo', 'www-authenticate': 'Bearer realm="hub"' })
          .end()
      } else if (path === api || path.startsWith(`${api}/revision/`)) {
        const siblings = Object.keys(files).map(rfilename => ({ rfilename }))
        tell(response, {
          id: repository,
          modelId: repository,
          sha: COMMIT,
          private: true,
          siblings,
          tags: [],
        })
      } else if (path.startsWith(`${api}/tree/`)) {
        tell(
          response,
          Object.entries(files).map(([name, bytes]) => ({
            type: 'file',
            path: name,
            size: bytes.length,
            oid: gitName(bytes),
            ...(bytes.length > LARGE_BYTES && {
              lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 },
            }),
          })),
        )
      } else {
        const [, file = ''] = path.split(/\/resolve\/[^/]+\//)
        if (path.startsWith(`/${repository}/resolve/`)) resolve(request, response, file)
        else response.writeHead(404).end()
      }
    }),
  )
  return {
    url: `https://127.0.0.1:${hubPort}`,
    caFile,
    get stored() {
      return stored
    },
    get asked() {
      return asked
    },
    storeBytes: () => stored.reduce((sum, { bytes }) => sum + bytes, 0),
    reset: () => {
      stored = []
      asked = []
    },
    digest: file => `sha256:${sha256(files[file] ?? Buffer.alloc(0))}`,
  }
}
