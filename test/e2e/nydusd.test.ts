import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { type Lab, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { type Generation, GENERATIONS, openNydusd } from '../harness/clients/nydusd.ts'
import { type Peer, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { readLazily } from '../harness/lazy-reads.ts'
import { listen } from '../harness/listen.ts'
import { type Login, UPSTREAM } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'

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
  const [host, port] = registry.split(':')
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
    const from = httpRequest({ host, port, method: request.method, path: pathname, headers })
    from.once('error', () => response.destroy())
    from.once('response', source => {
      response.writeHead(source.statusCode ?? 502, source.headers)
      source.pipe(response)
    })
    from.end()
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
    const { method, url, headers } = request
    const from = httpRequest({ host, port, method, path: url, headers })
    from.once('error', () => response.destroy())
    from.once('response', source => {
      response.writeHead(source.statusCode ?? 502, source.headers)
      source.pipe(response)
    })
    request.pipe(from)
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
