/**
 * Mounts an image with nydusd itself through a peer, by each of its backends, and compares every file. Not one of the tests, since
 * nydusd has to be built; docs/clients/nydusd.md tells how.
 *
 *     node test/by-hand/nydusd.ts DIR    (that nydusd and nydus-image are in)
 */
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { createScratch, freePort, type Lab, run, startRegistry } from '@darter/testing'
import { MAIN, type Peer, runDarter, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { ARCHITECTURE, buildImage, type Descriptor, digestOf, type Image, noise } from '../harness/images.ts'
import { isBlobGet, startMeter } from '../harness/meter.ts'
import { UPSTREAM } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'
import { tar } from '../harness/tar.ts'

const KIB = 1024
const MIB = 1024 * KIB
const REPOSITORY = 'team/app'
const { argv } = process
const bin = argv[2] ?? assert.fail('say where nydusd and nydus-image are')

/** A tree of a few large and many small files. */
function makeTree(dir: string): void {
  for (let i = 0; i < 3; i++)
    writeFileSync(join(dir, `large-${i}`), noise(`large-${i}`, (10 + 7 * i) * MIB + i))
  for (let i = 0; i < 300; i++) {
    const below = join(dir, `d${i % 10}`)
    mkdirSync(below, { recursive: true })
    const bytes =
      i % 2 === 0 ? noise(`small-${i}`, (i % 97) * KIB + i) : Buffer.from(`line ${i}\n`.repeat(i * 50))
    writeFileSync(join(below, `small-${i}`), bytes)
  }
}

/** An image as nydus-image made it; RAFS v5 is mounted without a cache, which v6 cannot do without. */
interface Converted {
  readonly rafs: 5 | 6
  readonly image: Image
  /** The only data blob. */
  readonly blob: Descriptor
  readonly bootstrap: string
}

async function convert(lab: Lab, tree: string, rafs: 5 | 6): Promise<Converted> {
  const bootstrap = join(lab.dir, `bootstrap-v${rafs}`)
  const blobs = lab.makeDir(`blobs-v${rafs}`)
  const into = ['--fs-version', String(rafs), '--bootstrap', bootstrap, '--blob-dir', blobs]
  await run(join(bin, 'nydus-image'), ['create', '--type', 'dir-rafs', ...into, tree])
  const [name, ...others] = readdirSync(blobs)
  assert(name !== undefined && others.length === 0)
  const bytes = readFileSync(join(blobs, name))
  assert.equal(`sha256:${name}`, digestOf(bytes))
  const archive = tar([
    { type: 'directory', path: 'image' },
    { type: 'file', path: 'image/image.boot', data: readFileSync(bootstrap) },
  ])
  const layers = [
    {
      mediaType: 'application/vnd.oci.image.layer.nydus.blob.v1',
      bytes,
      diffId: digestOf(bytes),
      annotations: { 'containerd.io/snapshot/nydus-blob': 'true' },
    },
    {
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      bytes: gzipSync(archive),
      diffId: digestOf(archive),
      annotations: { 'containerd.io/snapshot/nydus-bootstrap': 'true' },
    },
  ]
  const image = buildImage(lab.makeDir(`image-v${rafs}`), {
    format: 'oci',
    platforms: [{ architecture: ARCHITECTURE, layers }],
  })
  const [blob] = image.manifests[0]?.layers ?? []
  assert(blob)
  return { rafs, image, blob, bootstrap }
}

interface Backend {
  readonly type: 'registry' | 'http-proxy' | 'localfs'
  readonly config: object
}

const lab = createScratch('nydusd-by-hand')
try {
  const tree = lab.makeDir('tree')
  makeTree(tree)
  const images = [await convert(lab, tree, 6), await convert(lab, tree, 5)]
  const registry = await startRegistry(lab)
  const meter = await startMeter(lab, registry.address)
  for (const { image, rafs } of images) await pushImage(registry.url, REPOSITORY, `v${rafs}`, image)
  const scheduler = await startScheduler(lab)
  let count = 0

  const newPeer = async (args: readonly string[] = []): Promise<Peer> =>
    startPeer(lab, { name: `peer-${++count}`, upstreams: [upstreamAt(meter.address)], args })

  const mount = async (backend: Backend, { bootstrap, rafs }: Converted): Promise<void> => {
    const withCache = rafs === 6
    const name = `nydusd-${++count}`
    const dir = lab.makeDir(name)
    const mountpoint = join(dir, 'mnt')
    const work = join(dir, 'cache')
    for (const made of [mountpoint, work]) mkdirSync(made)
    const config = join(dir, 'config.json')
    writeFileSync(
      config,
      JSON.stringify({
        version: 2,
        id: name,
        backend: { type: backend.type, [backend.type]: backend.config },
        cache: {
          type: withCache ? 'blobcache' : 'dummycache',
          filecache: { work_dir: work },
          prefetch: { enable: withCache, threads: 8, batch_size: MIB, prefetch_all: true },
        },
        rafs: {
          mode: 'direct',
          prefetch: { enable: withCache, threads: 8, batch_size: MIB, prefetch_all: true },
        },
      }),
    )
    const daemon = await lab.start({
      name,
      command: join(bin, 'nydusd'),
      args: [
        '--config',
        config,
        '--mountpoint',
        mountpoint,
        '--bootstrap',
        bootstrap,
        '--log-level',
        'warn',
        '--rlimit-nofile',
        '0',
      ],
      ready: () => readFileSync('/proc/self/mounts', 'utf8').includes(` ${mountpoint} `),
    })
    try {
      await run('diff', ['--recursive', '--no-dereference', tree, mountpoint])
    } finally {
      await run('umount', ['-l', mountpoint])
      await daemon.stop()
      const said = `${daemon.stdout()}${daemon.stderr()}`
      for (const line of new Set(
        said
          .split('\n')
          .filter(text => /ERROR|WARN/.test(text))
          .slice(0, 5),
      ))
        console.log(`    ${line}`)
    }
  }

  const report = async (what: string, backend: Backend, only = images): Promise<void> => {
    for (const converted of only) {
      meter.reset()
      const begun = performance.now()
      await mount(backend, converted)
      const ms = Math.round(performance.now() - begun)
      const { rafs, blob } = converted
      console.log(`${what}, RAFS v${rafs}: same files in ${ms} ms, ${share(blob)}`)
    }
  }
  const share = ({ size }: Descriptor): string =>
    `${(meter.bodyBytes(isBlobGet) / size).toFixed(3)} times the blob from the registry`

  const registryBackend = (host: string, more: object = {}): Backend => ({
    type: 'registry',
    config: {
      scheme: 'http',
      host,
      repo: REPOSITORY,
      timeout: 10,
      connect_timeout: 5,
      retry_limit: 3,
      ...more,
    },
  })
  const asRegistry = async (): Promise<void> => {
    const peer = await newPeer()
    await report('registry', registryBackend(peer.mirror.address, { repo: `${UPSTREAM}/${REPOSITORY}` }))
  }
  const asMirror = async (): Promise<void> => {
    const peer = await newPeer()
    const host = `http://${peer.mirror.address}`
    const mirror = {
      host,
      headers: { 'X-Dragonfly-Registry': UPSTREAM },
      auth_through: true,
      ping_url: `${host}/healthz`,
    }
    // The registry itself is a closed port: whatever arrives came through the mirror.
    await report('registry with a mirror', registryBackend('127.0.0.1:1', { mirrors: [mirror] }))
  }
  const asProxy = async (): Promise<void> => {
    const port = await freePort()
    await newPeer(['--proxy-port', String(port)])
    const url = `http://127.0.0.1:${port}`
    const proxy = { url, ping_url: `${url}/healthz`, fallback: false, check_interval: 5 }
    await report('registry with a proxy', registryBackend(UPSTREAM, { proxy }))
  }
  const asHttpProxy = async (): Promise<void> => {
    const peer = await newPeer()
    const config = { addr: `http://${peer.mirror.address}`, path: `/blobs/${UPSTREAM}/${REPOSITORY}` }
    await report('http-proxy by TCP', { type: 'http-proxy', config })
  }
  const bySocketAndFile = async (): Promise<void> => {
    const peer = await newPeer()
    const door = ['--door-port', peer.mirror.address.slice('127.0.0.1:'.length)]
    for (const converted of images) {
      const reference = `${UPSTREAM}/${REPOSITORY}:v${converted.rafs}`
      const dirs = [
        join(lab.dir, `sockets-v${converted.rafs}`),
        join(lab.dir, `exported-v${converted.rafs}`),
      ] as const
      const sockets = await lab.start({
        name: `sockets-v${converted.rafs}`,
        command: process.execPath,
        args: [MAIN, 'nydus', 'socket', reference, '--dir', dirs[0], ...door],
        ready: daemon => daemon.stdout().includes('\n'),
      })
      const addr = sockets.stdout().trim().split(' ')[1]
      await report('http-proxy by a socket', { type: 'http-proxy', config: { addr, path: '/' } }, [converted])
      await runDarter('export', [reference, '--dir', dirs[1], ...door])
      await report('localfs, exported', { type: 'localfs', config: { dir: dirs[1] } }, [converted])
    }
  }
  const byTwoPeers = async (): Promise<void> => {
    const upstreams = [upstreamAt(meter.address)]
    const peers = await Promise.all(['a', 'b'].map(name => startPeer(lab, { name, upstreams, scheduler })))
    for (const converted of images) {
      meter.reset()
      const repo = `${UPSTREAM}/${REPOSITORY}`
      await Promise.all(
        peers.map(({ mirror }) => mount(registryBackend(mirror.address, { repo }), converted)),
      )
      console.log(
        `two at once with a peer each, RAFS v${converted.rafs}: same files, ${share(converted.blob)}`,
      )
    }
  }
  for (const step of [asRegistry, asMirror, asProxy, asHttpProxy, bySocketAndFile, byTwoPeers]) await step()
} finally {
  await lab.close()
}
