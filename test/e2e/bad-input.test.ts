import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { before, describe, test } from 'node:test'
import { freePort, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { curl } from '../harness/clients/curl.ts'
import { pullWithNode } from '../harness/clients/node.ts'
import { type Peer, type Scheduler, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { type Meter, startMeter } from '../harness/meter.ts'
import { UPSTREAM } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
const ZEROS = `sha256:${'0'.repeat(64)}`

describe('bad input', requirePrograms(['docker-registry', 'curl']), () => {
  const lab = useLab('bad-input')
  let image: Image
  let meter: Meter
  let scheduler: Scheduler
  let peer: Peer
  let root: string

  before(async () => {
    const registry = await startRegistry(lab)
    meter = await startMeter(lab, registry.address)
    image = noiseImage(lab.makeDir('image'), 'bad-input', [2 * MIB, 100])
    await pushImage(registry.url, 'library/app', 'v1', image)
    scheduler = await startScheduler(lab)
    peer = await startPeer(lab, { name: 'peer', upstreams: [upstreamAt(meter.address)], scheduler })
    root = `http://${peer.mirror.address}`
  })

  const assertStillWorks = async () => {
    const pulled = await pullWithNode(peer.mirror, 'library/app', 'v1', {
      signal: AbortSignal.timeout(30_000),
    })
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
    assert.equal(peer.daemon.ended, undefined)
  }
  const layerUrl = () => `${root}/v2/${UPSTREAM}/library/app/blobs/${image.blobs[0]?.digest}`

  test('malformed paths get a clear 4xx and never reach the upstream', async () => {
    const bad = [
      `/v2/${UPSTREAM}/library/app/blobs/sha256:short`,
      `/v2/${UPSTREAM}/library/app/blobs/sha256:${'G'.repeat(64)}`,
      `/v2/${UPSTREAM}/library/app/blobs/sha256:${'A'.repeat(64)}`,
      `/v2/${UPSTREAM}/library/app/blobs/md5:${'0'.repeat(32)}`,
      `/v2/${UPSTREAM}/library/app/blobs/..%2f..%2f..%2fetc%2fpasswd`,
      `/v2/${UPSTREAM}/library/app/blobs/../../../../etc/passwd`,
      `/v2/${UPSTREAM}/library/%2e%2e/%2e%2e/blobs/${ZEROS}`,
      `/v2/${UPSTREAM}/library/../app/manifests/v1`,
      `/v2/${UPSTREAM}/library%2fapp/blobs/sha256%3a${'0'.repeat(63)}`,
      `/v2/${UPSTREAM}/LIBRARY/App/manifests/v1`,
      `/v2/${UPSTREAM}/library//app/manifests/v1`,
      `/v2/${UPSTREAM}/library/app/manifests/-v1`,
      `/v2/${UPSTREAM}/library/app/manifests/${'v'.repeat(129)}`,
      `/v2/${UPSTREAM}/library/app/manifests/v1%00`,
      `/v2/${UPSTREAM}/${'a/'.repeat(200)}app/manifests/v1`,
      `/v2/${UPSTREAM}/library/app/manifests/%zz`,
      '/v2/%2e%2e/%2e%2e/metrics',
      '/../../etc/passwd',
      '/etc/passwd',
      '/v3/',
    ]
    meter.reset()
    for (const path of bad) {
      const answer = await curl(`${root}${path}`)
      assert(answer.status >= 400 && answer.status < 500, `${path}: ${answer.status}`)
      assert(!answer.body.includes('root:'), path)
      if (path.startsWith('/v2/')) {
        const { errors } = JSON.parse(answer.body.toString('utf8')) as { errors: { code: string }[] }
        assert.match(errors[0]?.code ?? '', /^[A-Z_]+$/, path)
      }
    }
    assert.deepEqual(
      meter.requests.map(request => request.path),
      [],
      'a malformed request reached the upstream',
    )
    await assertStillWorks()
  })

  test('upstreams that are not allowed are never contacted', async () => {
    const stranger = await startMeter(lab, meter.address)
    const paths = [
      `/v2/${stranger.address}/library/app/manifests/v1`,
      `/v2/library/app/manifests/v1?ns=${stranger.address}`,
      `/v2/library/app/manifests/v1?ns=${encodeURIComponent(`http://${stranger.address}/`)}`,
      `/v2/library/app/manifests/v1?ns=${UPSTREAM}@${stranger.address}`,
      `/v2/library/app/manifests/v1?ns=evil.example`,
      `/v2/library/app/manifests/v1?ns=${'a'.repeat(4000)}`,
    ]
    for (const path of paths) {
      const answer = await curl(`${root}${path}`)
      assert(answer.status >= 400 && answer.status < 500, `${path}: ${answer.status}`)
    }
    for (const value of [stranger.address, `http://${stranger.address}`, 'evil.example']) {
      const answer = await curl(`${root}/v2/library/app/manifests/v1`, [
        '--header',
        `X-Dragonfly-Registry: ${value}`,
      ])
      assert(answer.status >= 400 && answer.status < 500, `${value}: ${answer.status}`)
    }
    assert.equal(stranger.requests.length, 0)
  })

  test('ranges that make no sense are ignored or refused, never answered with wrong bytes', async () => {
    const size = image.blobs[0]?.size ?? 0
    for (const range of [
      'bytes=9-1',
      'bytes=a-b',
      'bytes=',
      'chunks=0-1',
      'bytes=-',
      `bytes=${'9'.repeat(40)}-`,
    ]) {
      const answer = await curl(layerUrl(), ['--header', `Range: ${range}`])
      if (answer.status === 200) assert.equal(answer.body.length, size, range)
      else assert([400, 416].includes(answer.status), `${range}: ${answer.status}`)
    }
    const many = await curl(layerUrl(), ['--header', `Range: bytes=${'0-0,'.repeat(500)}1-1`])
    assert([200, 400, 416].includes(many.status), `many ranges: ${many.status}`)
  })

  test('oversized headers and bodies', async () => {
    const header = await curl(`${root}/v2/`, ['--header', `X-Big: ${'x'.repeat(100_000)}`])
    assert.equal(header.status, 431)
    const body = await curl(`${root}/v2/${UPSTREAM}/library/app/manifests/v1`, [
      ...['--request', 'GET', '--data-binary', 'x'.repeat(100_000)],
    ])
    assert(body.status < 500, `a body with a GET: ${body.status}`)
    const manifest = await curl(`${root}/v2/${UPSTREAM}/library/app/manifests/big`, [
      ...['--request', 'PUT', '--header', 'Content-Type: application/vnd.oci.image.manifest.v1+json'],
      ...['--header', 'Content-Length: 99999999999999', '--data-binary', 'x', '--max-time', '3'],
    ]).catch(() => undefined)
    if (manifest !== undefined) assert(manifest.status >= 400, `an endless manifest: ${manifest.status}`)
    await assertStillWorks()
  })

  test('what is no HTTP at all', async () => {
    for (const bytes of [
      'GET\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01',
      randomBytes(4096),
    ]) {
      await throwAt(Number(peer.mirror.address.split(':')[1]), bytes)
    }
    await assertStillWorks()
  })

  test('garbage on the libp2p and data ports of peer and scheduler', async () => {
    const schedulerPort = Number(/tcp\/(\d+)/.exec(scheduler.address)?.[1])
    for (const port of [peer.swarmPort, peer.dataPort, schedulerPort]) {
      for (const bytes of [
        randomBytes(65_536),
        Buffer.alloc(1 * MIB),
        Buffer.alloc(8 * MIB, 0xff),
        Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n' + 'x'.repeat(1000)),
        Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
        Buffer.from([0x16, 0x03, 0x01, 0xff, 0xff, 1, 2, 3]),
        Buffer.alloc(0),
      ]) {
        await throwAt(port, bytes)
      }
    }
    assert.equal(scheduler.daemon.ended, undefined)
    await assertStillWorks()
    const joined = await startPeer(lab, { name: 'joined', upstreams: [upstreamAt(meter.address)], scheduler })
    meter.reset()
    await pullWithNode(joined.mirror, 'library/app', 'v1')
    const layers = meter.requests.filter(request => request.path.includes('/blobs/'))
    assert.equal(layers.length, 0, 'the swarm did not work after the garbage')
  })

  test('a peer without the cluster key learns and gets nothing', async () => {
    const other = await startScheduler(lab, 'other-scheduler')
    const outsider = await startPeer(lab, {
      name: 'outsider',
      awaitScheduler: false,
      upstreams: [upstreamAt(meter.address)],
      scheduler: { address: scheduler.address, clusterKeyFile: other.clusterKeyFile },
    })
    await assertStillWorks()
    meter.reset()
    const pulled = await pullWithNode(outsider.mirror, 'library/app', 'v1')
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
    const fromOrigin = meter.bodyBytes(request => request.path.includes('/blobs/'))
    assert(fromOrigin >= image.bytes * 0.99, 'a peer with the wrong key got content from the swarm')
  })

  test('a mirror that points at itself is detected', async () => {
    const port = await freePort()
    await startPeer(lab, {
      name: 'loop',
      upstreams: [upstreamAt(`127.0.0.1:${port}`)],
      args: ['--door-port', String(port)],
    })
    const answer = await curl(`http://127.0.0.1:${port}/v2/${UPSTREAM}/library/app/manifests/v1`, [
      '--max-time',
      '20',
    ])
    assert(answer.status >= 400, `a loop was answered with ${answer.status}`)
    assert.match(answer.body.toString('utf8'), /loop|itself|508/i)
    const first = await startPeer(lab, { name: 'ring-1', upstreams: [upstreamAt(`127.0.0.1:${port}`)] })
    const ring = await curl(`http://${first.mirror.address}/v2/${UPSTREAM}/library/app/manifests/v1`, [
      ...['--max-time', '20'],
    ])
    assert(ring.status >= 400, `a ring was answered with ${ring.status}`)
  })
})

/** Sends bytes to a port and waits until the other side closes, or has had its second to do so. */
async function throwAt(port: number, bytes: string | Uint8Array): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port })
  socket.on('error', () => {})
  socket.resume()
  const closed = new Promise(resolve => socket.once('close', resolve))
  socket.end(bytes)
  const timer = setTimeout(() => socket.destroy(), 1000)
  await closed
  clearTimeout(timer)
}
