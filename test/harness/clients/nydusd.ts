import { open } from 'node:fs/promises'
import http, { type IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'

/** Why nydusd reads: a process waits for the bytes, or nobody does yet. */
export type ReadKind = 'on-demand' | 'prefetch'

/** What differs between the generations of nydusd as far as a backend sees it. */
export interface Generation {
  readonly name: string
  /** How many redirects a read follows. A HEAD of a generation that follows none takes the redirect's own length. */
  readonly redirects: number
  /** Tries of a read, and the rest between them in ms. */
  readonly attempts: Readonly<Record<ReadKind, number>>
  readonly pauseMs: number
  /** Whether a `mirrors` block is read. */
  readonly mirrors: boolean
  /** Sent with each read while a proxy is configured. */
  readonly proxyHeaders: (kind: ReadKind) => Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>
}

const plain = { attempts: { 'on-demand': 3, prefetch: 3 }, pauseMs: 0, proxyHeaders: () => ({}), headers: {} }

/** From the oldest in use to the newest of v2. */
export const GENERATIONS = {
  '2.1.0-rc.1': { ...plain, name: '2.1.0-rc.1', redirects: 0, mirrors: false },
  '2.3.4': { ...plain, name: '2.3.4', redirects: 10, mirrors: true },
  '2.4.2': { ...plain, name: '2.4.2', redirects: 10, mirrors: false, pauseMs: 500 },
  '2.4.4': {
    name: '2.4.4',
    redirects: 0,
    mirrors: false,
    attempts: { 'on-demand': 3, prefetch: 1 },
    pauseMs: 0,
    headers: { 'user-agent': 'nydusd/1.0.0' },
    proxyHeaders: kind => ({
      'x-dragonfly-priority': kind === 'on-demand' ? '6' : '3',
      'x-dragonfly-use-p2p': 'true',
      ...(kind === 'prefetch' && { 'x-dragonfly-prefetch': 'true' }),
    }),
  },
} as const satisfies Record<string, Generation>

/** The `proxy` block of a backend. */
export interface ProxyBlock {
  readonly url: string
  readonly pingUrl?: string
  /** True by default. */
  readonly fallback?: boolean
  readonly useHttp?: boolean
  /** PEM that https answers through the proxy are verified with (`ca_cert_files`). */
  readonly ca?: string
}

/** A `registry` backend. */
export interface RegistryBackend {
  readonly type: 'registry'
  readonly scheme: 'http' | 'https'
  readonly host: string
  readonly repo: string
  /** `user:password` in base64. */
  readonly auth?: string
  readonly proxy?: ProxyBlock
  readonly mirrors?: readonly { readonly host: string; readonly headers?: Readonly<Record<string, string>> }[]
}

/** What nydusd reads blobs from. */
export type Backend =
  | RegistryBackend
  /** `addr`: a URL, or the path of a socket. */
  | {
      readonly type: 'http-proxy'
      readonly addr: string
      readonly path: string
      readonly proxy?: ProxyBlock
    }
  | { readonly type: 'localfs'; readonly dir: string }

/** One blob as nydusd has it open. */
export interface NydusBlob {
  /** The length that HEAD tells. */
  size(): Promise<number>
  /** Exactly the bytes of one range, with retries. */
  read(offset: number, length: number, kind?: ReadKind): Promise<Buffer>
  /** All bytes from an offset in one request, with an open range (none for 0), as `stream_prefetch` does. */
  stream(offset: number): Promise<Buffer>
}

/** A nydusd that keeps nothing (no `cache` block). */
export interface Nydusd {
  /** @param hex - the sha256 of the blob. */
  blob(hex: string): NydusBlob
  /** Asks the proxy's `ping_url` once, as the health thread does at each interval. */
  ping(): Promise<boolean>
  /** How many requests went to the origin after the proxy had failed them. */
  readonly fallbacks: number
  /** How many answers were redirects, followed or not. */
  readonly redirects: number
  close(): void
}

interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: Buffer
}

interface Call {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

const TIMEOUT_MS = 30_000
const FORM = 'application/x-www-form-urlencoded'

/** Sends what nydusd of a generation sends to a backend, and takes answers as strictly as it does. */
export function openNydusd(backend: Backend, generation: Generation): Nydusd {
  const agent = new http.Agent({ keepAlive: true })
  const proxy = backend.type === 'localfs' ? undefined : backend.proxy
  let healthy = true
  let fallbacks = 0
  let redirects = 0
  let token: string | undefined

  const collect = async (response: IncomingMessage): Promise<Answer> => {
    const pieces: Buffer[] = []
    for await (const piece of response as AsyncIterable<Buffer>) pieces.push(piece)
    if (!response.complete) throw new Error('the body broke off')
    return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(pieces) }
  }
  const send = (options: http.RequestOptions, body?: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const request = http.request({ agent, timeout: TIMEOUT_MS, ...options })
      request.once('timeout', () => request.destroy(new Error('no answer in time')))
      request.once('error', reject)
      request.once('response', response => {
        collect(response).then(resolve, reject)
      })
      request.end(body)
    })
  const direct = ({ method, url, headers, body }: Call): Promise<Answer> => {
    const { hostname, port, pathname, search } = new URL(url)
    return send({ method, host: hostname, port, path: pathname + search, headers }, body)
  }
  /** A connection through the proxy to an https host, verified as that host. */
  const tunnel = (via: URL, target: URL, ca: string | undefined): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const path = `${target.hostname}:${target.port === '' ? '443' : target.port}`
      const connect = http.request({
        host: via.hostname,
        port: via.port,
        method: 'CONNECT',
        path,
        headers: { host: path },
        agent: false,
        timeout: TIMEOUT_MS,
      })
      connect.once('timeout', () => connect.destroy(new Error('no tunnel in time')))
      connect.once('error', reject)
      connect.once('connect', (response, socket) => {
        if (response.statusCode !== 200) {
          socket.destroy()
          reject(new Error(`CONNECT ${path}: ${response.statusCode}`))
          return
        }
        const secure = connectTls({
          socket,
          ...(isIP(target.hostname) === 0 ? { servername: target.hostname } : { host: target.hostname }),
          ALPNProtocols: ['http/1.1'],
          ...(ca !== undefined && { ca }),
        })
        secure.once('error', reject)
        secure.once('secureConnect', () => resolve(secure))
      })
      connect.end()
    })
  const throughProxy = async (block: ProxyBlock, call: Call): Promise<Answer> => {
    const via = new URL(block.url)
    const url = new URL(block.useHttp === true ? call.url.replace(/^https/, 'http') : call.url)
    const headers = { ...call.headers, host: url.host }
    if (url.protocol === 'http:') {
      const { method } = call
      return send({ method, host: via.hostname, port: via.port, path: url.href, headers }, call.body)
    }
    const socket = await tunnel(via, url, block.ca)
    const inside = new http.Agent()
    inside.createConnection = () => socket
    try {
      const path = url.pathname + url.search
      return await send({ method: call.method, path, headers, agent: inside }, call.body)
    } finally {
      socket.destroy()
    }
  }
  /** The order in which `Connection::call` tries: the proxy, the mirrors, the origin. */
  const call = async (one: Call): Promise<Answer> => {
    if (proxy !== undefined && healthy) {
      try {
        const answer = await throughProxy(proxy, one)
        if (proxy.fallback === false || answer.status < 500) return answer
      } catch (error) {
        if (proxy.fallback === false) throw error
      }
      fallbacks++
    }
    const mirrors = backend.type === 'registry' && generation.mirrors ? (backend.mirrors ?? []) : []
    for (const mirror of mirrors) {
      const url = new URL(one.url)
      const { protocol, hostname, port } = new URL(mirror.host)
      url.protocol = protocol
      url.hostname = hostname
      url.port = port
      const answer = await direct({
        ...one,
        url: url.href,
        headers: { ...one.headers, ...mirror.headers },
      }).catch(() => undefined)
      if (answer !== undefined && answer.status < 500) return answer
    }
    return direct(one)
  }

  /** Follows redirects as far as the generation does; what is left of them is an answer like any other. */
  const follow = async (one: Call): Promise<Answer> => {
    let url = one.url
    for (let hops = 0; ; hops++) {
      const answer = await call({ ...one, url })
      const { location } = answer.headers
      if (answer.status < 300 || answer.status > 399 || location === undefined) return answer
      redirects++
      if (hops === generation.redirects) return answer
      url = new URL(location, url).href
    }
  }

  const authenticate = async (challenge: string): Promise<string> => {
    const { auth = '', repo } = backend as RegistryBackend
    if (/^basic /i.test(challenge)) return `Basic ${auth}`
    const fields = new Map([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]))
    const realm = fields.get('realm')
    const service = fields.get('service')
    if (realm === undefined || service === undefined) throw new Error(`no challenge to answer: ${challenge}`)
    const [username = '', password = ''] = Buffer.from(auth, 'base64').toString('utf8').split(':')
    const scope = `repository:${repo}:pull`
    const form = new URLSearchParams({
      service,
      scope,
      grant_type: 'password',
      username,
      password,
      client_id: 'nydus-registry-client',
    })
    const headers = { ...generation.headers, 'content-type': FORM }
    let answer = await call({ method: 'POST', url: realm, headers, body: form.toString() })
    if (answer.status >= 300) {
      const query = new URLSearchParams({ service, scope })
      const own = auth === '' ? {} : { authorization: `Basic ${auth}` }
      answer = await call({ method: 'GET', url: `${realm}?${query.toString()}`, headers: own })
    }
    const told = JSON.parse(answer.body.toString('utf8')) as { token?: string; access_token?: string }
    return `Bearer ${told.token ?? told.access_token ?? ''}`
  }

  const request = async (
    method: string,
    url: string,
    kind: ReadKind,
    range: string | undefined,
  ): Promise<Answer> => {
    const attempt = () =>
      follow({
        method,
        url,
        headers: {
          accept: '*/*',
          ...generation.headers,
          ...(proxy !== undefined && generation.proxyHeaders(kind)),
          ...(token !== undefined && { authorization: token }),
          ...(range !== undefined && { range }),
        },
      })
    let answer = await attempt()
    if (answer.status === 401 && backend.type === 'registry') {
      token = await authenticate(answer.headers['www-authenticate'] ?? '')
      answer = await attempt()
    }
    if (answer.status >= 400 || (answer.status >= 300 && method === 'GET')) {
      throw new Error(`${method} ${url}: ${answer.status} ${answer.body.toString('utf8').slice(0, 300)}`)
    }
    return answer
  }

  const retrying = async <T>(kind: ReadKind, act: () => Promise<T>): Promise<T> => {
    for (let left = generation.attempts[kind]; ; left--) {
      try {
        return await act()
      } catch (error) {
        if (left === 1) throw error
        if (generation.pauseMs > 0) await new Promise(resolve => setTimeout(resolve, generation.pauseMs))
      }
    }
  }

  const remote = (url: string): NydusBlob => ({
    size: async () => {
      const { headers } = await request('HEAD', url, 'on-demand', undefined)
      if (headers['content-length'] === undefined) throw new Error('HEAD told no length')
      return Number(headers['content-length'])
    },
    read: (offset, length, kind = 'on-demand') =>
      retrying(kind, async () => {
        const { body } = await request('GET', url, kind, `bytes=${offset}-${offset + length - 1}`)
        if (body.length !== length) throw new Error(`asked for ${length} bytes, got ${body.length}`)
        return body
      }),
    stream: async offset =>
      (await request('GET', url, 'prefetch', offset === 0 ? undefined : `bytes=${offset}-`)).body,
  })

  /** By a socket nydusd asks for `/` alone, and looks at no status: whatever comes is taken for the blob. */
  const bySocket = (socketPath: string): NydusBlob => {
    const ask = (method: string, range: string) => send({ method, socketPath, path: '/', headers: { range } })
    return {
      size: async () => Number((await ask('HEAD', 'bytes=0-')).headers['content-length']),
      read: async (offset, length) => (await ask('GET', `bytes=${offset}-${offset + length - 1}`)).body,
      stream: async offset => (await ask('GET', `bytes=${offset}-`)).body,
    }
  }

  const byFile = (path: string): NydusBlob => {
    const read = async (offset: number, length?: number) => {
      await using file = await open(path)
      const size = length ?? (await file.stat()).size - offset
      const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, offset)
      return buffer.subarray(0, bytesRead)
    }
    return {
      size: async () => {
        await using file = await open(path)
        return (await file.stat()).size
      },
      read,
      stream: offset => read(offset),
    }
  }

  return {
    blob: hex => {
      if (backend.type === 'localfs') return byFile(join(backend.dir, hex))
      if (backend.type === 'registry')
        return remote(`${backend.scheme}://${backend.host}/v2/${backend.repo}/blobs/sha256:${hex}`)
      return backend.addr.startsWith('http')
        ? remote(`${backend.addr}${join(backend.path, hex)}`)
        : bySocket(backend.addr)
    },
    ping: async () => {
      const url = proxy?.pingUrl
      if (url !== undefined) {
        const answer = await direct({ method: 'GET', url, headers: {} }).catch(() => undefined)
        healthy = answer !== undefined && answer.status >= 200 && answer.status < 400
      }
      return healthy
    },
    get fallbacks() {
      return fallbacks
    },
    get redirects() {
      return redirects
    },
    close: () => agent.destroy(),
  }
}
