import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { startContainerd } from '../harness/clients/containerd.ts'
import { curl } from '../harness/clients/curl.ts'
import { startDocker } from '../harness/clients/docker.ts'
import { pullWithNode } from '../harness/clients/node.ts'
import { preparePodman } from '../harness/clients/podman.ts'
import { pullWithSkopeo, pushWithSkopeo } from '../harness/clients/skopeo.ts'
import { startUp, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import {
  ARCHITECTURE,
  buildImage,
  busyboxLayer,
  digestOf,
  type Image,
  noiseLayer,
} from '../harness/images.ts'
import type { Mirror } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
const OTHER = ARCHITECTURE === 'amd64' ? 'arm64' : 'amd64'

const needed = requirePrograms(
  [
    'docker-registry',
    'containerd',
    'ctr',
    'runc',
    'skopeo',
    'busybox',
    'podman',
    'dockerd',
    'docker',
    'curl',
  ],
  { root: true },
)

describe('real clients pull through one peer', needed, () => {
  const lab = useLab('clients')
  /** An OCI index of two platforms with gzip, zstd and bare layers. */
  let oci: Image
  /** The same as a Docker manifest list, gzip only: Docker 20.10 knows nothing else. */
  let docker: Image
  let registry: Registry
  let mirror: Mirror

  before(async () => {
    oci = buildImage(lab.makeDir('oci'), {
      format: 'oci',
      platforms: [
        {
          architecture: ARCHITECTURE,
          layers: [
            busyboxLayer('gzip'),
            noiseLayer('gzip', 3 * MIB + 17, 'gzip'),
            noiseLayer('zstd', 5 * MIB, 'zstd'),
            noiseLayer('bare', MIB, 'none'),
          ],
        },
        {
          architecture: OTHER,
          layers: [noiseLayer('gzip', 3 * MIB + 17, 'gzip'), noiseLayer('other', MIB, 'zstd')],
        },
      ],
    })
    docker = buildImage(lab.makeDir('docker-image'), {
      format: 'docker',
      platforms: [
        {
          architecture: ARCHITECTURE,
          layers: [busyboxLayer(), noiseLayer('one', 3 * MIB, 'gzip'), noiseLayer('two', 4 * MIB, 'stored')],
        },
        { architecture: OTHER, layers: [noiseLayer('other', MIB, 'gzip')] },
      ],
    })
    registry = await startRegistry(lab)
    await pushImage(registry.url, 'library/app', 'oci', oci)
    await pushImage(registry.url, 'library/app', 'docker', docker)
    // Docker says nothing of the upstream: the default one is docker.io.
    const upstreams = [`docker.io=${registry.url}`, upstreamAt(registry.address)]
    const peer = await startUp(lab, { name: 'up', upstreams })
    mirror = peer.mirror
  })

  test('containerd, by ctr with a hosts.toml, and by CRI; a container runs from what it pulled', async () => {
    const containerd = await startContainerd(lab, mirror)
    await containerd.pullByCtr('library/app', 'oci', oci)
    await containerd.pullByCri('library/app', 'docker', docker)
    assert.equal(await containerd.runByCtr('library/app', 'oci', ['/bin/echo', 'it runs']), 'it runs\n')
  })

  test('containerd, by digest', async () => {
    const containerd = await startContainerd(lab, mirror)
    await containerd.pullByCri('library/app', oci.top.digest, oci)
    await containerd.pullByCtr('library/app', docker.top.digest, docker)
  })

  test('docker, with a registry mirror, by tag and by digest; a container runs', async () => {
    const dockerd = await startDocker(lab, mirror)
    await dockerd.pull('library/app', 'docker', docker)
    await dockerd.pull('library/app', docker.top.digest, docker)
    assert.equal(await dockerd.run('library/app', 'docker', ['/bin/echo', 'it runs']), 'it runs\n')
  })

  test('podman, with a mirror in registries.conf, by tag and by digest', async () => {
    const podman = preparePodman(lab, mirror)
    await podman.pull('library/app', 'oci', oci)
    await podman.pull('library/app', docker.top.digest, docker)
  })

  test('skopeo, all platforms, by tag and by digest', async () => {
    await pullWithSkopeo(lab, mirror, 'library/app', 'oci', oci)
    await pullWithSkopeo(lab, mirror, 'library/app', docker.top.digest, docker)
  })

  test('curl, ranges of a layer', async () => {
    const [layer] = oci.blobs.filter(blob => blob.size > 4 * MIB)
    assert(layer)
    const bytes = readFileSync(join(oci.dir, 'blobs', 'sha256', layer.digest.slice(7)))
    const url = `http://${mirror.address}/v2/${mirror.prefix}library/app/blobs/${layer.digest}`
    const spans: [string, number, number][] = [
      ['0-0', 0, 1],
      ['100-299', 100, 300],
      [`${MIB - 1}-${2 * MIB}`, MIB - 1, 2 * MIB + 1],
      [`${layer.size - 5}-`, layer.size - 5, layer.size],
      ['-7', layer.size - 7, layer.size],
      [`1000-${layer.size + 1000}`, 1000, layer.size],
    ]
    for (const [range, from, to] of spans) {
      const part = await curl(url, ['--range', range])
      assert.equal(part.status, 206, range)
      assert.equal(part.headers.get('content-range'), `bytes ${from}-${to - 1}/${layer.size}`)
      assert.equal(digestOf(part.body), digestOf(bytes.subarray(from, to)), range)
    }
    const beyond = await curl(url, ['--range', `${layer.size}-`])
    assert.equal(beyond.status, 416)
    assert.equal(beyond.headers.get('content-range'), `bytes */${layer.size}`)
    const head = await curl(url, ['--head'])
    assert.equal(head.status, 200)
    assert.equal(head.headers.get('content-length'), String(layer.size))
    assert.equal(head.headers.get('docker-content-digest'), layer.digest)
  })

  test('a push by skopeo through the door arrives at the registry', async () => {
    await pushWithSkopeo(lab, mirror, 'pushed/app', 'new', oci)
    const pulled = await pullWithNode({ address: registry.address, prefix: '' }, 'pushed/app', 'new')
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(oci))
  })
})
