import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Lab, newerProgram, run } from '@darter/testing'
import { assertHasAll, digestsOfFiles, platformDigests } from '../expect.ts'
import { ARCHITECTURE, type Image } from '../images.ts'
import { type Login, type Mirror, UPSTREAM } from '../mirror.ts'
import { connectCri } from './cri.ts'

/** A containerd of its own, whose only way to {@link UPSTREAM} is the mirror. */
export interface Containerd {
  /** `ctr images pull`: resolves a tag or digest of the upstream through the mirror. */
  pullByCtr(
    repository: string,
    reference: string,
    image: Image,
    options?: { readonly login?: Login },
  ): Promise<void>
  /** A pull as the kubelet asks for it. */
  pullByCri(
    repository: string,
    reference: string,
    image: Image,
    options?: { readonly login?: Login },
  ): Promise<void>
  /** Runs a command in a container of a pulled image; returns what it printed. */
  runByCtr(repository: string, tag: string, command: readonly string[]): Promise<string>
}

/** How containerd 2.1 and later read a layer by several requests at once. */
export interface LayerFetch {
  /** Bytes of a layer that it takes from one request, `concurrent_layer_fetch_buffer`. */
  readonly buffer: number
  /** Requests at the same moment, `max_concurrent_downloads`. */
  readonly downloads: number
}

/** Where a containerd has its files. */
interface Places {
  readonly dir: string
  readonly socket: string
  readonly hosts: string
}

/** The configuration of containerd 1.6. */
function configOf16({ dir, socket, hosts }: Places): string {
  return `version = 2
root = "${join(dir, 'root')}"
state = "${join(dir, 'state')}"

[grpc]
  address = "${socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "${join(dir, 'opt')}"

[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${join(dir, 'cni-bin')}"
    conf_dir = "${join(dir, 'cni-conf')}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${hosts}"
`
}

/** The configuration of containerd 2.1; what it says of layers is what docs/clients/containerd.md says. */
function configOf21({ dir, socket, hosts }: Places, layers: LayerFetch): string {
  return `version = 3
root = "${join(dir, 'root')}"
state = "${join(dir, 'state')}"

[grpc]
  address = "${socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "${join(dir, 'opt')}"

[plugins."io.containerd.nri.v1.nri"]
  disable = true

[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dir = "${join(dir, 'cni-bin')}"
  conf_dir = "${join(dir, 'cni-conf')}"

[plugins."io.containerd.cri.v1.images".registry]
  config_path = "${hosts}"

[plugins."io.containerd.transfer.v1.local"]
  config_path = "${hosts}"
  max_concurrent_downloads = ${layers.downloads}
  concurrent_layer_fetch_buffer = ${layers.buffer}
`
}

let count = 0

/**
 * Starts containerd with root, state, socket and configuration below the lab: the system's, or with `layers` the newer
 * one of {@link newerProgram}.
 */
export async function startContainerd(
  lab: Lab,
  mirror: Mirror,
  options: { readonly layers?: LayerFetch } = {},
): Promise<Containerd> {
  const { layers } = options
  const name = `containerd-${++count}`
  const dir = lab.makeDir(name)
  const socket = join(dir, 'c.sock')
  const hosts = join(dir, 'hosts')
  mkdirSync(join(hosts, UPSTREAM), { recursive: true })
  // The server itself is a closed port: whatever arrives came through the mirror.
  writeFileSync(
    join(hosts, UPSTREAM, 'hosts.toml'),
    `server = "http://127.0.0.1:1"\n\n[host."http://${mirror.address}"]\n  capabilities = ["pull", "resolve"]\n`,
  )
  const config = join(dir, 'config.toml')
  const places = { dir, socket, hosts }
  writeFileSync(config, layers === undefined ? configOf16(places) : configOf21(places, layers))
  const [daemon, ctr] =
    layers === undefined ? ['containerd', 'ctr'] : [newerProgram('containerd'), newerProgram('ctr')]
  await lab.start({
    name,
    command: daemon,
    args: ['--config', config],
    ready: async () =>
      existsSync(socket) && (await run(ctr, ['-a', socket, 'version'], { codes: 'any' })).code === 0,
  })
  const content = join(dir, 'root', 'io.containerd.content.v1.content', 'blobs')
  const check = async (image: Image, namespace: string) => {
    const withIndex = image.manifests.length > 1
    const expected = platformDigests(image, ARCHITECTURE, withIndex)
    assertHasAll(await digestsOfFiles(content), expected, 'containerd, on disk')
    const listed = await run(ctr, ['-a', socket, '-n', namespace, 'content', 'ls', '-q'])
    const known = new Set(listed.stdout.toString('utf8').trim().split('\n'))
    assertHasAll(known, expected, `containerd, namespace ${namespace}`)
  }
  const reference = (repository: string, tagOrDigest: string) =>
    `${UPSTREAM}/${repository}${tagOrDigest.startsWith('sha256:') ? '@' : ':'}${tagOrDigest}`
  return {
    async pullByCtr(repository, tagOrDigest, image, options = {}) {
      const { login } = options
      await run(ctr, [
        '-a',
        socket,
        'images',
        'pull',
        '--hosts-dir',
        hosts,
        ...(login === undefined ? [] : ['--user', `${login.username}:${login.password}`]),
        reference(repository, tagOrDigest),
      ])
      await check(image, 'default')
    },
    async pullByCri(repository, tagOrDigest, image, options = {}) {
      const cri = connectCri(socket)
      try {
        await cri.pull(reference(repository, tagOrDigest), options.login)
      } finally {
        cri.close()
      }
      await check(image, 'k8s.io')
    },
    async runByCtr(repository, tag, command) {
      const ran = await run(ctr, [
        '-a',
        socket,
        'run',
        '--rm',
        reference(repository, tag),
        'darter-test',
        ...command,
      ])
      return ran.stdout.toString('utf8')
    },
  }
}
