import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { type Daemon, type Registry, requirePrograms, run, startRegistry, useLab } from '@darter/testing'
import { type Backend, type Generation, GENERATIONS, openNydusd } from '../harness/clients/nydusd.ts'
import { MAIN, type Peer, runDarter, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { readLazily } from '../harness/lazy-reads.ts'
import { isBlobGet, type Meter, startMeter } from '../harness/meter.ts'
import { UPSTREAM } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
const REPOSITORY = 'nydus/app'

describe('nydusd, http-proxy and localfs backends', requirePrograms(['docker-registry']), () => {
  const lab = useLab('nydusd-backends')
  let registry: Registry
  let meter: Meter
  let peer: Peer
  let image: Image
  let hexes: readonly string[]
  const bytesOf = (hex: string) => readFileSync(join(image.dir, 'blobs', 'sha256', hex))
  const doorFlags = () => ['--door-port', peer.mirror.address.slice('127.0.0.1:'.length)]

  before(async () => {
    registry = await startRegistry(lab)
    meter = await startMeter(lab, registry.address)
    image = noiseImage(lab.makeDir('image'), 'nydus-backends', [6 * MIB + 4321, 3 * MIB, 700])
    await pushImage(registry.url, REPOSITORY, 'latest', image)
    hexes = image.manifests[0]?.layers.map(layer => layer.digest.slice('sha256:'.length)) ?? []
    assert.equal(hexes.length, 3)
    const scheduler = await startScheduler(lab)
    const upstreams = [upstreamAt(meter.address)]
    peer = await startPeer(lab, { name: 'one', upstreams, scheduler })
  })

  const readAll = async (backendOf: (hex: string) => Backend, generation: Generation) => {
    for (const [at, hex] of hexes.entries()) {
      const nydusd = openNydusd(backendOf(hex), generation)
      await readLazily(nydusd.blob(hex), bytesOf(hex), at)
      assert.equal(nydusd.redirects, 0)
      nydusd.close()
    }
  }
  const startSockets = (dir: string, name: string): Promise<Daemon> =>
    lab.start({
      name,
      command: process.execPath,
      args: [MAIN, 'nydus', 'socket', `${UPSTREAM}/${REPOSITORY}`, '--dir', dir, ...doorFlags()],
      ready: daemon => daemon.stdout().split('\n').filter(Boolean).length === hexes.length,
    })

  for (const path of [`/blobs/${UPSTREAM}/${REPOSITORY}`, `/blobs/${REPOSITORY}`]) {
    test(`http-proxy by TCP, with the path ${path}`, async () => {
      const addr = `http://${peer.mirror.address}`
      for (const generation of Object.values<Generation>(GENERATIONS)) {
        await readAll(() => ({ type: 'http-proxy', addr, path }), generation)
      }
    })
  }

  test('bare names are of a repository: others, and unknown ones, are refused', async () => {
    const [hex] = hexes
    const answers = await Promise.all(
      [
        `/blobs/${UPSTREAM}/nydus/other/${hex}`,
        `/blobs/${UPSTREAM}/${REPOSITORY}/${'0'.repeat(64)}`,
        `/blobs/${hex}`,
        `/blobs/evil.test/x/${hex}`,
        `/blobs/${UPSTREAM}/../../${hex}`,
        `/blobs/${UPSTREAM}/${REPOSITORY}/${hex?.slice(1)}`,
      ].map(async path => {
        const { promise, resolve, reject } = Promise.withResolvers<number>()
        const [host, port] = peer.mirror.address.split(':')
        const asked = httpRequest({ host, port, path })
        asked.once('error', reject).once('response', answer => {
          answer.resume()
          resolve(answer.statusCode ?? 0)
        })
        asked.end()
        return promise
      }),
    )
    assert.deepEqual(answers, [404, 404, 404, 403, 400, 404])
  })

  test('http-proxy by a socket for each blob; what goes wrong is never answered', async () => {
    const dir = join(lab.dir, 'sockets')
    const daemon = await startSockets(dir, 'sockets')
    assert.equal(statSync(dir).mode & 0o777, 0o700)
    const sockets = new Map(
      daemon
        .stdout()
        .trim()
        .split('\n')
        .map(line => line.split(' ') as [string, string]),
    )
    const socketOf = (hex: string) => sockets.get(hex) ?? assert.fail(`no socket for ${hex}`)
    for (const hex of hexes) assert.equal(statSync(socketOf(hex)).mode & 0o777, 0o600)
    await readAll(
      hex => ({ type: 'http-proxy', addr: socketOf(hex), path: '/ignored' }),
      GENERATIONS['2.4.4'],
    )

    const [hex] = hexes
    assert(hex)
    const nydusd = openNydusd({ type: 'http-proxy', addr: socketOf(hex), path: '/' }, GENERATIONS['2.4.4'])
    // Beyond the end the peer has an error to tell; here its text would be taken for the blob's bytes.
    await assert.rejects(nydusd.blob(hex).read(bytesOf(hex).length + 10, 100))
    // A second one does not take a living one's place; a killed one's does.
    const second = run(process.execPath, [
      MAIN,
      'nydus',
      'socket',
      `${UPSTREAM}/${REPOSITORY}`,
      '--dir',
      dir,
      ...doorFlags(),
    ])
    await assert.rejects(second, /another process listens/)
    await daemon.kill('SIGKILL')
    const again = await startSockets(dir, 'sockets-again')
    assert((await nydusd.blob(hex).read(5, 100)).equals(bytesOf(hex).subarray(5, 105)))
    nydusd.close()
    assert.equal(await again.stop(), 0)
    assert.deepEqual(readdirSync(dir), [])
  })

  test('localfs: an export has all blobs, whole, under their bare names', async () => {
    const dir = join(lab.dir, 'export')
    await runDarter('export', [`${UPSTREAM}/${REPOSITORY}:latest`, '--dir', dir, ...doorFlags()])
    assert.deepEqual(new Set(readdirSync(dir)), new Set(hexes))
    assert.equal(statSync(dir).mode & 0o777, 0o700)
    await readAll(() => ({ type: 'localfs', dir }), GENERATIONS['2.4.4'])

    // A damaged one is put right, the others stay as they are.
    const [damaged = '', kept = ''] = hexes
    const file = join(dir, damaged)
    const bytes = readFileSync(file)
    bytes[12_345]! ^= 1
    writeFileSync(file, bytes)
    const before = statSync(join(dir, kept)).mtimeMs
    await runDarter('export', [`${UPSTREAM}/${REPOSITORY}`, '--dir', dir, ...doorFlags()])
    assert(readFileSync(file).equals(bytesOf(damaged)))
    assert.equal(statSync(join(dir, kept)).mtimeMs, before)

    const one = join(lab.dir, 'single')
    await runDarter('export', [`${REPOSITORY}@sha256:${kept}`, '--dir', one, ...doorFlags()])
    assert.deepEqual(readdirSync(one), [kept])
    for (const [name, reason] of [
      [
        `${REPOSITORY}@sha256:${'0'.repeat(64)}`,
        /^darter: the upstream.*\/sha256:0{64} was answered with status 404$/m,
      ],
      [`${REPOSITORY}:none`, /^darter: the upstream.*\/manifests\/none was answered with status 404$/m],
    ] as const) {
      const args = [MAIN, 'export', name, '--dir', one, ...doorFlags()]
      assert.match((await run(process.execPath, args, { codes: [1] })).stderr, reason)
    }
    assert.deepEqual(readdirSync(one), [kept])
  })

  test('an export that is killed leaves nothing under a blob’s name, and the next one goes on', async () => {
    const slow = noiseImage(lab.makeDir('slow'), 'nydus-slow', [12 * MIB])
    await pushImage(registry.url, 'nydus/slow', 'latest', slow)
    const hex = slow.manifests[0]?.layers[0]?.digest.slice('sha256:'.length) ?? ''
    const dir = join(lab.dir, 'killed')
    meter.setRate(2 * MIB)
    const exporting = await lab.start({
      name: 'export',
      command: process.execPath,
      args: [MAIN, 'export', `${UPSTREAM}/nydus/slow`, '--dir', dir, ...doorFlags()],
      ready: () => existsSync(join(dir, `${hex}.part`)) && statSync(join(dir, `${hex}.part`)).size > MIB,
    })
    await exporting.kill('SIGKILL')
    assert(!existsSync(join(dir, hex)))
    meter.setRate(undefined)
    await runDarter('export', [`${UPSTREAM}/nydus/slow`, '--dir', dir, ...doorFlags()])
    assert.deepEqual(readdirSync(dir), [hex])
    const actual = createHash('sha256')
      .update(readFileSync(join(dir, hex)))
      .digest('hex')
    assert.equal(actual, hex)
  })

  test('each blob was read from the registry about once, whatever the way', async () => {
    const sizes = image.bytes

    const read = meter.bodyBytes(
      request => isBlobGet(request) && hexes.some(hex => request.path.includes(hex)),
    )
    assert(read >= sizes * 0.9 && read < sizes * 1.5, `${read} of ${sizes} bytes`)
  })
})
