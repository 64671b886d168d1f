import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import http, { createServer } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import {
  freePort,
  type Lab,
  type Registry,
  requirePrograms,
  startRegistry,
  until,
  useLab,
} from '@darter/testing'
import { type Generation, GENERATIONS, openNydusd } from '../harness/clients/nydusd.ts'
import { type Peer, runDarter, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { readLazily } from '../harness/lazy-reads.ts'
import { listen } from '../harness/listen.ts'
import { relay } from '../harness/relay.ts'
import { type Login, UPSTREAM } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'
import { startTlsFront, type TlsFront } from '../harness/tls-front.ts'
import { startTokenServer } from '../harness/token-server.ts'

const MIB = 1024 * 1024
const ALICE: Login = { username: 'alice', password: 'opensesame-7731' }
const auth = Buffer.from(`${ALICE.username}:${ALICE.password}`).toString('base64')

/** What a redirecting registry and the storage behind it were asked. */
interface Redirector {
  readonly address: string
  /** Headers of the requests that reached the storage's host. */
  readonly atStorage: readonly NodeJS.Dict<string | string[]>[]
  readonly redirected: () => number
}

/**
 * Stands before a registry as those with object storage behind them do: blobs are redirected to another host with a
 * signed URL. That other host serves the signed URLs alone and refuses requests that bring credentials, as object
 * storage does.
 */
async function startRedirector(lab: Lab, registry: string, authorization: string): Promise<Redirector> {
  const atStorage: NodeJS.Dict<string | string[]>[] = []
  let redirected = 0
  const storage = createServer((request, response) => {
    atStorage.push(request.headers)
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://storage')
    if (searchParams.get('signature') !== 'by-the-registry' || request.headers.authorization !== undefined) {
      response.writeHead(400).end('only one way to authenticate is allowed')
      return
    }
    const headers = {
      authorization,
      ...(request.headers.range !== undefined && { range: request.headers.range }),
    }
    relay(request, response, registry, { path: pathname, headers })
  })
  const storagePort = await listen(lab, storage)
  const front = createServer((request, response) => {
    const isBlob =
      request.url?.includes('/blobs/sha256:') === true && request.headers.authorization !== undefined
    if (isBlob) {
      redirected++
      const location = `http://localhost:${storagePort}${request.url}?signature=by-the-registry`
      response.writeHead(307, { location }).end()
      return
    }
    relay(request, response, registry)
  })
  return { address: `127.0.0.1:${await listen(lab, front)}`, atStorage, redirected: () => redirected }
}

const bytesOf = (image: Image, digest: string) =>
  readFileSync(join(image.dir, 'blobs', 'sha256', digest.slice('sha256:'.length)))

/** The layer that the tests read from. */
function layerOf(image: Image): { readonly hex: string; readonly bytes: Buffer } {
  const [layer] = image.manifests[0]?.layers ?? []
  assert(layer)
  return { hex: layer.digest.slice('sha256:'.length), bytes: bytesOf(image, layer.digest) }
}

describe('nydusd, registry backend', requirePrograms(['docker-registry', 'htpasswd']), () => {
  const lab = useLab('nydusd')
  let redirector: Redirector
  let peers: Peer[]
  let images: Map<string, Image>

  before(async () => {
    const registry = await startRegistry(lab, { auth: { htpasswd: { [ALICE.username]: ALICE.password } } })
    images = new Map()
    for (const name of Object.keys(GENERATIONS)) {
      const image = noiseImage(lab.makeDir(`image-${name}`), `nydus-${name}`, [9 * MIB + 4321])
      await pushImage(registry.url, `nydus/v${name}`, 'latest', image, { authorization: `Basic ${auth}` })
      images.set(name, image)
    }
    redirector = await startRedirector(lab, registry.address, `Basic ${auth}`)
    const scheduler = await startScheduler(lab)
    const upstreams = [upstreamAt(redirector.address)]
    peers = await Promise.all(['one', 'two'].map(name => startPeer(lab, { name, upstreams, scheduler })))
  })

  for (const generation of Object.values<Generation>(GENERATIONS)) {
    test(`${generation.name}: \`host\` is the peer; the registry redirects to storage`, async () => {
      const image = images.get(generation.name)
      assert(image)
      const { hex, bytes } = layerOf(image)
      await Promise.all(
        peers.map(async (peer, index) => {
          const nydusd = openNydusd(
            {
              type: 'registry',
              scheme: 'http',
              host: peer.mirror.address,
              // With and without the registry's name in the path: the default upstream is the only one.
              repo: `${index === 0 ? `${UPSTREAM}/` : ''}nydus/v${generation.name}`,
              auth,
            },
            generation,
          )
          await readLazily(nydusd.blob(hex), bytes, 7 + index)
          assert.equal(nydusd.redirects, 0)
          nydusd.close()
        }),
      )
      assert(redirector.redirected() > 0)
    })
  }

  test('no credential reached the host that the registry redirected to', () => {
    assert(redirector.atStorage.length > 0)
    for (const headers of redirector.atStorage) {
      assert.equal(headers['authorization'], undefined)
      assert.equal(headers['cookie'], undefined)
      assert(!JSON.stringify(headers).includes(auth))
    }
  })

  test('2.3.4 with the peer as a mirror of a registry that is gone', async () => {
    const [peer] = peers
    const image = images.get('2.3.4')
    assert(peer && image)
    const { hex, bytes } = layerOf(image)
    const nydusd = openNydusd(
      {
        type: 'registry',
        scheme: 'http',
        host: '127.0.0.1:1',
        repo: 'nydus/v2.3.4',
        auth,
        mirrors: [{ host: `http://${peer.mirror.address}`, headers: { 'X-Dragonfly-Registry': UPSTREAM } }],
      },
      GENERATIONS['2.3.4'],
    )
    await readLazily(nydusd.blob(hex), bytes, 11)
    nydusd.close()
    const ping = await fetch(`http://${peer.mirror.address}/v2`)
    assert(ping.status < 500)
  })
})

/** What a proxy answers to CONNECT, or to a request in absolute form. */
function askProxy(proxy: string, method: string, path: string): Promise<http.IncomingMessage> {
  const { hostname, port } = new URL(proxy)
  return new Promise((resolve, reject) => {
    const request = http.request({ host: hostname, port, method, path, agent: false })
    request.once('error', reject)
    const done = (response: http.IncomingMessage) => {
      response.resume()
      request.destroy()
      resolve(response)
    }
    request.once('response', done).once('connect', done)
    request.end()
  })
}

/** Everything that a proxy answers to a request line. */
async function answerOf(proxy: string, line: string): Promise<string> {
  const { hostname, port } = new URL(proxy)
  const socket = connect(Number(port), hostname)
  socket.write(`${line} HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n`)
  let answer = ''
  for await (const piece of socket) answer += String(piece)
  return answer
}

describe('nydusd, proxy block', requirePrograms(['docker-registry', 'htpasswd', 'openssl']), () => {
  const lab = useLab('nydusd-proxy')
  let registry: Registry
  let front: TlsFront
  let other: TlsFront
  let peer: Peer
  let proxy: string
  let ca: string
  let image: Image
  let tokenImage: Image
  let tokenRegistry: Registry

  before(async () => {
    registry = await startRegistry(lab, { auth: { htpasswd: { [ALICE.username]: ALICE.password } } })
    front = await startTlsFront(lab, UPSTREAM, registry.address)
    other = await startTlsFront(lab, 'other.test', registry.address)
    image = noiseImage(lab.makeDir('image'), 'nydus-proxy', [7 * MIB + 999])
    await pushImage(registry.url, 'nydus/app', 'latest', image, { authorization: `Basic ${auth}` })
    const tokens = await startTokenServer(lab, {
      alice: { password: ALICE.password, repositories: ['nydus/token'] },
    })
    tokenRegistry = await startRegistry(lab, { name: 'token-registry', auth: { token: tokens } })
    tokenImage = noiseImage(lab.makeDir('token-image'), 'nydus-token', [2 * MIB + 77])
    const basic = { authorization: `Basic ${auth}` }
    const query = `service=${tokens.service}&scope=repository:nydus/token:pull,push`
    const answer = (await (await fetch(`${tokens.url}?${query}`, { headers: basic })).json()) as {
      token: string
    }
    await pushImage(tokenRegistry.url, 'nydus/token', 'latest', tokenImage, {
      authorization: `Bearer ${answer.token}`,
    })

    const config = join(lab.dir, 'darter.yaml')
    const port = await freePort()
    writeFileSync(
      config,
      JSON.stringify({
        upstreams: [
          { name: UPSTREAM, url: `https://${front.address}`, ca: front.caFile },
          `plain.test=${registry.url}`,
          `token.test=${tokenRegistry.url}`,
        ],
        proxy: {
          port,
          'tunnel-hosts': [other.address, new URL(tokens.url).origin],
          'intercept-hosts': [UPSTREAM],
        },
      }),
    )
    peer = await startPeer(lab, { name: 'peer', upstreams: [], args: ['--config', config] })
    proxy = `http://127.0.0.1:${port}`
    ca = await runDarter('ca', ['--data-dir', peer.dataDir])
  })

  for (const generation of Object.values<Generation>(GENERATIONS)) {
    for (const [way, scheme, host, block] of [
      ['http in absolute form', 'http', 'plain.test', {}],
      ['https by use_http', 'https', UPSTREAM, { useHttp: true }],
      ['https by CONNECT, with the authority of the peer', 'https', UPSTREAM, {}],
    ] as const) {
      test(`${generation.name}: ${way}`, async () => {
        const { hex, bytes } = layerOf(image)
        const nydusd = openNydusd(
          {
            type: 'registry',
            scheme,
            host,
            repo: 'nydus/app',
            auth,
            proxy: { url: proxy, pingUrl: `${proxy}/healthz`, fallback: false, ca, ...block },
          },
          generation,
        )
        assert(await nydusd.ping())
        await readLazily(nydusd.blob(hex), bytes, 23)
        assert.equal(nydusd.redirects, 0)
        nydusd.close()
      })
    }
  }

  test('the blob was read from the registry once, whatever the name it was asked for by', async () => {
    const received = await peer.metric('darter_received_bytes_total', { source: 'origin' })
    const { length } = layerOf(image).bytes
    assert(received >= length && received < 1.5 * length, `${received} of ${length} bytes`)
  })

  test('a token is fetched through the proxy from a listed token service', async () => {
    const { hex, bytes } = layerOf(tokenImage)
    const nydusd = openNydusd(
      {
        type: 'registry',
        scheme: 'http',
        host: 'token.test',
        repo: 'nydus/token',
        auth,
        proxy: { url: proxy, fallback: false },
      },
      GENERATIONS['2.4.4'],
    )
    await readLazily(nydusd.blob(hex), bytes, 5)
    nydusd.close()
  })

  test('a listed host that is not intercepted is tunnelled to: the client sees its own certificate', async () => {
    const { hex, bytes } = layerOf(image)
    const before = other.requests
    const nydusd = openNydusd(
      {
        type: 'registry',
        scheme: 'https',
        host: other.address,
        repo: 'nydus/app',
        auth,
        proxy: { url: proxy, fallback: false, ca: readFileSync(other.caFile, 'utf8') },
      },
      GENERATIONS['2.4.2'],
    )
    assert((await nydusd.blob(hex).read(100, 5000)).equals(bytes.subarray(100, 5100)))
    assert(other.requests > before)
    nydusd.close()
  })

  test('nothing else is reached', async () => {
    const door = peer.mirror.address
    const refused: [string, string][] = [
      ['CONNECT', door],
      ['CONNECT', registry.address],
      ['CONNECT', `${UPSTREAM}:22`],
      ['CONNECT', '169.254.169.254:80'],
      ['CONNECT', 'localhost:22'],
      ['CONNECT', '[::1]:22'],
      ['CONNECT', 'example.com:443'],
      ['GET', `http://${door}/v2/`],
      ['GET', 'http://169.254.169.254/latest/meta-data'],
      ['GET', 'http://example.com/'],
      // A registry on this machine is reached as a registry alone.
      ['GET', `http://${registry.address}/debug/vars`],
      ['GET', 'http://plain.test/debug/vars'],
    ]
    for (const [method, target] of refused) {
      const answer = await askProxy(proxy, method, target)
      assert.equal(answer.statusCode, 403, `${method} ${target}`)
      assert.equal(answer.headers['x-dragonfly-error-type'], 'proxy')
    }
    for (const target of ['http://', 'http://plain.test:0/v2/']) {
      assert.equal((await askProxy(proxy, 'GET', target)).statusCode, 400, target)
    }
    // The ordinary door takes the absolute form for upstreams, and nothing but registry requests.
    const asRegistry = await askProxy(`http://${door}`, 'GET', 'http://plain.test/v2/')
    assert.equal(asRegistry.statusCode, 401)
    const stray = await askProxy(`http://${door}`, 'GET', 'http://plain.test/token')
    assert.equal(stray.statusCode, 404)
    await assert.rejects(askProxy(`http://${door}`, 'CONNECT', other.address))
  })

  test('what a client puts into a target by mistake is in no answer and no log', async () => {
    const door = `http://${peer.mirror.address}`
    for (const [at, line, status] of [
      [proxy, 'GET http://user:secret@plain.test/v2/?token=secret', 400],
      [proxy, 'CONNECT user:secret@plain.test:443', 400],
      [door, 'GET http://plain.test/elsewhere?signature=secret', 404],
      [door, 'GET /url/https%3A%2F%2Fuser%3Asecret%40plain.test%2F%ZZ', 400],
      [door, 'GET /urls/https%3A%2F%2Fuser%3Asecret%40plain.test%2F', 404],
    ] as const) {
      const answer = await answerOf(at, line)
      assert.match(answer, new RegExp(`^HTTP/1.1 ${status} [^]*"errors"`), line)
      assert.doesNotMatch(answer, /secret/)
    }
    const log = await until('the log has it all', () => {
      const text = JSON.stringify(peer.log())
      return text.includes('/...') && text
    })
    assert.doesNotMatch(log, /secret/)
  })

  test("the upstream's own refusal is told from the peer's failure, which is a 5xx", async () => {
    const [unknown] = [`http://token.test/v2/nydus/token/blobs/sha256:${'0'.repeat(64)}`]
    const refused = await askProxy(proxy, 'GET', unknown)
    assert.equal(refused.statusCode, 401)
    assert.equal(refused.headers['x-dragonfly-error-type'], 'backend')
    await tokenRegistry.stop()
    await until('the upstream counts as gone', async () => {
      const answer = await askProxy(proxy, 'GET', unknown)
      return (answer.statusCode ?? 0) >= 500 && answer.headers['x-dragonfly-error-type'] === 'proxy'
    })
  })

  test('when the peer is gone, ping fails and reads fall back to the registry', async () => {
    const { hex, bytes } = layerOf(image)
    const block = { url: proxy, pingUrl: `${proxy}/healthz` }
    const nydusd = openNydusd(
      { type: 'registry', scheme: 'http', host: registry.address, repo: 'nydus/app', auth, proxy: block },
      GENERATIONS['2.4.4'],
    )
    assert(await nydusd.ping())
    await nydusd.blob(hex).read(0, 4096)
    assert.equal(nydusd.fallbacks, 0)
    await peer.daemon.stop()
    // Not noticed yet: the connection fails.
    assert((await nydusd.blob(hex).read(10, 4096)).equals(bytes.subarray(10, 4106)))
    assert.equal(nydusd.fallbacks, 1)
    assert(!(await nydusd.ping()))
    await readLazily(nydusd.blob(hex), bytes, 3)
    assert.equal(nydusd.fallbacks, 1)
    nydusd.close()
    await peer.restart()
  })
})
