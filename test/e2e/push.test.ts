import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { before, describe, test } from 'node:test'
import { type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { Agent, type Dispatcher, request } from 'undici'
import { pullWithNode } from '../harness/clients/node.ts'
import { type Peer, startPeer, upstreamAt } from '../harness/darter.ts'
import { noise } from '../harness/images.ts'

const MIB = 1024 * 1024
const SIZE = 544 * MIB + 12_345
/** As in the test of reads: what a peer may take, whatever goes through it. */
const LIMIT = 300 * MIB

/** A blob of {@link SIZE} bytes that is never in memory at once, another one for each seed. */
function* pieces(seed: string, from = 0, to = SIZE): Generator<Buffer> {
  const block = noise(seed, MIB)
  for (let at = from; at < to; ) {
    const within = at % MIB
    // Each block is different, so that none of them can stand in for another.
    const piece = Buffer.from(block)
    piece.writeUInt32BE(Math.floor(at / MIB))
    const end = Math.min(MIB, within + to - at)
    yield piece.subarray(within, end)
    at += end - within
  }
}

function digestOf(seed: string): string {
  const hash = createHash('sha256')
  for (const piece of pieces(seed)) hash.update(piece)
  return `sha256:${hash.digest('hex')}`
}

describe('large pushes through the door', requirePrograms(['docker-registry']), () => {
  const lab = useLab('push')
  const agent = new Agent({ headersTimeout: 120_000, bodyTimeout: 120_000 })
  lab.defer(() => agent.destroy())
  let registry: Registry
  let peer: Peer
  let base: string
  /** The layers that were pushed: what the image at the end is made of. */
  const pushed: { readonly digest: string; readonly size: number }[] = []

  before(async () => {
    registry = await startRegistry(lab)
    peer = await startPeer(lab, { name: 'peer', upstreams: [upstreamAt(registry.address)] })
    base = `http://${peer.mirror.address}/v2/${peer.mirror.prefix}`
  })

  const ask = async (url: string | URL, options: Partial<Dispatcher.RequestOptions>, expected: number) => {
    const answer = await request(url, { dispatcher: agent, ...options })
    const text = await answer.body.text()
    assert.equal(answer.statusCode, expected, text)
    return answer.headers
  }
  /** Where an upload goes on; a client that follows it must come through the door again. */
  const next = (headers: Awaited<ReturnType<typeof ask>>): URL => {
    const url = new URL(String(headers['location']), base)
    assert.equal(url.host, peer.mirror.address)
    assert(url.pathname.startsWith(`/v2/${peer.mirror.prefix}`), url.pathname)
    return url
  }
  const begin = async (repository: string) =>
    next(await ask(`${base}${repository}/blobs/uploads/`, { method: 'POST' }, 202))
  const finish = async (url: URL, digest: string, options: Partial<Dispatcher.RequestOptions>) => {
    url.searchParams.set('digest', digest)
    const headers = await ask(url, { method: 'PUT', ...options }, 201)
    assert.equal(headers['docker-content-digest'], digest)
    pushed.push({ digest, size: SIZE })
  }
  const assertStored = (digest: string) => {
    const hex = digest.slice('sha256:'.length)
    const file = join(registry.storage, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data')
    assert.equal(statSync(file).size, SIZE)
  }
  const assertModest = (told: (line: string) => void) => {
    const peak = peer.peakMemory()
    told(`peak memory of the peer: ${Math.round(peak / MIB)} MiB`)
    assert(peak < LIMIT, `the peer took ${Math.round(peak / MIB)} MiB`)
  }

  test('monolithic: one PUT with a length', async context => {
    const digest = digestOf('monolithic')
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(SIZE) }
    await finish(await begin('nydus/push'), digest, { headers, body: Readable.from(pieces('monolithic')) })
    assertStored(digest)
    assertModest(line => context.diagnostic(line))
  })

  test('streamed: one PATCH without a length', async context => {
    const digest = digestOf('streamed')
    const url = await begin('nydus/push')
    const headers = { 'content-type': 'application/octet-stream' }
    const patched = await ask(url, { method: 'PATCH', headers, body: Readable.from(pieces('streamed')) }, 202)
    await finish(next(patched), digest, {})
    assertStored(digest)
    assertModest(line => context.diagnostic(line))
  })

  test('chunked: PATCHes with ranges', async context => {
    const digest = digestOf('chunked')
    let url = await begin('nydus/push')
    for (let from = 0; from < SIZE; from += 64 * MIB) {
      const to = Math.min(SIZE, from + 64 * MIB)
      const headers = {
        'content-type': 'application/octet-stream',
        'content-length': String(to - from),
        'content-range': `${from}-${to - 1}`,
      }
      const body = Readable.from(pieces('chunked', from, to))
      url = next(await ask(url, { method: 'PATCH', headers, body }, 202))
    }
    await finish(url, digest, {})
    assertStored(digest)
    assertModest(line => context.diagnostic(line))
  })

  test('mounted from another repository, without a byte', async () => {
    for (const { digest } of pushed) {
      const query = `mount=${digest}&from=${encodeURIComponent(`${peer.mirror.prefix}nydus/push`)}`
      const headers = await ask(`${base}nydus/mounted/blobs/uploads/?${query}`, { method: 'POST' }, 201)
      assert.equal(headers['docker-content-digest'], digest)
    }
  })

  test('what was pushed is pulled through the door at once, whole', async context => {
    const config = Buffer.from(
      JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers' } }),
    )
    const digest = `sha256:${createHash('sha256').update(config).digest('hex')}`
    const url = await begin('nydus/mounted')
    url.searchParams.set('digest', digest)
    await ask(url, { method: 'PUT', body: config }, 201)
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    const layer = 'application/vnd.oci.image.layer.nydus.blob.v1'
    const manifest = JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: config.length },
      layers: pushed.map(one => ({ ...one, mediaType: layer })),
    })
    const headers = { 'content-type': mediaType }
    await ask(`${base}nydus/mounted/manifests/v1`, { method: 'PUT', headers, body: manifest }, 201)
    const pulled = await pullWithNode(peer.mirror, 'nydus/mounted', 'v1')
    for (const one of pushed) assert.equal(pulled.digests.get(one.digest), SIZE)
    assertModest(line => context.diagnostic(line))
  })
})
